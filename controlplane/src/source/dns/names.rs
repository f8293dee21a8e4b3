//! A set of names that is kept current: each is looked up again when its own answer ends, and keeps the last answer when a lookup
//! fails.

use std::collections::BTreeMap;
use std::future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use runtime::backoff::Backoff;
use snapshot::Recheck;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::resolver::{DnsAnswer, Resolution, ResolveError};
use super::{DNS_LOOKUPS, Query, Resolver};

/// The shortest interval between two lookups of a name, whatever its TTL and however often a lookup is requested.
const MIN_LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// The bounds of the delay after a failed lookup.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// The most lookups at a time.
const PARALLEL_NAMES: usize = 16;

/// The time for which a new list waits for the first answers of its names, before it is published without them, with the reason.
const FIRST_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Names and their current answers.
pub(in crate::source) struct Names {
    resolver: Resolver,
    /// Whether a name with several addresses is one endpoint.
    one_each: bool,
    /// The lookup that yielded these names, which is repeated when one of them is looked up on request.
    origin: Recheck,
    entries: BTreeMap<Query, NameState>,
    running: FuturesUnordered<Lookup>,
    /// Answers that can be used while the lookup of one family is still running.
    /// Made for the first lookup: most lists have no names.
    early: Option<(mpsc::Sender<Early>, mpsc::Receiver<Early>)>,
    lookups: u64,
    /// Notified when one of the names should be looked up again.
    wake: Arc<Notify>,
    /// Changes when all names should be looked up again.
    asked: watch::Receiver<u64>,
}

/// A usable but incomplete answer of the lookup with this number.
type Early = (u64, Query, DnsAnswer);

/// A lookup in progress, which may be left unpolled for a while.
type Lookup = Pin<Box<dyn Future<Output = (u64, Query, Result<DnsAnswer, ResolveError>)> + Send>>;

struct NameState {
    /// The last answer; `None` before the first.
    good: Option<Resolution>,
    /// Why the last lookup failed.
    failure: Option<String>,
    /// The number of the latest lookup.
    lookup: u64,
    /// Whether that one is still without a result.
    running: bool,
    added: Instant,
    started: Option<Instant>,
    due: Instant,
    backoff: Backoff,
    recheck: Recheck,
}

// === impl Names ===

impl Names {
    /// Names that are one endpoint each, whatever their number of addresses.
    pub(in crate::source) fn new(resolver: Resolver, origin: Recheck) -> Self {
        metrics::describe_counter!(DNS_LOOKUPS, "Lookups of endpoint names by result (found, empty, failed).");
        runtime::metrics::from_zero(DNS_LOOKUPS, &[("result", &["found", "empty", "failed"])]);
        let asked = resolver.asked();
        Self {
            resolver,
            one_each: true,
            origin,
            entries: BTreeMap::new(),
            running: FuturesUnordered::new(),
            early: None,
            lookups: 0,
            wake: Arc::default(),
            asked,
        }
    }

    /// Names whose every address is an endpoint, or which only yield other names.
    pub(in crate::source) fn of_many(resolver: Resolver) -> Self {
        Self { one_each: false, ..Self::new(resolver, Recheck::default()) }
    }

    /// Replaces the names. Known ones keep their answers and due times; new ones are looked up at once.
    pub(in crate::source) fn set(&mut self, queries: impl IntoIterator<Item = Query>) {
        let mut before = std::mem::take(&mut self.entries);
        for query in queries {
            let entry = before.remove(&query).unwrap_or_else(|| NameState::new(Recheck::waking(self.wake.clone())));
            self.entries.entry(query).or_insert(entry);
        }
        if !self.entries.is_empty() {
            self.resolver.follow();
        }
    }

    /// Waits until something may have changed: a lookup has ended, or has taken too long. Pends for ever without names. Safe to
    /// cancel: lookups in progress continue with the next call.
    pub(in crate::source) async fn refresh(&mut self) {
        loop {
            self.start_due();
            let room = self.in_flight() < PARALLEL_NAMES;
            let due = self.entries.values().filter(|entry| room && !entry.running).map(NameState::due).min();
            let now = Instant::now();
            let untried = self
                .entries
                .values()
                .filter(|entry| entry.is_untried())
                .map(|entry| entry.added + FIRST_LOOKUP_TIMEOUT);
            let patience = untried.filter(|end| *end > now).min();
            tokio::select! {
                Some((lookup, query, result)) = self.running.next(), if !self.running.is_empty() => {
                    // The name may have been removed meanwhile, or looked up again.
                    if let Some(entry) = self.entries.get_mut(&query).filter(|entry| entry.lookup == lookup) {
                        entry.finish(&query, result, &self.resolver, self.one_each);
                        return;
                    }
                }
                Some((lookup, query, answer)) = next_early(&mut self.early) => {
                    if let Some(entry) = self.entries.get_mut(&query).filter(|entry| entry.lookup == lookup && entry.running) {
                        entry.finish(&query, Ok(answer), &self.resolver, self.one_each);
                        return;
                    }
                }
                () = at(due) => {}
                () = at(patience) => return,
                () = self.wake.notified() => {}
                Ok(()) = self.asked.changed() => self.entries.values_mut().for_each(NameState::ask_again),
            }
        }
    }

    /// The answer for a name, or the reason why there is none, if it is known.
    pub(in crate::source) fn get(&self, query: &Query) -> Result<&Resolution, Option<&str>> {
        let Some(entry) = self.entries.get(query) else { return Err(None) };
        entry.good.as_ref().ok_or(entry.failure.as_deref())
    }

