//! Settings of stores that several roles have: how S3 is reached, and what goes with HTTP requests.

use std::path::PathBuf;

use super::{
    Entry, List, Setting, flag, group, key,
    values::{boolean, path, text},
};

/// The section of a role that has a store: [`under`] says which.
const STORE: &str = "";

/// A header field.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

group!(GROUP, "S3 and HTTP";
    S3_ENDPOINT: Setting<String> = flag("s3-endpoint").at(STORE, "s3.endpoint")
        .default("$AWS_ENDPOINT_URL, else Amazon's").one("URL", endpoint),
        "URL of an S3-compatible store, with http:// or https://";
    S3_REGION: Setting<String> = flag("s3-region").at(STORE, "s3.region").default("$AWS_REGION, else us-east-1")
        .one("NAME", text),
        "Region";
    S3_PATH_STYLE: Setting<bool> = flag("s3-path-style").at(STORE, "s3.path_style").default("true with an endpoint")
        .switch(boolean),
        "The bucket is part of the path, not of the host name";
    S3_CREATE_BUCKET: Setting<bool> = flag("s3-create-bucket").at(STORE, "s3.create_bucket").default("false")
        .switch(boolean),
        "Create a missing bucket";
    S3_CA_FILE: Setting<PathBuf> = flag("s3-ca-file").at(STORE, "s3.ca_file").one("PATH", path),
        "CA certificates (PEM) that the store is verified with, in addition to the system's";
    S3_ACCESS_KEY: Setting<String> = key(STORE, "s3.access_key").env(&["MINIO_ACCESS_KEY_ID"])
        .default("$AWS_ACCESS_KEY_ID, a web identity, the machine's role").one("TEXT", text),
        "Access key; no flag, because command lines are public";
    S3_SECRET_KEY: Setting<String> = key(STORE, "s3.secret_key").env(&["MINIO_SECRET_ACCESS_KEY"])
        .default("$AWS_SECRET_ACCESS_KEY").one("TEXT", text),
        "Its secret; never shown";
    HEADERS: List<Header> = key(STORE, "headers").many("NAME: VALUE", header),
        "Header fields of every request to a target that is a URL, for instance an authorization; never \
         shown";
);

/// The group in this section of the file.
pub(super) const fn under(section: &'static str) -> [Entry; GROUP.settings.len()] {
    let mut entries = [S3_ENDPOINT.entry; GROUP.settings.len()];
    let mut index = 0;
    while index < entries.len() {
        entries[index] = GROUP.settings[index].under(section);
        index += 1;
    }
    entries
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

fn header(text: &str) -> Result<Header, String> {
    let invalid = || "is not a header field: write `name: value`".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(invalid)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        return Err(invalid());
    }
    Ok(Header { name: name.to_ascii_lowercase(), value: value.trim().to_owned() })
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ***", self.name)
    }
}
