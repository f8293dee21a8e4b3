//! The manifest beside what was written: who wrote it, for which term, and what it must hash to.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Writer;

/// The one schema there is.
pub const SCHEMA: u32 = 1;

/// Who wrote what. With several writers it is compared and swapped before the files are written: whoever loses that
/// stops. A reader takes a file only if it hashes to what stands here, so it never sees the files of two writers mixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which kube cluster the endpoints are of, as the writers are configured.
    pub cluster: String,
    /// The process that wrote it.
    pub writer: String,
    /// The term it led for; none where no leader is elected.
    pub term: Option<Term>,
    /// One more than that of the manifest before.
    pub version: u64,
    /// The SHA-256 of every file in hexadecimal, by its name relative to the sink.
    pub sha256: BTreeMap<String, String>,
    /// Files that are no longer wanted and may still be there, likewise.
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

/// Whose a manifest is, seen from one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This writer's, of this term.
    Mine,
    /// Of a term before this writer's: it is superseded.
    Earlier,
    /// Of a writer with which there is no order: the one before this process, or one beside it.
    Other,
    /// Of a term after this writer's, or of another kube cluster: hands off.
    Foreign,
}

impl Manifest {
    /// Parses one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        if manifest.schema != SCHEMA {
            return Err(format!("it has the schema {}, and only {SCHEMA} is known here", manifest.schema));
        }
        Ok(manifest)
    }

    /// As it is written: JSON with a final line break, for people who look at it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only strings for keys");
        bytes.push(b'\n');
        bytes
    }

    pub(super) fn whose(&self, writer: &Writer) -> Whose {
        if *self.cluster != *writer.cluster {
            return Whose::Foreign;
        }
        let mine = *self.writer == *writer.id;
        match (&self.term, &writer.term) {
            (Some(theirs), Some(ours)) if theirs.uid == ours.uid => match theirs.transitions.cmp(&ours.transitions) {
                std::cmp::Ordering::Less => Whose::Earlier,
                std::cmp::Ordering::Equal if mine => Whose::Mine,
                // Two holders of one term cannot be; to write over it would be the worse guess.
                std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Whose::Foreign,
            },
            (None, None) if mine => Whose::Mine,
            _ => Whose::Other,
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
    fn what_was_written_can_be_read() {
        let manifest = manifest("a", Some(("u", 3)));
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest.clone()));
        let later = Manifest { schema: 2, ..manifest };
        assert!(Manifest::parse(&later.to_bytes()).is_err_and(|why| why.contains("schema 2")));
        assert!(Manifest::parse(b"{}").is_err());
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn terms_are_ordered_within_one_lock_only() {
        let whose = |theirs: Option<(&str, u64)>, id: &str, ours| manifest("a", theirs).whose(&writer(id, ours));
        assert_eq!(whose(Some(("u", 3)), "a", Some(("u", 3))), Whose::Mine);
        assert_eq!(whose(Some(("u", 3)), "b", Some(("u", 4))), Whose::Earlier);
        assert_eq!(whose(Some(("u", 5)), "b", Some(("u", 4))), Whose::Foreign);
        assert_eq!(whose(Some(("u", 4)), "b", Some(("u", 4))), Whose::Foreign);
        assert_eq!(whose(Some(("v", 9)), "a", Some(("u", 4))), Whose::Other);
        assert_eq!(whose(None, "a", None), Whose::Mine);
        assert_eq!(whose(None, "b", None), Whose::Other);
        assert_eq!(whose(None, "a", Some(("u", 4))), Whose::Other);
        let abroad = Manifest { cluster: "other".into(), ..manifest("a", None) };
        assert_eq!(abroad.whose(&writer("a", None)), Whose::Foreign);
    }
}
