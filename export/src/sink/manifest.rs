//! The manifest of exported files: who wrote them, in which term, and their hashes.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Writer;

/// The version of the manifest's schema.
pub const SCHEMA: u32 = 1;

/// The record of who wrote which files. A writer replaces it by compare-and-swap before it writes files, and stops if that fails. A
/// reader accepts a file only if its hash is the one in the manifest, so it never mixes files of two writers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The kube cluster of the endpoints, as configured for the writer.
    pub cluster: String,
    /// The process that wrote it.
    pub writer: String,
    /// The term in which it led; `None` without leader election.
    pub term: Option<Term>,
    /// One more than that of the previous manifest.
    pub version: u64,
    /// The SHA-256 of every file in hexadecimal, by its name relative to the sink.
    pub sha256: BTreeMap<String, String>,
    /// Files that are no longer wanted and may still exist, likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removing: BTreeMap<String, String>,
}

/// A leader's term (see `controlplane::lease::Term`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The lock's UID. Terms are ordered within one UID only.
    pub uid: String,
    /// `leaseTransitions`.
    pub transitions: u64,
}

/// Who owns a manifest, seen from one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// This writer, in this term.
    Mine,
    /// A writer of an earlier term, which is superseded.
    Earlier,
    /// A writer whose term cannot be compared: an earlier or a concurrent process.
    Other,
    /// A writer of a later term, or of another kube cluster: the manifest must not be replaced.
    Foreign,
}

impl Manifest {
    /// Parses one.
    ///
    /// # Errors
    /// A text that names the fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("it is not a manifest: {error}"))?;
        if manifest.schema != SCHEMA {
            return Err(format!("it has the schema {}, and only {SCHEMA} is supported", manifest.schema));
        }
        Ok(manifest)
    }

    /// The bytes of the file: indented JSON with a final line break.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only strings for keys");
        bytes.push(b'\n');
        bytes
    }

    pub(super) fn ownership(&self, writer: &Writer) -> Ownership {
        if *self.cluster != *writer.cluster {
            return Ownership::Foreign;
        }
        let mine = *self.writer == *writer.id;
        match (&self.term, &writer.term) {
            (Some(theirs), Some(ours)) if theirs.uid == ours.uid => match theirs.transitions.cmp(&ours.transitions) {
                std::cmp::Ordering::Less => Ownership::Earlier,
                std::cmp::Ordering::Equal if mine => Ownership::Mine,
                // There cannot be two holders of one term. If there seem to be, not overwriting is safer.
                std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Ownership::Foreign,
            },
            (None, None) if mine => Ownership::Mine,
            _ => Ownership::Other,
        }
    }
}

/// The SHA-256 of these bytes in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(id: &str, term: Option<(&str, u64)>) -> Writer {
        let term = term.map(|(uid, transitions)| Term { uid: uid.into(), transitions });
        Writer { cluster: "edge".into(), id: id.into(), term }
    }

    fn manifest(id: &str, term: Option<(&str, u64)>) -> Manifest {
        let Writer { cluster, id, term } = writer(id, term);
        let sha256 = BTreeMap::from([(String::new(), sha256(b"{}"))]);
        let (cluster, writer) = (cluster.to_string(), id.to_string());
        Manifest { schema: SCHEMA, cluster, writer, term, version: 7, sha256, removing: BTreeMap::new() }
    }

    #[test]
    fn a_written_manifest_reads_back() {
        let manifest = manifest("a", Some(("u", 3)));
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest.clone()));
        let later = Manifest { schema: 2, ..manifest };
        assert!(Manifest::parse(&later.to_bytes()).is_err_and(|why| why.contains("schema 2")));
        assert!(Manifest::parse(b"{}").is_err());
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn terms_are_ordered_within_one_lock_only() {
        let ownership =
            |theirs: Option<(&str, u64)>, id: &str, ours| manifest("a", theirs).ownership(&writer(id, ours));
        assert_eq!(ownership(Some(("u", 3)), "a", Some(("u", 3))), Ownership::Mine);
        assert_eq!(ownership(Some(("u", 3)), "b", Some(("u", 4))), Ownership::Earlier);
        assert_eq!(ownership(Some(("u", 5)), "b", Some(("u", 4))), Ownership::Foreign);
        assert_eq!(ownership(Some(("u", 4)), "b", Some(("u", 4))), Ownership::Foreign);
        assert_eq!(ownership(Some(("v", 9)), "a", Some(("u", 4))), Ownership::Other);
        assert_eq!(ownership(None, "a", None), Ownership::Mine);
        assert_eq!(ownership(None, "b", None), Ownership::Other);
        assert_eq!(ownership(None, "a", Some(("u", 4))), Ownership::Other);
        let abroad = Manifest { cluster: "other".into(), ..manifest("a", None) };
        assert_eq!(abroad.ownership(&writer("a", None)), Ownership::Foreign);
    }
}
