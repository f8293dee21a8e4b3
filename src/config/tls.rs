//! Reads TLS settings: those of listeners, and those of routes for their endpoints.

use std::{path::PathBuf, sync::Arc};

use proxy::config::{TlsTo, UpstreamTls};
use runtime::{
    config::{Node, Section},
    tls::{CertificateFiles, ClientAuth, ClientSettings, Protocol, Roots, ServerSettings},
};
use snapshot::Scheme;

use super::Target;
use crate::settings::{
    Setting,
    broadcast::{
        tls::{TLS_CERT, TLS_CLIENT_AUTH, TLS_CLIENT_CA, TLS_KEY, TLS_MIN_VERSION},
        upstream,
    },
    process::{METRICS_TLS_CERT, METRICS_TLS_KEY},
};

/// A placeholder: the data plane sets the protocols of the listener or the route.
const PROTOCOLS: [Protocol; 1] = [Protocol::Http1];

/// Reads `tls` of a listener, if it is there.
pub(super) fn of_listener(listener: &Section<'_>) -> Option<ServerSettings> {
    let section = listener.optional_section("tls")?;
    let nodes = section.list("certificates");
    if nodes.is_empty() {
        section.problem("certificates", "is missing: name a certificate (cert) and its private key (key)");
    }
    let settings = ServerSettings {
        certificates: nodes.iter().filter_map(certificate).collect(),
        client_ca: TLS_CLIENT_CA.read(&section),
        client_auth: TLS_CLIENT_AUTH.or(&section, ClientAuth::default()),
        min_version: TLS_MIN_VERSION.or(&section, Default::default()),
        protocols: PROTOCOLS.to_vec(),
    };
    // Without client_ca the listener would not request certificates, although they are configured as required.
    if TLS_CLIENT_AUTH.is_given(&section) && !TLS_CLIENT_CA.is_given(&section) {
        TLS_CLIENT_AUTH.problem(&section, "needs client_ca, with which certificates of clients are verified");
    }
    section.finish();
    Some(settings)
}

fn certificate(node: &Node<'_>) -> Option<CertificateFiles> {
    let section = node.section();
    let (cert, key) = (TLS_CERT.required(&section), TLS_KEY.required(&section));
    section.finish();
    Some(CertificateFiles { cert: cert?, key: key? })
}

/// Reads `tls` of the admin listener, if it is there.
pub(super) fn of_admin(admin: &Section<'_>) -> Option<ServerSettings> {
    let section = admin.optional_section("tls")?;
    let (cert, key) = (METRICS_TLS_CERT.required(&section), METRICS_TLS_KEY.required(&section));
    section.finish();
    Some(of_pair(CertificateFiles { cert: cert?, key: key? }))
}

/// TLS of a listener with a single certificate.
pub(super) fn of_pair(files: CertificateFiles) -> ServerSettings {
    ServerSettings {
        certificates: vec![files],
        client_ca: None,
        client_auth: ClientAuth::default(),
        min_version: Default::default(),
        protocols: PROTOCOLS.to_vec(),
    }
}

/// Reads `tls` of a route's endpoints, if it is there.
pub(super) fn of_endpoints(to: &Section<'_>, target: Option<&Target>) -> Option<Arc<UpstreamTls>> {
    let section = to.optional_section("tls")?;
    let tls = UpstreamTls {
        to: match upstream::UPSTREAM_TLS.read(&section) {
            None => TlsTo::Others,
            Some(true) => TlsTo::All,
            Some(false) => TlsTo::None,
        },
        server_name: upstream::UPSTREAM_SERVER_NAME.read(&section),
        settings: ClientSettings {
            roots: roots(&section),
            sans: upstream::UPSTREAM_SAN.read(&section),
            certificate: pair(&section, &upstream::UPSTREAM_CERT, &upstream::UPSTREAM_KEY),
            protocols: PROTOCOLS.to_vec(),
        },
    };
    if tls.settings.roots == Roots::Insecure && !tls.settings.sans.is_empty() {
        upstream::UPSTREAM_SAN.problem(&section, "has no effect with insecure: leave one of them out");
    }
    if let Some(contradiction) = contradiction(tls.to, target) {
        upstream::UPSTREAM_TLS.problem(&section, contradiction);
    }
    section.finish();
    Some(Arc::new(tls))
}

