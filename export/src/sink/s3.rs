//! S3 and compatible stores.

use std::{fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Certificate, ClientOptions, Error, GetOptions, ObjectStore as _, ObjectStoreExt as _,
    PutMode, PutOptions, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
    signer::Signer as _,
};
use reqwest::Method;
use runtime::redact;
use serde::Serialize;

use super::{
    CONNECT_TIMEOUT, Condition, Document, Fetched, SinkError, SinkErrorKind,
    answers::Answers,
    coding::decoded,
    store::{MAX_BYTES, short},
};

/// The default region, which stores other than Amazon's ignore.
const DEFAULT_REGION: &str = "us-east-1";

/// How long the signed URL with which a bucket is made is valid.
const BUCKET_URL_VALIDITY: Duration = Duration::from_secs(60);

/// How S3 is reached. What is not set is taken from the environment, as by Amazon's tools: `AWS_ACCESS_KEY_ID`,
/// `AWS_REGION`, `AWS_ENDPOINT_URL`, a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`), the container's or machine's role.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct S3Options {
    /// The `http://` or `https://` address of a store other than Amazon's.
    #[serde(serialize_with = "without_user")]
    pub endpoint: Option<String>,
    /// The region; `us-east-1` by default.
    pub region: Option<String>,
    /// Whether the bucket is part of the path and not of the host name. By default it is where there is an endpoint.
    pub path_style: Option<bool>,
    /// Access key and secret key.
    #[serde(skip)]
    pub keys: Option<(String, String)>,
    /// Whether a missing bucket is made.
    pub create_bucket: bool,
    /// A file of certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A bucket.
pub(crate) struct S3 {
    store: AmazonS3,
    /// Records unsuccessful answers.
    answers: Answers,
    bucket: String,
    region: String,
    create: bool,
    /// For requests that the object store's client has no function for: making a bucket.
    client: reqwest::Client,
}

