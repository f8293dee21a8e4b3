//! The names of the metrics of access control, and the counts of requests by identity, with a bounded number of series.

use std::{collections::HashMap, path::Path};

use ::metrics::{Counter, Unit, counter, describe_counter, describe_gauge};
use parking_lot::RwLock;
use runtime::metrics::from_zero;

use crate::identity::Identity;

/// Counter `{identity, result}`: requests to listeners that know identities; result is one of [`RequestResult`]. Identities beyond
/// the first [`MAX_IDENTITIES`] are counted as `other`, unknown callers as `-`.
pub const IDENTITY_REQUESTS: &str = "fanfare_identity_requests_total";
/// Counter `{file, result}`: readings of token files; result is `ok`, `invalid` or `unreadable`. The last two keep the last good tokens.
pub const TOKEN_FILE_READS: &str = "fanfare_token_file_reads_total";
/// Counter `{result}`: fetches of the keys that service accounts' tokens are signed with; result is `ok` or `failed`.
pub const KEY_FETCHES: &str = "fanfare_service_account_key_fetches_total";
/// Gauge in seconds: the age of these keys, that is the time since they were fetched last.
pub const KEY_AGE: &str = "fanfare_service_account_keys_age_seconds";

/// The most identities with series of their own.
pub const MAX_IDENTITIES: usize = 1_000;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestResult {
    /// It was allowed.
    Allowed,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429.
    Limited,
}

/// Counts requests by identity.
#[derive(Debug)]
pub struct IdentityRequests {
    counters: RwLock<HashMap<Identity, Counters>>,
    /// Of unknown callers.
    unknown: Counters,
    /// Of identities beyond the bound.
    other: Counters,
}

/// The counters of an identity, one for each result.
struct Counters([Counter; 4]);

// === impl RequestResult ===

impl RequestResult {
    const ALL: [Self; 4] = [Self::Allowed, Self::Unauthorized, Self::Forbidden, Self::Limited];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Limited => "limited",
        }
    }
}

// === impl IdentityRequests ===

impl IdentityRequests {
    /// Creates the counters. The recorder must be installed.
    #[must_use]
    pub fn new() -> Self {
        Self { counters: RwLock::default(), unknown: Counters::of("-"), other: Counters::of("other") }
    }

    /// Counts a request of a caller; `None` is an unknown one.
    pub fn count(&self, identity: Option<&Identity>, result: RequestResult) {
        let Some(identity) = identity else { return self.unknown.count(result) };
        if let Some(counters) = self.counters.read().get(identity) {
            return counters.count(result);
        }
        let mut counters = self.counters.write();
        if counters.len() >= MAX_IDENTITIES && !counters.contains_key(identity) {
            return self.other.count(result);
        }
        counters.entry(identity.clone()).or_insert_with(|| Counters::of(identity.as_str())).count(result);
    }
}

impl Default for IdentityRequests {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Counters ===

impl Counters {
    fn of(identity: &str) -> Self {
        let counter = |result: RequestResult| counter!(IDENTITY_REQUESTS, "identity" => identity.to_owned(), "result" => result.as_str());
        Self(RequestResult::ALL.map(counter))
    }

    fn count(&self, result: RequestResult) {
        self.0[result as usize].increment(1);
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

/// Gives the recorder the descriptions. Call it once, after the recorder is installed.
pub fn describe() {
    describe_counter!(IDENTITY_REQUESTS, "Requests to listeners that know identities, by identity and result.");
    describe_counter!(TOKEN_FILE_READS, "Readings of token files by file and result (ok, invalid, unreadable).");
    describe_counter!(KEY_FETCHES, "Fetches of the keys that service accounts' tokens are signed with, by result.");
    describe_gauge!(KEY_AGE, Unit::Seconds, "Time since these keys were fetched last.");
}

/// Shows the counter of a token file from the start.
pub(crate) fn token_file_from_zero(path: &Path) {
    let file = path.display().to_string();
    from_zero(TOKEN_FILE_READS, &[("file", &[&file]), ("result", &["ok", "invalid", "unreadable"])]);
}

/// Shows the counter of fetches of keys from the start.
pub fn key_fetches_from_zero() {
    from_zero(KEY_FETCHES, &[("result", &["ok", "failed"])]);
}

/// Counts a reading of a token file.
pub(crate) fn count(name: &'static str, path: &Path, result: &'static str) {
    counter!(name, "file" => path.display().to_string(), "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_beyond_the_bound_have_no_series_of_their_own() {
        let requests = IdentityRequests::default();
        for n in 0..MAX_IDENTITIES + 10 {
            requests.count(Some(&Identity::service_account("shop", &format!("a{n}"))), RequestResult::Allowed);
        }
        requests.count(None, RequestResult::Unauthorized);
        assert_eq!(requests.counters.read().len(), MAX_IDENTITIES);
    }
}
