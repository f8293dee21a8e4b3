//! Sinks: places that hold files for load balancers. Each file is put as a whole or not at all, and only when it changed.
//!
//! ```text
//! Documents -> Sink::put -> look at what is there -> manifest -> what changed -> what is gone
//! ```
//!
//! The order of things is the same for all places (`put`), what differs is behind `Place`.

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

pub(crate) use address::NOBODY;
use bytes::Bytes;
pub use manifest::{Manifest, SCHEMA, Term, sha256};
use place::Place;
use runtime::redact;
pub use s3::S3Options;
pub use served::{Answer, MAX_WAIT, Question, Served};
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
    /// What is in it.
    pub bytes: Bytes,
}

/// Who writes: goes into the manifest, where there is one, and decides who is a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Which kube cluster the endpoints are of. A manifest that names another one is never overwritten.
    pub cluster: Arc<str>,
    /// This process among all that might write there.
    pub id: Arc<str>,
    /// The term it leads for, where leaders are elected.
    pub term: Option<Term>,
}

/// What one [`Sink::put`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Files that were written because their bytes differ from what was there.
    pub written: usize,
    /// Files that hold these bytes already.
    pub unchanged: usize,
    /// Own files that are no longer wanted and were removed.
    pub removed: usize,
    /// Writes that had to be repeated because somebody else had written meanwhile.
    pub conflicts: usize,
}

/// Why the place does not hold what it should. What was there before is still there, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct SinkError {
    /// The sink.
    pub place: String,
    /// What kind of trouble it is.
    pub kind: Trouble,
    /// What happened, and what to do about it.
    pub what: String,
}

/// Kinds of trouble. All are tried again, except for [`Trouble::Foreign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It cannot be reached, is too slow, or has a fault of its own.
    Unavailable,
    /// It does not permit this.
    Denied,
    /// It will not take this: too large, malformed, not there.
    Refused,
    /// Others write at the same time, again and again.
    Conflict,
    /// It belongs to somebody else now. Nothing is written until this process leads a later term or is started again.
    Foreign,
}

/// A place, and what is known about it. One writer each: it is used exclusively.
#[derive(Debug)]
pub struct Sink {
    place: Place,
    location: Location,
    /// Whether a manifest is kept. Of a set of files it always is, because it says which are ours.
    manifest: bool,
    /// What is there, as far as it is known, by name within the place.
    there: BTreeMap<String, There>,
    /// The manifest that is there, once it was looked at.
    seen: Option<Seen>,
    /// For whom it was taken over, and the manifest that was in force then or was written since: from then on another one of
    /// another writer is a stranger's.
    taken: Option<(Writer, Option<Manifest>)>,
    /// What this process wrote, by name, as hashes: all there is to go by where nothing can be read.
    written: BTreeMap<String, String>,
    /// Why nothing is written any more.
    stopped: Option<SinkError>,
    conditions: Conditions,
}

/// What is known about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum There {
    /// It is not there.
    Missing,
    /// It is there.
    Found {
        /// The SHA-256 of its bytes, in hexadecimal.
        sha256: String,
        /// What a condition on it names.
        tag: Option<String>,
    },
    /// It may be there, and cannot be read.
    Unreadable,
}

/// A manifest that was looked at.
#[derive(Clone, Debug)]
struct Seen {
    /// None: there is none yet, or it cannot be read.
    manifest: Option<Manifest>,
    there: There,
}

/// Whether the place heeds conditions on writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conditions {
    /// Not tried yet.
    Unknown,
    /// Yes.
    Honoured,
    /// No, or it knows none: writes are not fenced.
    Ignored,
}

/// How long connecting to a store may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// === impl SinkError ===

impl SinkError {
    pub(crate) fn new(place: &impl fmt::Display, kind: Trouble, what: impl Into<String>) -> Self {
        // A URL may have a password in it.
        Self { place: redact::urls(&place.to_string()), kind, what: redact::urls(&what.into()) }
    }
}

// === impl Trouble ===

impl Trouble {
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

    /// Whether it may pass within a minute by itself: what is written once is tried again then.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Unavailable | Self::Conflict)
    }
}
