//! Sinks: places that hold files for load balancers. Each file is written as a whole or not at all, and only when it has changed.
//!
//! ```text
//! Documents -> Sink::put -> look at what is there -> manifest -> what changed -> what is gone
//! ```
//!
//! The steps are the same for all places (`put`); only `Place` differs.

mod address;
mod answers;
mod coding;
mod config_map;
mod file;
mod http_put;
mod manifest;
mod place;
mod put;
mod s3;
mod served;
mod store;
mod target;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

pub(crate) use address::PLACEHOLDER_ADDRESS;
use bytes::Bytes;
pub use manifest::{Manifest, SCHEMA, Term, sha256};
use place::Place;
use runtime::redact;
pub use s3::S3Options;
pub use served::{MAX_WAIT, Served, ServedRequest, ServedResponse};
use store::Condition;
pub(crate) use store::Fetched;
pub(crate) use target::Source;
pub use target::{Connect, InvalidTarget, Location, Target};

/// One file that a sink is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name relative to the sink; empty where the sink holds one file and names it itself.
    pub name: String,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: Bytes,
}

/// The identity of a writer. It is part of the manifest, so that other writers are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The kube cluster of the endpoints. A manifest of another one is never overwritten.
    pub cluster: Arc<str>,
    /// Identifies this process among all writers.
    pub id: Arc<str>,
    /// The term in which it leads; none without leader election.
    pub term: Option<Term>,
}

/// What one [`Sink::put`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Files that were written because their content differed.
    pub written: usize,
    /// Files that had this content already.
    pub unchanged: usize,
    /// Files of ours that were removed because they are no longer wanted.
    pub removed: usize,
    /// Writes that had to be repeated because another writer had written meanwhile.
    pub conflicts: usize,
}

/// Why a place could not be updated. Each of its files is still whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct SinkError {
    /// The sink.
    pub place: String,
    /// The kind of error.
    pub kind: SinkErrorKind,
    /// What happened, and what to do about it.
    pub what: String,
}

/// The kinds of errors. All are retried, except for [`SinkErrorKind::Foreign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkErrorKind {
    /// The place cannot be reached, is too slow, or fails.
    Unavailable,
    /// The place does not permit this.
    Denied,
    /// The place refuses this: too large, malformed, or not there.
    Refused,
    /// Others keep writing at the same time.
    Conflict,
    /// The place belongs to another writer now. Nothing is written until this process leads a later term or is restarted.
    Foreign,
}

/// A place, and what is known about its content. It has exactly one user.
#[derive(Debug)]
pub struct Sink {
    place: Place,
    location: Location,
    /// Whether a manifest is kept. A set of files always has one, which records the files that Fanfare wrote.
    manifest: bool,
    /// The known files, by name within the place.
    there: BTreeMap<String, FileState>,
    /// The manifest of the place, once it was read.
    seen: Option<SeenManifest>,
    /// The writer for which the place was taken over, and the accepted manifest of that time, or the one written since. Any other
    /// manifest of another writer means that the place belongs to that writer.
    taken: Option<(Writer, Option<Manifest>)>,
    /// The hashes of the files that this process wrote, by name, for places that cannot be read.
    written: BTreeMap<String, String>,
    /// Why this process has stopped writing here.
    stopped: Option<SinkError>,
    conditions: Conditions,
}

/// What is known about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum FileState {
    /// It does not exist.
    Missing,
    /// It exists.
    Found {
        /// The SHA-256 of its bytes, in hexadecimal.
        sha256: String,
        /// The tag that a condition names.
        tag: Option<String>,
    },
    /// It cannot be read, and may exist.
    Unreadable,
}

/// A manifest that was read.
#[derive(Clone, Debug)]
struct SeenManifest {
    /// `None` where it does not exist or cannot be read.
    manifest: Option<Manifest>,
    there: FileState,
}

/// Whether the place honours conditions on writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conditions {
    /// Not tried yet.
    Unknown,
    /// It does.
    Honoured,
    /// It does not, so that writes are not fenced.
    Ignored,
}

/// The time limit of a connection attempt to a store.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// === impl SinkError ===

impl SinkError {
    pub(crate) fn new(place: &impl fmt::Display, kind: SinkErrorKind, what: impl Into<String>) -> Self {
        // A URL may have a password in it.
        Self { place: redact::urls(&place.to_string()), kind, what: redact::urls(&what.into()) }
    }
}

// === impl SinkErrorKind ===

impl SinkErrorKind {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Foreign => "foreign",
        }
    }

    /// Whether the error may pass within a minute, so that a single write is retried.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Unavailable | Self::Conflict)
    }
}
