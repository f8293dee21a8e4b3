//! The operations of all kinds of places: read a file, write it as a whole under a condition, remove it.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    Condition, Document, Fetched, Served, SinkError, config_map::ConfigMap, file::Directory, http_put::HttpPut, s3::S3,
};

/// A place that holds files by name.
#[derive(Debug)]
pub(crate) enum Place {
    S3(Box<S3>),
    Directory(Directory),
    ConfigMap(Box<ConfigMap>),
    Http(HttpPut),
    Served(Arc<Served>),
}

impl Place {
    /// Reads a file, unless it has this tag.
    pub(crate) async fn fetch(&self, name: &str, unless: Option<&str>) -> Result<Fetched, SinkError> {
        match self {
            Self::S3(s3) => s3.fetch(name, unless).await,
            Self::Directory(directory) => directory.fetch(name, unless).await,
            Self::ConfigMap(map) => map.fetch(name, unless).await,
            Self::Http(http) => http.fetch(name, unless).await,
            Self::Served(served) => Ok(served.fetch(name)),
        }
    }

    /// Writes a file whole, and returns its new tag. A condition that does not hold is [`SinkErrorKind::Conflict`].
    ///
    /// [`SinkErrorKind::Conflict`]: super::SinkErrorKind::Conflict
    pub(super) async fn store(
        &self,
        name: &str,
        document: &Document,
        condition: Condition<'_>,
        until: Option<Instant>,
    ) -> Result<Option<String>, SinkError> {
        match self {
            Self::S3(s3) => s3.store(name, document, condition).await,
            Self::Directory(directory) => directory.store(name, document.bytes.clone(), until).await,
            Self::ConfigMap(map) => map.store(name, document, condition).await,
            Self::Http(http) => http.store(name, document, condition).await,
            Self::Served(served) => {
                served.store(name, document.clone());
                Ok(None)
            }
        }
    }

    /// Removes a file, which need not exist.
    pub(super) async fn remove(&self, name: &str) -> Result<(), SinkError> {
        match self {
            Self::S3(s3) => s3.remove(name).await,
            Self::Directory(directory) => directory.remove(name).await,
            Self::ConfigMap(map) => map.remove(name).await,
            Self::Http(http) => http.remove(name).await,
            Self::Served(served) => {
                served.remove(name);
                Ok(())
            }
        }
    }

    /// Whether this kind of place may honour conditions. Only a write shows whether a store does.
    pub(super) fn knows_conditions(&self) -> bool {
        match self {
            Self::S3(_) | Self::ConfigMap(_) | Self::Http(_) => true,
            Self::Directory(_) | Self::Served(_) => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(s3) => s3.fmt(f),
            Self::Directory(directory) => directory.fmt(f),
            Self::ConfigMap(map) => map.fmt(f),
            Self::Http(http) => http.fmt(f),
            Self::Served(served) => served.fmt(f),
        }
    }
}
