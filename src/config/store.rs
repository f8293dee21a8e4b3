//! The access to stores: the keys that exports and bridges have in common.

use export::sink::S3Options;
use runtime::config::Section;
use serde::{Serialize, Serializer};

use crate::settings::store::{self as settings, Header};

/// The access to a store. Secrets are not shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct StoreAccess {
    /// For S3 targets.
    pub(crate) s3: S3Options,
    /// For URL targets.
    #[serde(serialize_with = "names")]
    pub(crate) headers: Vec<Header>,
}

/// Reads `s3` and `headers`.
pub(super) fn read(section: &Section<'_>) -> StoreAccess {
    let s3 = section.section("s3");
    let (access, secret) = (settings::S3_ACCESS_KEY.read(&s3), settings::S3_SECRET_KEY.read(&s3));
    if access.is_some() != secret.is_some() {
        let (given, missing) = if access.is_some() {
            (settings::S3_ACCESS_KEY, "secret_key")
        } else {
            (settings::S3_SECRET_KEY, "access_key")
        };
        given.problem(&s3, format_args!("is given without {missing}"));
    }
    let options = S3Options {
        endpoint: settings::S3_ENDPOINT.read(&s3),
        region: settings::S3_REGION.read(&s3),
        path_style: settings::S3_PATH_STYLE.read(&s3),
        keys: access.zip(secret),
        create_bucket: settings::S3_CREATE_BUCKET.or(&s3, false),
        ca_file: settings::S3_CA_FILE.read(&s3),
    };
    s3.finish();
    StoreAccess { s3: options, headers: settings::HEADERS.read(section) }
}

fn names<S: Serializer>(headers: &[Header], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|header| &header.name))
}
