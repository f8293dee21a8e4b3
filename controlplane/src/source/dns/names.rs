//! A set of names kept current: each is looked up when its own answer ends, keeps what it had when nobody answers, and forgets nothing in between.

use std::collections::BTreeMap;
use std::future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use runtime::backoff::Backoff;
use tokio::time::{Instant, sleep_until};

use super::resolver::{Answer, ResolveError};
use super::{DNS_LOOKUPS, Query, Resolved, Resolver};

/// The bounds of the time between two lookups, whatever the TTL says.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(300);

/// The bounds of the time before a failed lookup is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// How many names are looked up at a time.
const PARALLEL_NAMES: usize = 16;

/// Names and what they resolve to.
pub(in crate::source) struct Names {
    resolver: Resolver,
    entries: BTreeMap<Query, Entry>,
    running: FuturesUnordered<Lookup>,
}

/// A lookup under way; it survives when nobody polls for a while.
type Lookup = Pin<Box<dyn Future<Output = (Query, Result<Answer, ResolveError>)> + Send>>;

struct Entry {
    /// The last answer; `None` before the first.
    good: Option<Vec<Resolved>>,
    /// Why the last lookup failed.
    failure: Option<String>,
    running: bool,
    due: Instant,
    backoff: Backoff,
}

// === impl Names ===

impl Names {
    pub(in crate::source) fn new(resolver: Resolver) -> Self {
        metrics::describe_counter!(DNS_LOOKUPS, "Lookups of endpoint names by result (found, empty, failed).");
        runtime::metrics::from_zero(DNS_LOOKUPS, &[("result", &["found", "empty", "failed"])]);
        Self { resolver, entries: BTreeMap::new(), running: FuturesUnordered::new() }
    }

    /// From now on these names, no others. Those known already keep their answers and their times; new ones are due at once.
    pub(in crate::source) fn set(&mut self, queries: impl IntoIterator<Item = Query>) {
        let mut before = std::mem::take(&mut self.entries);
        for query in queries {
            let entry = before.remove(&query).unwrap_or_else(Entry::new);
            self.entries.entry(query).or_insert(entry);
        }
    }

    /// Waits until a lookup that was due has ended, and takes in its result. Pends for ever while there are no names. Safe to cancel: lookups under way go on
    /// with the next call.
    pub(in crate::source) async fn refresh(&mut self) {
        loop {
            self.start_due();
            let room = self.running.len() < PARALLEL_NAMES;
            let next = self.entries.values().filter(|entry| room && !entry.running).map(|entry| entry.due).min();
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                Some((query, result)) = self.running.next(), if !self.running.is_empty() => {
                    if let Some(entry) = self.entries.get_mut(&query) {
                        entry.take_in(&query, result);
                        return;
                    }
                    // The name was dropped meanwhile.
                }
                () = due => {}
            }
        }
    }

    /// What a name resolved to last; nothing if it never did.
    pub(in crate::source) fn get(&self, query: &Query) -> &[Resolved] {
        self.entries.get(query).and_then(|entry| entry.good.as_deref()).unwrap_or_default()
    }

    /// The first name without any answer so far, and why.
    pub(in crate::source) fn unanswered(&self) -> Option<String> {
        let (query, entry) = self.entries.iter().find(|(_, entry)| entry.good.is_none())?;
        Some(entry.failure.clone().unwrap_or_else(|| format!("{query} is being resolved")))
    }

    /// Whether every name was looked up at least once, be it without success.
    pub(in crate::source) fn all_tried(&self) -> bool {
        self.entries.values().all(|entry| entry.good.is_some() || entry.failure.is_some())
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let mut due: Vec<_> = self.entries.iter_mut().filter(|(_, entry)| !entry.running && entry.due <= now).collect();
        due.sort_by_key(|(_, entry)| entry.due);
        for (query, entry) in due.into_iter().take(PARALLEL_NAMES.saturating_sub(self.running.len())) {
            entry.running = true;
            let (resolver, query, previous) = (self.resolver.clone(), query.clone(), entry.good.clone());
            self.running.push(Box::pin(async move {
                let result = resolver.resolve(&query, previous.as_deref()).await;
                (query, result)
            }));
        }
    }
}

// === impl Entry ===

impl Entry {
    fn new() -> Self {
        let backoff = Backoff::new(FIRST_RETRY, 2.0, MAX_RETRY);
        Self { good: None, failure: None, running: false, due: Instant::now(), backoff }
    }

    fn take_in(&mut self, query: &Query, result: Result<Answer, ResolveError>) {
        self.running = false;
        let (outcome, wait) = match result {
            Ok(answer) => {
                self.backoff.reset();
                self.note_failure(query, answer.partial);
                if self.good.as_ref() != Some(&answer.found) {
                    tracing::info!(%query, endpoints = answer.found.len(), ttl = ?answer.ttl, "name resolved");
                }
                let outcome = if answer.found.is_empty() { "empty" } else { "found" };
                self.good = Some(answer.found);
                (outcome, answer.ttl.clamp(MIN_TTL, MAX_TTL))
            }
            Err(error) => {
                self.note_failure(query, Some(error.to_string()));
                ("failed", self.backoff.next_delay())
            }
        };
        metrics::counter!(DNS_LOOKUPS, "result" => outcome).increment(1);
        self.due = Instant::now() + wait;
    }

    /// Logs a failure when it begins, changes or ends, not at every try.
    fn note_failure(&mut self, query: &Query, failure: Option<String>) {
        if self.failure != failure {
            match &failure {
                Some(why) => {
                    tracing::warn!(%query, kept = self.good.as_ref().map_or(0, Vec::len), %why, "name not resolved, keeping what was known");
                }
                None => tracing::info!(%query, "name resolves again"),
            }
        }
        self.failure = failure;
    }
}
