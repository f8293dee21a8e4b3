//! The configured targets of sinks: `s3://bucket/key`, a path, `configmap://…`, a URL; and how they are opened.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use runtime::redact;
use serde::{Serialize, Serializer};

use super::{
    Fetched, Place, Served, Sink, SinkError, SinkErrorKind,
    config_map::ConfigMap,
    file::Directory,
    http_put::HttpPut,
    s3::{S3, S3Options},
};

/// A checked target. One that ends in `/` holds a set of files, any other exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `s3://bucket/key`: an object of S3 or of a compatible store.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key, or the prefix of keys.
        location: Location,
    },
    /// A path of this machine, also as `file:///path`.
    File {
        /// The directory.
        directory: PathBuf,
        /// The file in it.
        location: Location,
    },
    /// `configmap://namespace/name/key`; without a key, or with `/` behind the name, a set.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        location: Location,
    },
    /// `http://…` or `https://…`: PUT.
    Http {
        /// The URL.
        location: Location,
    },
    /// `serve:/path`: kept in memory and served over HTTP by this process.
    Serve {
        /// The path under which it is served.
        location: Location,
    },
}

/// The name of one file, or the prefix of the names of a set of files.
#[derive(Clone, PartialEq, Eq)]
pub struct Location(String);

/// A place that is read.
pub(crate) struct Source {
    place: Place,
    location: Location,
}

/// What is needed to open a sink besides its target.
#[derive(Clone)]
pub struct Connect {
    /// For S3 targets.
    pub s3: S3Options,
    /// For ConfigMap targets.
    pub kubernetes: Option<kube::Client>,
    /// Fields of every request to a PUT target, for instance `authorization`.
    pub headers: Vec<(String, String)>,
    /// For targets that are served by this process.
    pub served: Option<Arc<Served>>,
    /// The time limit of one request.
    pub timeout: Duration,
    /// Whether a manifest is kept beside a single file.
    pub manifest: bool,
}

/// The text is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid target: {why}")]
pub struct InvalidTarget {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Target {
    /// Whether it holds a set of files.
    pub fn is_set(&self) -> bool {
        self.location().is_set()
    }

    /// Opens it. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`SinkErrorKind::Refused`] if it cannot be used as configured.
    pub fn open(&self, connect: &Connect) -> Result<Sink, SinkError> {
        // Nobody else can write what this process serves, and a manifest would be served as well.
        let manifest = connect.manifest && self.is_outside();
        Ok(Sink::new(self.place(connect)?, self.location().clone(), manifest))
    }

    /// Opens it for reading.
    pub(crate) fn open_source(&self, connect: &Connect) -> Result<Source, SinkError> {
        Ok(Source { place: self.place(connect)?, location: self.location().clone() })
    }

    fn place(&self, connect: &Connect) -> Result<Place, SinkError> {
        Ok(match self {
            Self::S3 { bucket, .. } => Place::S3(Box::new(S3::open(bucket, &connect.s3, connect.timeout)?)),
            Self::File { directory, .. } => Place::Directory(Directory::new(directory.clone())),
            Self::ConfigMap { namespace, name, .. } => {
                let client = connect.kubernetes.clone();
                let client =
                    client.ok_or_else(|| SinkError::new(self, SinkErrorKind::Refused, "it needs Kubernetes"))?;
                Place::ConfigMap(Box::new(ConfigMap::new(client, namespace, name)))
            }
            Self::Http { .. } => Place::Http(HttpPut::open(self, &connect.headers, connect.timeout)?),
            Self::Serve { .. } => {
                let served = connect.served.clone();
                Place::Served(
                    served.ok_or_else(|| SinkError::new(self, SinkErrorKind::Refused, "it needs a listener"))?,
                )
            }
        })
    }

    /// The last part of its name; empty for a set.
    pub(crate) fn file_name(&self) -> String {
        self.location().label("")
    }

    /// The target of the file with this name, if this one holds a set.
    #[must_use]
    pub fn file(&self, name: &str) -> Self {
        let mut one = self.clone();
        let location = match &mut one {
            Self::S3 { location, .. }
            | Self::File { location, .. }
            | Self::ConfigMap { location, .. }
            | Self::Http { location }
            | Self::Serve { location } => location,
        };
        *location = Location(location.file(name));
        one
    }

    /// Whether it is outside of this process.
    pub fn is_outside(&self) -> bool {
        !matches!(self, Self::Serve { .. })
    }

