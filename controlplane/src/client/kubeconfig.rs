//! Reads and merges one or several kubeconfigs, and returns the settings of one context.
//!
//! Not read by kube, which passes text unchecked to header fields, URLs and programs, shows the lines around a syntax error (tokens
//! included), accepts no list of files in which one is missing, and has a YAML library of its own. Its types are used.

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::header::{HeaderName, HeaderValue};
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use secrecy::ExposeSecret as _;
use serde::Deserialize as _;

use super::{
    access::Url,
    connect::basic,
    files::FileReader,
    plugin::Plugin,
    proxy::Environment,
    read::{ClientSettings, Identity, bearer},
    trust,
};

/// The characters that are percent-encoded in the name of a field: all but those of a token (RFC 9110, section 5.6.2), and `%`.
const FIELD_NAME: AsciiSet = NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The settings of a context, by default the current one, from these files together. In a list, missing files are ignored.
///
/// # Errors
/// A text that names the fault and its place.
pub(super) fn read(
    paths: &[PathBuf],
    list: bool,
    context: Option<&str>,
    environment: &Environment,
    files: &FileReader,
) -> Result<ClientSettings, String> {
    let mut merged = Kubeconfig::default();
    let mut found = false;
    for path in paths {
        let bytes = match files.read(path) {
            Err(error) if list && error.is_missing() => continue,
            read => read.map_err(|error| error.to_string())?,
        };
        found = true;
        let one = parse(&bytes, path).map_err(|why| if list { format!("{}: {why}", path.display()) } else { why })?;
        merged = merged.merge(one).map_err(|error| error.to_string())?;
    }
    if !found {
        return Err("none of these files exists".to_owned());
    }
    let (context, cluster, user) = select(&merged, context)?;
    settings(context, cluster, user, environment, files)
}

/// The contents of one file, with its relative paths resolved.
fn parse(bytes: &[u8], path: &Path) -> Result<Kubeconfig, String> {
    let text = decode(bytes).ok_or("it is not text in UTF-8 or UTF-16")?;
    let mut config = Kubeconfig::default();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let document = Option::<Kubeconfig>::deserialize(document).map_err(|error| {
            // Only the place is reported, because the library's text may show a token.
            let at = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
            format!("it is not valid YAML of a kubeconfig{}", at.unwrap_or_default())
        })?;
        config = config.merge(document.unwrap_or_default()).map_err(|error| error.to_string())?;
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    let absolute = |file: &mut Option<String>| {
        if let Some(relative) = file.as_ref().filter(|file| !file.is_empty() && Path::new(file).is_relative()) {
            *file = Some(directory.join(relative).to_string_lossy().into_owned());
        }
    };
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        absolute(&mut cluster.certificate_authority);
    }
    for user in config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        absolute(&mut user.client_certificate);
        absolute(&mut user.client_key);
        absolute(&mut user.token_file);
        if let Some(exec) = &mut user.exec
            && exec.command.as_ref().is_some_and(|command| command.contains('/'))
        {
            absolute(&mut exec.command);
        }
    }
    Ok(config)
}

/// UTF-8, or UTF-16 with a byte order mark, as some shells write it.
fn decode(bytes: &[u8]) -> Option<String> {
    let units = |one: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().copied().map(one).collect();
        rest.is_empty().then(|| String::from_utf16(&units).ok())?
    };
    match bytes {
        [0xFF, 0xFE, ..] => units(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => units(u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] | rest => String::from_utf8(rest.to_vec()).ok(),
    }
}

/// The context, its cluster and its user. A user that does not exist is anonymous, as for other clients.
fn select<'a>(
    config: &'a Kubeconfig,
    context: Option<&'a str>,
) -> Result<(&'a Context, &'a Cluster, Option<&'a AuthInfo>), String> {
    let current = config.current_context.as_deref().filter(|name| !name.is_empty());
    let name = context.or(current).ok_or("it has no current-context")?;
    let named = config.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.as_ref());
    let context = named.ok_or_else(|| format!("it has no context {name:?}"))?;
    let cluster = config.clusters.iter().find(|named| named.name == context.cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref());
    let cluster = cluster
        .ok_or_else(|| format!("its context {name:?} is in a cluster {:?}, which it does not have", context.cluster))?;
    let user = context.user.as_ref().and_then(|user| config.auth_infos.iter().find(|named| named.name == *user));
    Ok((context, cluster, user.and_then(|named| named.auth_info.as_ref())))
}