impl S3 {
    pub(super) fn open(bucket: &str, options: &S3Options, timeout: Duration) -> Result<Self, SinkError> {
        let place = format!("s3://{bucket}/");
        let refused = |what: String| SinkError::new(&place, SinkErrorKind::Refused, what);
        // The pipeline retries. Retries beneath it would hide errors and outlast deadlines.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let mut client = ClientOptions::new().with_timeout(timeout).with_connect_timeout(CONNECT_TIMEOUT);
        let mut plain = reqwest::Client::builder().timeout(timeout).connect_timeout(CONNECT_TIMEOUT);
        if let Some(path) = &options.ca_file {
            let unusable = |why: &dyn fmt::Display| {
                refused(format!("the certificates in {} cannot be used: {why}", path.display()))
            };
            let pem = runtime::files::read(path).map_err(|error| unusable(&error))?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))? {
                client = client.with_root_certificate(certificate);
            }
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))? {
                plain = plain.add_root_certificate(certificate);
            }
        }
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        let endpoint = options.endpoint.clone().or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
        let path_style = options.path_style.unwrap_or(endpoint.is_some());
        if let Some(endpoint) = &endpoint {
            let endpoint = endpoint.trim_end_matches('/');
            // The client takes the endpoint as it is, so the bucket's host name is made here.
            builder = builder.with_endpoint(match endpoint.split_once("://") {
                Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
                _ => endpoint.to_owned(),
            });
            client = client.with_allow_http(endpoint.starts_with("http://"));
        }
        builder = builder.with_virtual_hosted_style_request(!path_style);
        if let Some((access, secret)) = &options.keys {
            builder = builder.with_access_key_id(access).with_secret_access_key(secret);
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
        let region = region.unwrap_or_else(|| DEFAULT_REGION.into());
        let answers = Answers::default();
        let store =
            builder.with_region(&region).with_client_options(client).with_http_connector(answers.clone()).build();
        let store = store.map_err(|error| refused(with_causes(&error)))?;
        let client = plain.build().map_err(|error| refused(error.to_string()))?;
        Ok(Self { store, answers, bucket: bucket.into(), region, create: options.create_bucket, client })
    }

    pub(super) async fn fetch(&self, key: &str, unless: Option<&str>) -> Result<Fetched, SinkError> {
        self.answers.forget();
        let options = GetOptions { if_none_match: unless.map(str::to_owned), ..GetOptions::default() };
        let got = match self.store.get_opts(&self.path(key)?, options).await {
            Ok(got) => got,
            Err(Error::NotModified { .. }) => return Ok(Fetched::Same),
            // A missing bucket is reported when something is written.
            Err(Error::NotFound { .. }) => return Ok(Fetched::Missing),
            Err(error) => return Err(self.trouble(key, &error)),
        };
        if got.meta.size > MAX_BYTES {
            let what = format!("{key} has {} bytes, more than the {MAX_BYTES} that are read", got.meta.size);
            return Err(SinkError::new(self, SinkErrorKind::Refused, what));
        }
        let tag = got.meta.e_tag.clone();
        let said = |attribute: Attribute| got.attributes.get(&attribute).map(|value| value.to_string());
        let (media_type, coding) = (said(Attribute::ContentType), said(Attribute::ContentEncoding));
        let bytes: Bytes = got.bytes().await.map_err(|error| self.trouble(key, &error))?;
        Ok(match decoded(coding.as_deref(), bytes).await {
            Ok(bytes) => Fetched::Found { bytes, tag, media_type },
            Err(why) => Fetched::NoFile(why),
        })
    }

    pub(super) async fn store(
        &self,
        key: &str,
        document: &Document,
        condition: Condition<'_>,
    ) -> Result<Option<String>, SinkError> {
        match self.put(key, document, condition).await {
            Err(_) if self.create && self.lacks_bucket() => {
                self.make_bucket().await?;
                self.put(key, document, condition).await.map_err(|error| self.trouble(key, &error))
            }
            Err(_) if self.lacks_bucket() => {
                let what = "there is no such bucket: create it, or let Fanfare do so (--s3-create-bucket)";
                Err(SinkError::new(self, SinkErrorKind::Refused, what))
            }
            done => done.map_err(|error| self.trouble(key, &error)),
        }
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), SinkError> {
        self.answers.forget();
        match self.store.delete(&self.path(key)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.trouble(key, &error)),
        }
    }

    async fn put(&self, key: &str, document: &Document, condition: Condition<'_>) -> Result<Option<String>, Error> {
        self.answers.forget();
        let path = Path::parse(key)?;
        let mode = match condition {
            Condition::Nothing => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Is(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.into()), version: None }),
        };
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, document.content_type.into());
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        Ok(self.store.put_opts(&path, document.bytes.clone().into(), options).await?.e_tag)
    }

    /// Creates the bucket, if it still does not exist.
    async fn make_bucket(&self) -> Result<(), SinkError> {
        let link = self.store.signed_url(Method::PUT, &Path::ROOT, BUCKET_URL_VALIDITY).await;
        let link = link.map_err(|error| self.trouble("", &error))?;
        // Amazon's first region must not be named, and every other one must.
        let body = if self.region == DEFAULT_REGION {
            String::new()
        } else {
            format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{}\
                 </LocationConstraint></CreateBucketConfiguration>",
                self.region
            )
        };
        let sent = self.client.put(link).body(body).send().await;
        let unavailable = |error: reqwest::Error| {
            SinkError::new(self, SinkErrorKind::Unavailable, format!("making the bucket: {}", error.without_url()))
        };
        let answer = sent.map_err(unavailable)?;
        let status = answer.status();
        // 409: it exists and is ours or somebody else's, which the next write will show.
        if status.is_success() || status.as_u16() == 409 {
            tracing::info!(place = %self, "created the bucket");
            return Ok(());
        }
        let kind = match status.as_u16() {
            401 | 403 => SinkErrorKind::Denied,
            500.. => SinkErrorKind::Unavailable,
            _ => SinkErrorKind::Refused,
        };
        let said = answer.text().await.unwrap_or_default();
        Err(SinkError::new(
            self,
            kind,
            format!("the bucket does not exist and cannot be created: {status} {}", short(&said)),
        ))
    }

    fn path(&self, key: &str) -> Result<Path, SinkError> {
        Path::parse(key).map_err(|error| SinkError::new(self, SinkErrorKind::Refused, error.to_string()))
    }

    fn trouble(&self, key: &str, error: &Error) -> SinkError {
        let kind = match (error, self.answers.last()) {
            (Error::Precondition { .. } | Error::AlreadyExists { .. }, _) => SinkErrorKind::Conflict,
            (_, Some(answer)) => answer.error_kind(),
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => SinkErrorKind::Denied,
            (
                Error::NotFound { .. }
                | Error::NotSupported { .. }
                | Error::NotImplemented { .. }
                | Error::InvalidPath { .. }
                | Error::UnknownConfigurationKey { .. },
                _,
            ) => SinkErrorKind::Refused,
            _ => SinkErrorKind::Unavailable,
        };
        SinkError::new(&format!("{self}{key}"), kind, with_causes(error))
    }

    /// Whether the last write failed because the bucket is missing. The client reports that as a failed condition if the write had
    /// one.
    fn lacks_bucket(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.is_no_bucket())
    }
}

/// An error with its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    redact::urls(&short(&without_elapsed(&text)))
}

fn without_user<S: serde::Serializer>(endpoint: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    endpoint.as_deref().map(redact::urls).serialize(serializer)
}

/// An error without the duration of its request, so that an error that lasts has the same text each time and is logged once.
fn without_elapsed(text: &str) -> String {
    let took = |head: &str| head.starts_with(|c: char| c.is_ascii_digit());
    match text.split_once(" - ").and_then(|(head, why)| Some((head.rsplit_once(" in ")?, why))) {
        Some(((what, head), why)) if took(head) => format!("{what}: {why}"),
        _ => text.to_owned(),
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, path_style, keys, create_bucket, ca_file } = self;
        f.debug_struct("S3Options")
            .field("endpoint", &endpoint.as_deref().map(redact::urls))
            .field("region", region)
            .field("path_style", path_style)
            .field("keys", &keys.as_ref().map(|(access, _secret)| access))
            .field("create_bucket", create_bucket)
            .field("ca_file", ca_file)
            .finish()
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("bucket", &self.bucket).field("region", &self.region).finish_non_exhaustive()
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_lasts_is_the_same_text() {
        assert_eq!(
            without_elapsed("Error performing GET http://a/b in 1.9ms - HTTP error"),
            "Error performing GET http://a/b: HTTP error"
        );
        assert_eq!(without_elapsed("no such key - in vain"), "no such key - in vain");
    }
}