/// The contradiction between the setting and an endpoint of a fixed list, if there is one.
fn contradiction(to: TlsTo, target: Option<&Target>) -> Option<String> {
    let Some(Target::Endpoints(endpoints)) = target else { return None };
    let (refused, is) = match to {
        TlsTo::Others => return None,
        TlsTo::All => (Scheme::Http, "is true"),
        TlsTo::None => (Scheme::Https, "is false"),
    };
    let endpoint = endpoints.iter().find(|endpoint| endpoint.scheme == Some(refused))?;
    Some(format!("{is}, but an endpoint is {endpoint}: change one of them"))
}

fn roots(section: &Section<'_>) -> Roots {
    let ca = upstream::UPSTREAM_CA.read(section);
    match (upstream::UPSTREAM_INSECURE.or(section, false), ca) {
        (true, Some(_)) => {
            upstream::UPSTREAM_CA.problem(section, "has no effect with insecure: leave one of them out");
            Roots::Insecure
        }
        (true, None) => Roots::Insecure,
        (false, Some(file)) => Roots::File(file),
        (false, None) => Roots::System,
    }
}

/// A certificate with its key; it is a problem if only one is given.
pub(super) fn pair(section: &Section<'_>, cert: &Setting<PathBuf>, key: &Setting<PathBuf>) -> Option<CertificateFiles> {
    let (certificate, private) = (cert.read(section), key.read(section));
    match (cert.is_given(section), key.is_given(section)) {
        (true, false) => key.problem(section, format_args!("is missing beside {}", cert.key)),
        (false, true) => cert.problem(section, format_args!("is missing beside {}", key.key)),
        _ => {}
    }
    Some(CertificateFiles { cert: certificate?, key: private? })
}

#[cfg(test)]
mod tests {
    use runtime::tls::{MinVersion, Roots};

    use super::*;
    use crate::{cli::Task, config::Config};

    fn from_flags(flags: &[&str]) -> Result<Config, String> {
        let arguments = ["fanfare", "broadcast"].iter().chain(flags);
        let Ok(Task::Serve(flags)) = crate::cli::parse_with(arguments.copied(), &Default::default()) else {
            panic!("{flags:?}")
        };
        flags.config().map_err(|problems| problems.to_string())
    }

    fn from_file(text: &str) -> Result<Config, String> {
        Config::parse(text.as_bytes()).map_err(|problems| problems.to_string())
    }

    fn files(cert: &str, key: &str) -> CertificateFiles {
        CertificateFiles { cert: cert.into(), key: key.into() }
    }

    #[test]
    fn pairs_of_flags_are_the_certificates_of_the_file_in_order() {
        let flags = [
            "--service=shop/cache",
            "--tls-cert=/a.crt",
            "--tls-cert=/b.crt",
            "--tls-key=/a.key",
            "--tls-key=/b.key",
            "--tls-client-ca=/ca",
            "--tls-client-auth=request",
            "--tls-min-version=1.3",
            "--metrics-tls-cert=/m.crt",
            "--metrics-tls-key=/m.key",
            "--interface=127.0.0.1:0",
        ];
        let config = from_flags(&flags).expect("it is valid");
        let tls = config.proxy.listeners[0].tls.as_ref().expect("it speaks TLS");
        assert_eq!(tls.certificates, [files("/a.crt", "/a.key"), files("/b.crt", "/b.key")]);
        assert_eq!((tls.client_auth, tls.min_version), (ClientAuth::Request, MinVersion::Tls13));
        assert_eq!(config.admin_tls.as_ref().expect("so does this").certificates, [files("/m.crt", "/m.key")]);
        let file = "
admin: {listen: 0.0.0.0:8081, tls: {cert: /m.crt, key: /m.key}}
broadcast:
  - listen: 127.0.0.1:0
    tls:
      certificates: [{cert: /a.crt, key: /a.key}, {cert: /b.crt, key: /b.key}]
      client_ca: /ca
      client_auth: request
      min_version: 1.3
    routes: [{to: {service: shop/cache}}]
";
        assert_eq!(from_file(file), Ok(config));
    }