fn settings(
    context: &Context,
    cluster: &Cluster,
    user: Option<&AuthInfo>,
    environment: &Environment,
    files: &FileReader,
) -> Result<ClientSettings, String> {
    let server = cluster.server.as_deref().map(str::trim).filter(|server| !server.is_empty());
    let server = server.ok_or_else(|| format!("its cluster {:?} has no server", context.cluster))?;
    let server = Url::parse(server).map_err(|error| format!("server: {error}"))?;
    let proxy = environment.proxy(server.uri(), cluster.proxy_url.as_deref()).map_err(|error| error.to_string())?;
    let authority = pem(
        "certificate-authority",
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_deref(),
        files,
    )?;
    let roots = match &authority {
        Some(text) => Some(trust::parse("certificate-authority", text).map_err(|error| error.to_string())?),
        None => None,
    };
    let mut settings = ClientSettings {
        namespace: context.namespace.clone().filter(|namespace| !namespace.is_empty()),
        roots,
        insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
        server_name: cluster.tls_server_name.clone().filter(|name| !name.is_empty()),
        proxy,
        ..ClientSettings::new(server)
    };
    if let Some(user) = user {
        settings.identity = identity(user, files)?;
        settings.impersonation = impersonation(user)?;
        settings.authorization = authorization(user, files)?;
        if let (None, Some(exec)) = (&settings.authorization, &user.exec) {
            let authority = authority.map(|text| BASE64_STANDARD.encode(text));
            settings.plugin = Some(Plugin::new(exec, cluster, authority)?);
        }
    }
    Ok(settings)
}

/// The user's client certificate.
fn identity(user: &AuthInfo, files: &FileReader) -> Result<Option<Identity>, String> {
    let key = user.client_key_data.as_ref().map(|key| key.expose_secret());
    let certificate = user.client_certificate_data.as_deref();
    let certificate = pem("client-certificate", certificate, user.client_certificate.as_deref(), files)?;
    match (certificate, pem("client-key", key, user.client_key.as_deref(), files)?) {
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err("client-certificate: there is no client-key".to_owned()),
        (None, Some(_)) => Err("client-key: there is no client-certificate".to_owned()),
    }
}

/// The user's field `Authorization`. A token file takes precedence over a token while it can be read, as in client-go.
fn authorization(user: &AuthInfo, files: &FileReader) -> Result<Option<HeaderValue>, String> {
    if let Some(provider) = &user.auth_provider {
        let token = provider.config.get("id-token").filter(|_| provider.name == "oidc");
        let token = token.ok_or_else(|| {
            format!("auth-provider {:?} is not supported: use a credential plugin (exec) or a token", provider.name)
        })?;
        return bearer(token).map(Some).map_err(|error| format!("id-token: {error}"));
    }
    if let (Some(user), Some(password)) = (&user.username, &user.password) {
        return Ok(Some(basic(user, password.expose_secret())));
    }
    let token = user.token.as_ref().map(|token| token.expose_secret()).filter(|token| !token.trim().is_empty());
    let file = user.token_file.as_deref().filter(|file| !file.is_empty());
    let in_file = file.map(|file| files.token(Path::new(file)));
    match (in_file, token) {
        (Some(Ok(token)), _) => bearer(token.expose()).map(Some).map_err(|error| format!("tokenFile: {error}")),
        (_, Some(token)) => bearer(token).map(Some).map_err(|error| format!("token: {error}")),
        (Some(Err(error)), None) => Err(format!("tokenFile: {error}")),
        (None, None) => Ok(None),
    }
}

/// The header fields of impersonation.
fn impersonation(user: &AuthInfo) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut fields = Vec::new();
    let mut add = |key: &str, name: String, value: &str| -> Result<(), String> {
        let cannot = |_| format!("{key}: {value:?} cannot be sent in a header field");
        let value = HeaderValue::from_str(value).map_err(|_| cannot(()))?;
        let name = HeaderName::try_from(name).map_err(|_| format!("{key} has a key that cannot be sent"))?;
        fields.push((name, value));
        Ok(())
    };
    if let Some(name) = &user.impersonate {
        add("as", "impersonate-user".to_owned(), name)?;
    }
    if let Some(uid) = &user.impersonate_uid {
        add("as-uid", "impersonate-uid".to_owned(), uid)?;
    }
    for group in user.impersonate_groups.iter().flatten() {
        add("as-groups", "impersonate-group".to_owned(), group)?;
    }
    let mut extras: Vec<_> = user.impersonate_user_extra.iter().flatten().collect();
    extras.sort();
    for (key, values) in extras {
        let name = format!("impersonate-extra-{}", percent_encode(key.as_bytes(), &FIELD_NAME));
        for value in values {
            add("as-user-extra", name.clone(), value)?;
        }
    }
    Ok(fields)
}

/// PEM text: from the kubeconfig itself, in base64, or else from a file.
fn pem(key: &str, data: Option<&str>, file: Option<&str>, files: &FileReader) -> Result<Option<Vec<u8>>, String> {
    let data = data.filter(|data| !data.trim().is_empty());
    let file = file.filter(|file| !file.is_empty());
    match (data, file) {
        (Some(data), _) => {
            let data: String = data.split_ascii_whitespace().collect();
            let decoded = BASE64_STANDARD.decode(data);
            // The library's error is dropped, because it would reveal a byte of a key.
            decoded.map(Some).map_err(|_| format!("{key}-data is not base64"))
        }
        (None, Some(file)) => files.read(Path::new(file)).map(Some).map_err(|error| format!("{key}: {error}")),
        (None, None) => Ok(None),
    }
}