    pub(crate) fn location(&self) -> &Location {
        match self {
            Self::S3 { location, .. }
            | Self::File { location, .. }
            | Self::ConfigMap { location, .. }
            | Self::Http { location }
            | Self::Serve { location } => location,
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        // The query may contain a signature.
        let told = || {
            redact::urls(if text.contains("://") { text.split(['?', '#']).next().unwrap_or_default() } else { text })
        };
        let invalid = |why: &str| InvalidTarget { text: told(), why: why.into() };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) =
                rest.split_once('/').ok_or_else(|| invalid("a key is missing, as in s3://bucket/key"))?;
            let key = key.trim_start_matches('/');
            if bucket.is_empty() {
                return Err(invalid("a bucket is missing, as in s3://bucket/key"));
            }
            object_store::path::Path::parse(key).map_err(|error| invalid(&error.to_string()))?;
            let location = Location(key.into());
            if !location.is_set() && key.is_empty() {
                return Err(invalid("a key is missing, as in s3://bucket/key"));
            }
            return Ok(Self::S3 { bucket: bucket.into(), location });
        }
        if let Some(rest) = text.strip_prefix("configmap://") {
            let mut parts = rest.splitn(3, '/');
            let (namespace, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let key = parts.next().unwrap_or_default();
            if namespace.is_empty() || name.is_empty() {
                return Err(invalid("write configmap://namespace/name/key"));
            }
            if !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
                return Err(invalid("a key of a ConfigMap has letters, digits, `-`, `_` and `.`"));
            }
            let (namespace, name, location) = (namespace.into(), name.into(), Location(key.into()));
            return Ok(Self::ConfigMap { namespace, name, location });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let url: reqwest::Url = text.parse().map_err(|error: _| invalid(&format!("{error}")))?;
            if url.query().is_some() || url.fragment().is_some() {
                return Err(invalid("a URL to write to has no query and no fragment"));
            }
            return Ok(Self::Http { location: Location(url.to_string()) });
        }
        if let Some(path) = text.strip_prefix("serve:") {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
            if !path.starts_with('/') || !path.bytes().all(good) {
                return Err(invalid("write serve:/path, of letters, digits, `-`, `_`, `.` and `/`"));
            }
            return Ok(Self::Serve { location: Location(path.into()) });
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() || path.contains("://") || path.contains('\0') {
            return Err(invalid(
                "write s3://bucket/key, a path, configmap://namespace/name/key, an http(s) URL, or serve:/path",
            ));
        }
        if path.ends_with('/') {
            return Ok(Self::File { directory: path.into(), location: Location(String::new()) });
        }
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| invalid("it has no file name; end it with `/` if it is a directory"))?;
        let parent = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        Ok(Self::File { directory, location: Location(name.into()) })
    }
}

impl Location {
    /// Whether it is one of several files.
    pub fn is_set(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// The name, within the place, of one file.
    pub(crate) fn file(&self, name: &str) -> String {
        if self.is_set() { format!("{}{name}", self.0) } else { self.0.clone() }
    }

    /// The name of a file in the manifest.
    pub(crate) fn label(&self, name: &str) -> String {
        if self.is_set() {
            return name.to_owned();
        }
        self.0.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// The name of the manifest. Its extension is none that a load balancer would read from a directory.
    pub(crate) fn manifest(&self) -> String {
        if self.is_set() { format!("{}{}", self.0, Self::manifest_of_set()) } else { format!("{}.manifest", self.0) }
    }

    pub(crate) fn manifest_of_set() -> &'static str {
        "fanfare.manifest"
    }
}

impl Source {
    /// The key of a file.
    pub(crate) fn file(&self, name: &str) -> String {
        self.location.file(name)
    }

    /// The key of the manifest.
    pub(crate) fn manifest(&self) -> String {
        self.location.manifest()
    }

    /// A file's name for logs and errors.
    pub(crate) fn shown(&self, key: &str) -> String {
        format!("{}{}", self.place, redact::urls(key))
    }

    /// Reads a file, unless it has this tag.
    pub(crate) async fn fetch(&self, key: &str, unless: Option<&str>) -> Result<Fetched, SinkError> {
        self.place.fetch(key, unless).await
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact::urls(&self.0), f)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::urls(&self.0))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, location } => write!(f, "s3://{bucket}/{location}"),
            Self::File { directory, location } => write!(f, "{}", directory.join(&location.0).display()),
            Self::ConfigMap { namespace, name, location } => write!(f, "configmap://{namespace}/{name}/{location}"),
            Self::Http { location } => location.fmt(f),
            Self::Serve { location } => write!(f, "serve:{location}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, String> {
        text.parse().map_err(|error: InvalidTarget| error.to_string())
    }

    #[test]
    fn a_target_is_shown_as_it_was_written() {
        for text in [
            "s3://bucket/edge.yml",
            "s3://bucket/a/b/",
            "s3://bucket/",
            "/etc/traefik/dynamic/edge.yml",
            "/etc/envoy/",
            "configmap://edge/backends/hosts",
            "configmap://edge/backends/",
            "https://store.example/edge.yml",
            "serve:/traefik.yml",
        ] {
            assert_eq!(parse(text).expect(text).to_string(), text);
        }
        let same = |a: &str, b: &str| assert_eq!(parse(a).expect(a), parse(b).expect(b));
        same("s3://bucket//edge.yml", "s3://bucket/edge.yml");
        same("file:///etc/edge.yml", "/etc/edge.yml");
        same("edge.yml", "./edge.yml");
        same("configmap://edge/backends", "configmap://edge/backends/");
    }

    #[test]
    fn a_target_that_ends_in_a_slash_holds_a_set() {
        let set = parse("s3://bucket/a/").expect("a prefix");
        assert!(set.is_set());
        assert_eq!(set.file("eds.json"), parse("s3://bucket/a/eds.json").expect("a key"));
        let one = parse("/etc/edge.yml").expect("a file");
        assert!(!one.is_set());
        assert_eq!(
            (one.location().file(""), one.location().manifest()),
            ("edge.yml".into(), "edge.yml.manifest".into())
        );
        assert_eq!(set.location().manifest(), "a/fanfare.manifest");
    }

    #[test]
    fn invalid_targets_are_explained() {
        for (text, why) in [
            ("", "write s3://"),
            ("s3://bucket", "a key is missing"),
            ("s3:///key", "a bucket is missing"),
            ("s3://bucket/a//b", "a//b"),
            ("configmap://edge", "configmap://namespace/name/key"),
            ("configmap://edge/name/a/b", "letters, digits"),
            ("http://", "http://"),
            ("https://host/x?y", "no query"),
            ("serve:x", "serve:/path"),
            ("ftp://host/x", "write s3://"),
            // Not advertised: no emulator has proved them.
            ("gs://bucket/key", "write s3://"),
            ("az://container/key", "write s3://"),
            ("..", "no file name"),
        ] {
            assert!(parse(text).is_err_and(|error| error.contains(why)), "{text}: {:?}", parse(text));
        }
    }
}
