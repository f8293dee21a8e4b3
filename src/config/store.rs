//! How stores are reached: the keys that exports and bridges have in common.

use export::sink::S3Options;
use runtime::config::Section;
use serde::{Serialize, Serializer};

use super::values::{boolean, path, text, texts};

/// How a store is reached. Secrets are not shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Access {
    /// For places that are S3.
    pub(crate) s3: S3Options,
    /// For places that are URLs.
    #[serde(serialize_with = "names")]
    pub(crate) headers: Vec<Header>,
}

/// A header field.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Reads `s3` and `headers`.
pub(super) fn read(section: &Section<'_>) -> Access {
    let s3 = section.section("s3");
    let (access, secret) = (s3.parse_with("access_key", text), s3.parse_with("secret_key", text));
    if access.is_some() != secret.is_some() {
        let (given, missing) =
            if access.is_some() { ("access_key", "secret_key") } else { ("secret_key", "access_key") };
        s3.problem(given, format_args!("is given without {missing}"));
    }
    let options = S3Options {
        endpoint: s3.parse_with("endpoint", endpoint),
        region: s3.parse_with("region", text),
        path_style: s3.parse_with("path_style", boolean),
        keys: access.zip(secret),
        create_bucket: s3.or_default_with("create_bucket", false, boolean),
        ca_file: s3.parse_with("ca_file", path),
    };
    s3.finish();
    let headers = texts(section, "headers").iter().filter_map(|node| node.parse_with(header)).collect();
    Access { s3: options, headers }
}

fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host.map(|host| host.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("{text:?} is not the address of a store: use for instance https://minio.example:9000")),
    }
}

fn header(text: &str) -> Result<Header, &'static str> {
    let (name, value) = text.split_once(':').ok_or("is not a header field: write `name: value`")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        return Err("is not a header field: write `name: value`");
    }
    Ok(Header { name: name.to_ascii_lowercase(), value: value.trim().to_owned() })
}

fn names<S: Serializer>(headers: &[Header], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|header| &header.name))
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ***", self.name)
    }
}