    #[test]
    fn endpoints_are_reached_by_tls_where_anything_is_configured_about_it() {
        let upstream = |more: &str| {
            let text =
                format!("broadcast: [{{listen: '127.0.0.1:0', routes: [{{to: {{service: shop/cache{more}}}}}]}}]");
            from_file(&text).map(|config| config.proxy.listeners[0].routes[0].policy.tls.clone())
        };
        assert_eq!(upstream(""), Ok(None));
        for (text, to) in [("true", TlsTo::All), ("false", TlsTo::None)] {
            let tls = upstream(&format!(", tls: {{enabled: {text}, ca: /x}}")).expect("it is valid");
            assert_eq!(tls.expect("it is there").to, to);
        }
        let tls = upstream(", tls: {}").expect("it is valid").expect("it is there");
        assert_eq!((tls.to, &tls.settings.roots, &tls.server_name), (TlsTo::Others, &Roots::System, &None));
        let text = ", tls: {ca: /ca, server_name: '{pod}.x', san: [spiffe://a/b, c.d], cert: /c, key: /k}";
        let tls = upstream(text).expect("it is valid").expect("it is there");
        assert_eq!(tls.settings.roots, Roots::File("/ca".into()));
        assert_eq!(tls.settings.certificate, Some(files("/c", "/k")));
        assert_eq!(tls.settings.sans.iter().map(ToString::to_string).collect::<Vec<_>>(), ["spiffe://a/b", "c.d"]);
        let flags = ["--service=shop/cache", "--upstream-ca=/ca", "--upstream-server-name={pod}.x"];
        let more = ["--upstream-san=spiffe://a/b", "--upstream-san=c.d", "--upstream-cert=/c", "--upstream-key=/k"];
        let config = from_flags(&[&flags[..], &more].concat()).expect("it is valid");
        assert_eq!(config.proxy.listeners[0].routes[0].policy.tls.as_ref(), Some(&tls));
    }

    #[test]
    fn invalid_settings_are_reported_by_flag_or_path() {
        for (flags, problem) in [
            (&["--tls-cert=/c"][..], "--tls-key: is missing"),
            (&["--tls-key=/k"], "--tls-cert: is missing"),
            (&["--tls-cert=/a", "--tls-key=/b", "--tls-cert=/c"], "--tls-key: is missing"),
            (&["--tls-min-version=1.3"], "--tls-cert: is missing: name a certificate"),
            (&["--tls-cert=/c", "--tls-key=/k", "--tls-min-version=1.1"], "--tls-min-version: \"1.1\" is not"),
            (&["--tls-cert=/c", "--tls-key=/k", "--tls-client-auth=request"], "--tls-client-auth: needs client_ca"),
            (&["--tls-cert=/c", "--tls-key=/k", "--tls-client-auth=require"], "--tls-client-auth: needs client_ca"),
            (&["--proxy-protocol=accept"], "--proxy-protocol: no client may send PROXY headers"),
            (&["--proxy-protocol=require"], "--proxy-protocol: no client may send PROXY headers"),
            (&["--metrics-tls-cert=/c"], "--metrics-tls-key: is missing"),
            (&["--upstream-cert=/c"], "--upstream-key: is missing beside cert"),
            (&["--upstream-key=/c"], "--upstream-cert: is missing beside key"),
            (&["--upstream-insecure", "--upstream-ca=/c"], "--upstream-ca: has no effect with insecure"),
            (&["--upstream-insecure", "--upstream-san=a"], "--upstream-san: has no effect with insecure"),
            (&["--upstream-server-name={node}"], "--upstream-server-name: there is no placeholder"),
            (&["--endpoints=http://a:1", "--upstream-tls"], "--upstream-tls: is true, but an endpoint is http://a:1"),
            (
                &["--endpoints=https://a:1", "--upstream-tls=false"],
                "--upstream-tls: is false, but an endpoint is https://a:1",
            ),
            (&["--endpoints=https://a:1/x"], "--endpoints: \"https://a:1/x\": nothing may follow the port"),
        ] {
            let source: &[&str] = if flags[0].starts_with("--endpoints") { &[] } else { &["--service=a/b"] };
            let problems = from_flags(&[source, flags].concat()).expect_err(problem);
            assert!(problems.contains(problem) && !problems.contains("broadcast[0]"), "{flags:?}: {problems}");
        }
    }

    #[test]
    fn endpoints_that_are_not_verified_are_warned_about() {
        let config = from_flags(&["--service=a/b", "--upstream-insecure"]).expect("it is valid");
        let warnings = config.warnings().to_string();
        assert!(warnings.starts_with("broadcast[0].routes[0].to.tls.insecure: no certificate"), "{warnings}");
    }
}