    /// The handle with which endpoints request another lookup of the name.
    pub(in crate::source) fn recheck(&self, query: &Query) -> Recheck {
        self.entries.get(query).map(|entry| entry.recheck.clone()).unwrap_or_default()
    }

    /// The first name that a list still waits for: its first lookup has not ended, and has not taken too long.
    pub(in crate::source) fn awaited(&self) -> Option<&Query> {
        let awaited = |entry: &NameState| entry.is_untried() && entry.added.elapsed() < FIRST_LOOKUP_TIMEOUT;
        self.entries.iter().find(|(_, entry)| awaited(entry)).map(|(query, _)| query)
    }

    fn in_flight(&self) -> usize {
        self.entries.values().filter(|entry| entry.running).count()
    }

    fn start_due(&mut self) {
        let (now, room) = (Instant::now(), PARALLEL_NAMES.saturating_sub(self.in_flight()));
        let mut due: Vec<_> =
            self.entries.iter_mut().filter(|(_, entry)| !entry.running && entry.due() <= now).collect();
        due.sort_by_key(|(_, entry)| entry.due());
        for (query, entry) in due.into_iter().take(room) {
            if entry.recheck.is_asked() {
                self.origin.ask();
            }
            self.lookups += 1;
            entry.recheck.done();
            (entry.running, entry.lookup, entry.started) = (true, self.lookups, Some(now));
            let (lookup, resolver, query, known) =
                (self.lookups, self.resolver.clone(), query.clone(), entry.good.clone());
            let (early, _) = self.early.get_or_insert_with(|| mpsc::channel(2 * PARALLEL_NAMES));
            let early = early.clone();
            self.running.push(Box::pin(async move {
                let early = |answer| {
                    // If the receiver is gone or the queue is full, the complete answer follows later.
                    let _ = early.try_send((lookup, query.clone(), answer));
                };
                let result = resolver.resolve(&query, known.as_ref(), early).await;
                (lookup, query, result)
            }));
        }
    }
}

async fn next_early(early: &mut Option<(mpsc::Sender<Early>, mpsc::Receiver<Early>)>) -> Option<Early> {
    match early {
        Some((_, answers)) => answers.recv().await,
        None => future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}

// === impl NameState ===

impl NameState {
    fn new(recheck: Recheck) -> Self {
        let (backoff, now) = (Backoff::new(FIRST_RETRY_DELAY, 2.0, MAX_RETRY_DELAY), Instant::now());
        Self {
            good: None,
            failure: None,
            lookup: 0,
            running: false,
            added: now,
            started: None,
            due: now,
            backoff,
            recheck,
        }
    }

    /// When its next lookup is due.
    fn due(&self) -> Instant {
        match self.started {
            Some(started) if self.recheck.is_asked() => self.due.min(started + MIN_LOOKUP_INTERVAL),
            _ => self.due,
        }
    }

    fn is_untried(&self) -> bool {
        self.good.is_none() && self.failure.is_none()
    }

    /// Starts another lookup; the answer of one in progress may be outdated and is ignored.
    fn ask_again(&mut self) {
        (self.running, self.due, self.lookup) = (false, Instant::now(), 0);
        self.backoff.reset();
    }

    fn finish(&mut self, query: &Query, result: Result<DnsAnswer, ResolveError>, resolver: &Resolver, one_each: bool) {
        self.running = false;
        let settings = resolver.settings();
        let (outcome, wait) = match result {
            Ok(answer) => {
                self.backoff.reset();
                let (outcome, longest) = match answer.found {
                    Resolution::Nothing(_) => ("empty", settings.negative_ttl),
                    _ => ("found", settings.max_ttl),
                };
                if self.good.as_ref() != Some(&answer.found) {
                    log_answer(query, &answer, one_each);
                }
                if answer.partial.is_some() && self.failure != answer.partial {
                    let why = answer.partial.as_deref();
                    tracing::warn!(%query, why, "the lookup of one address family failed; it keeps its addresses, if it has any");
                }
                (self.good, self.failure) = (Some(answer.found), answer.partial);
                (outcome, answer.ttl.min(longest).max(MIN_LOOKUP_INTERVAL))
            }
            Err(error) => {
                let why = error.to_string();
                if self.failure.as_ref() != Some(&why) {
                    match &self.good {
                        Some(_) => {
                            tracing::warn!(%query, %why, "the lookup of the name failed, keeping the last answer");
                        }
                        None => tracing::warn!(%query, %why, "the name does not resolve"),
                    }
                }
                self.failure = Some(why);
                ("failed", self.backoff.next_delay())
            }
        };
        metrics::counter!(DNS_LOOKUPS, "result" => outcome).increment(1);
        self.due = Instant::now() + wait;
    }
}

/// Logs the answer for a name.
fn log_answer(query: &Query, answer: &DnsAnswer, one_each: bool) {
    let ttl = if answer.ttl == Duration::MAX { None } else { Some(answer.ttl) };
    match &answer.found {
        Resolution::Nothing(why) => tracing::warn!(%query, %why, "the name does not resolve"),
        Resolution::Targets(targets) => tracing::info!(%query, targets = targets.len(), ?ttl, "name resolved"),
        Resolution::Addresses(addresses) => {
            tracing::info!(%query, addresses = addresses.len(), ?ttl, "name resolved");
            let in_family = |v4: bool| addresses.iter().filter(|address| SocketAddr::is_ipv4(address) == v4).count();
            if one_each && (in_family(true) > 1 || in_family(false) > 1) {
                tracing::warn!(
                    %query,
                    addresses = addresses.len(),
                    "the name has several addresses, and each request goes to one of them: to send to all of them, use endpoints-dns"
                );
            }
        }
    }
}
