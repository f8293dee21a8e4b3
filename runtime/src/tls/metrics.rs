//! What is shown of TLS: when certificates expire, how often they were read again, what came of handshakes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::accept::{AcceptError, Accepted};
use super::certificate::Validity;

/// How often files were read again, by what came of it.
const RELOADS: &str = "fanfare_tls_reloads_total";

/// When a file's first certificate expires.
const EXPIRY: &str = "fanfare_tls_certificate_expiry_timestamp_seconds";

/// Handshakes with clients, by what came of them.
const HANDSHAKES: &str = "fanfare_tls_handshakes_total";

/// What may come of a handshake: `ok`, or a reason of [`AcceptError`].
const RESULTS: [&str; 5] = ["ok", "not_tls", "timeout", "closed", "refused"];

/// The certificates in force somewhere in the process. What is no longer in force is forgotten with whoever used it.
static IN_FORCE: Mutex<Vec<Weak<InForce>>> = Mutex::new(Vec::new());

/// Files with certificates.
#[derive(Debug, Default)]
pub(super) struct InForce(Mutex<Vec<Validity>>);

impl InForce {
    /// Shows nothing yet.
    pub(super) fn new() -> Arc<Self> {
        let shown = Arc::new(Self::default());
        let mut all = IN_FORCE.lock();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&shown));
        shown
    }

    /// Shows these from now on.
    pub(super) fn set(&self, files: &[Validity]) {
        *self.0.lock() = files.to_vec();
    }
}

/// Shows the counters of these files before they have counted anything.
pub(super) fn from_zero(paths: &[PathBuf]) {
    for path in paths {
        let path = path.display().to_string();
        crate::metrics::from_zero(RELOADS, &[("file", &[path.as_str()]), ("result", &["ok", "failed"])]);
    }
}

/// Counts that a file was read again.
pub(super) fn reloaded(path: &std::path::Path, result: &'static str) {
    metrics::counter!(RELOADS, "file" => path.display().to_string(), "result" => result).increment(1);
}

/// Counts a handshake with a client of the listener of this name.
pub fn count_handshake(listener: &str, accepted: &Result<Accepted, AcceptError>) {
    let result = accepted.as_ref().map_or_else(AcceptError::reason, |_| "ok");
    metrics::counter!(HANDSHAKES, "listener" => listener.to_owned(), "result" => result).increment(1);
}

/// Shows the handshakes of the listener of this name before there are any.
pub fn handshakes_from_zero(listener: &str) {
    crate::metrics::from_zero(HANDSHAKES, &[("listener", &[listener]), ("result", &RESULTS)]);
}

/// Appends the metrics of what is in force.
pub(super) fn render(text: &mut String) {
    let mut files: BTreeMap<String, i64> = BTreeMap::new();
    for one in IN_FORCE.lock().iter().filter_map(Weak::upgrade) {
        for Validity { path, expires, .. } in one.0.lock().iter() {
            let first = files.entry(path.display().to_string()).or_insert(*expires);
            *first = (*first).min(*expires);
        }
    }
    if files.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {EXPIRY} When the first certificate of a file expires, in seconds since 1970.");
    let _ = writeln!(text, "# TYPE {EXPIRY} gauge");
    for (file, expires) in files {
        let _ = writeln!(text, "{EXPIRY}{{file=\"{}\"}} {expires}", crate::metrics::label(&file));
    }
}
