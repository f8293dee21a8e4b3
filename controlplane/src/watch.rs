//! The only watcher: a complete list, then every change, for ever.
//!
//! Why not kube's own `watcher`: it does not report bookmarks and reconnects, from which the age of the data is computed; a list
//! that is never answered hangs it; and it detects a silently dead connection only after five minutes.
//!
//! Rules: a list counts only when it is complete, and then replaces everything. Failures are retried for ever, with growing
//! jittered delays of at most [`MAX_DELAY`]; earlier data stays in use meanwhile. Only an object that cannot be read is skipped.

mod failure;
mod key;
mod status;

use std::{collections::HashSet, convert::Infallible, fmt::Debug, ops::RangeInclusive, pin::pin, time::Duration};

use ::metrics::counter;
pub(crate) use failure::chain;
pub use failure::{Failure, Reason};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
pub use key::{ObjectKey, Scope, WatchKey};
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::DeserializeGuard,
};
use runtime::backoff::Backoff;
use serde::de::DeserializeOwned;
pub use status::{State, Status, any_change};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use crate::metrics as names;

/// The first delay after a failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay between two attempts.
pub const MAX_DELAY: Duration = Duration::from_secs(5);
/// Objects in one page of a list.
const PAGE_SIZE: u32 = 500;

/// The time limits of one watch.
#[derive(Clone, Debug)]
struct WatchTimeouts {
    /// The time limit of an answer: one page of a list, or the head of a watch.
    answer: Duration,
    /// Seconds after which the API server ends a watch, which is then resumed. Drawn from this range, so that many processes do not
    /// reconnect together. It also bounds the time until a silently dead connection is detected.
    watch: RangeInclusive<u32>,
    /// The time after the requested end of a watch at which the connection counts as dead.
    late: Duration,
    /// A watch that lasted this long counts as good, even without events.
    good: Duration,
}

/// The time limits outside of tests.
const WATCH_TIMEOUTS: WatchTimeouts = WatchTimeouts {
    answer: Duration::from_secs(15),
    watch: 45..=60,
    late: Duration::from_secs(5),
    good: Duration::from_secs(5),
};

/// An event of a watch.
#[derive(Debug)]
pub enum Event<K> {
    /// A complete list, which replaces all earlier state at once.
    Reset {
        /// Every object that could be read.
        objects: Vec<K>,
        /// Objects that exist but could not be read: their earlier state stays.
        unreadable: Vec<ObjectKey>,
    },
    /// An object was added or modified.
    Apply(K),
    /// An object was deleted, or no longer matches the selector.
    Delete(ObjectKey),
}

/// The known objects that a complete list no longer contains. Objects that are listed but could not be read still exist.
pub fn vanished<'a, T: Clone + 'a>(
    known: impl IntoIterator<Item = &'a T>,
    objects: &[impl Resource],
    unreadable: &[ObjectKey],
) -> Vec<T>
where
    ObjectKey: From<&'a T>,
{
    let listed = objects.iter().map(|object| ObjectKey::of(object.meta()));
    let there: HashSet<ObjectKey> = listed.chain(unreadable.iter().cloned()).collect();
    known.into_iter().filter(|known| !there.contains(&ObjectKey::from(known))).cloned().collect()
}

/// Why a watch ended.
enum End {
    /// The API server closed it at the requested time.
    Closed,
    /// The API server no longer has the events since the last version: a complete list is needed.
    Gone(Failure),
    /// It failed and can be resumed from its last version.
    Failed(Failure),
}

/// One watch and its state.
struct Watcher<K> {
    api: Api<DeserializeGuard<K>>,
    key: WatchKey,
    status: Status,
    pace: WatchTimeouts,
    backoff: Backoff,
    /// When the API server accepted the current watch.
    accepted: Option<Instant>,
}

/// Watches until it is dropped. Every event goes to `sink`, in order; `status` shows the state of the watch.
pub async fn watch<K>(
    api: Api<DeserializeGuard<K>>,
    key: WatchKey,
    status: Status,
    sink: impl FnMut(Event<K>),
) -> Infallible
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    Watcher::new(api, key, status, WATCH_TIMEOUTS).run(sink).await
}

impl<K> Watcher<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    fn new(api: Api<DeserializeGuard<K>>, key: WatchKey, status: Status, pace: WatchTimeouts) -> Self {
        Self { api, key, status, pace, backoff: Backoff::new(FIRST_DELAY, 2.0, MAX_DELAY), accepted: None }
    }

    async fn run(self, sink: impl FnMut(Event<K>)) -> Infallible {
        names::watch_from_zero(self.key.cluster(), self.key.kind());
        let age = self.status.clone().report_age(self.key.clone());
        tokio::select! {
            never = self.list_and_follow(sink) => never,
            never = age => never,
        }
    }

    async fn list_and_follow(mut self, mut sink: impl FnMut(Event<K>)) -> Infallible {
        let mut resume = None;
        loop {
            let mut version = match resume.take() {
                Some(version) => version,
                None => match self.list(&mut sink).await {
                    Ok(version) => version,
                    Err(failure) => {
                        self.failed(&failure).await;
                        continue;
                    }
                },
            };
            let end = self.follow(&mut version, &mut sink).await;
            let good = self.was_good();
            if good {
                self.backoff.reset();
            }
            match end {
                End::Closed if good => resume = Some(version),
                // A server that closes at once is retried with a delay.
                End::Closed => {
                    resume = Some(version);
                    sleep(self.backoff.next_delay()).await;
                }
                End::Failed(failure) => {
                    resume = Some(version);
                    self.failed(&failure).await;
                }
                End::Gone(failure) => self.failed(&failure).await,
            }
        }
    }

    /// Reads a complete list, page by page. Returns the version from which a watch continues.
    async fn list(&mut self, sink: &mut impl FnMut(Event<K>)) -> Result<String, Failure> {
        let mut params =
            ListParams { limit: Some(PAGE_SIZE), label_selector: self.key.selector(), ..ListParams::default() };
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            let page = match timeout(self.pace.answer, self.api.list(&params)).await {
                Ok(page) => page.map_err(|error| Failure::of("list", &error))?,
                Err(_elapsed) => return Err(Failure::no_answer("list", self.pace.answer)),
            };
            for DeserializeGuard(item) in page.items {
                match item {
                    Ok(mut object) => {
                        // Nobody reads who has set which field, and it takes more memory than the rest.
                        object.meta_mut().managed_fields = None;
                        objects.push(object);
                    }
                    Err(invalid) => {
                        let key = ObjectKey::of(&invalid.metadata);
                        self.malformed(&key, &invalid.error);
                        unreadable.push(key);
                    }
                }
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(Failure::no_version)?;
            counter!(names::WATCH_RELISTS, "kube_cluster" => self.key.cluster().clone(), "kind" => self.key.kind())
                .increment(1);
            sink(Event::Reset { objects, unreadable });
            self.status.seen();
            self.status.listed();
            return Ok(version);
        }
    }

    /// Follows the changes since `version`, which is kept up to date.
    async fn follow(&mut self, version: &mut String, sink: &mut impl FnMut(Event<K>)) -> End {
        self.accepted = None;
        let seconds = fastrand::u32(self.pace.watch.clone());
        let params = WatchParams { label_selector: self.key.selector(), ..WatchParams::default() }.timeout(seconds);
        let stream = match timeout(self.pace.answer, self.api.watch(&params, version)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Failure::of("watch", &error).into(),
            Err(_elapsed) => return End::Failed(Failure::no_answer("watch", self.pace.answer)),
        };
        self.saw("connect");
        self.status.connected();
        self.accepted = Some(Instant::now());
        let mut stream = pin!(stream);
        let ends = Instant::now() + Duration::from_secs(seconds.into()) + self.pace.late;
        loop {
            let event = match timeout_at(ends, stream.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return End::Closed,
                Err(_elapsed) => return End::Failed(Failure::silent()),
            };
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.saw("apply");
                    advance(version, object.meta());
                    match object.0 {
                        Ok(object) => {
                            sink(Event::Apply(object));
                            self.status.changed();
                        }
                        Err(invalid) => self.malformed(&ObjectKey::of(&invalid.metadata), &invalid.error),
                    }
                }
                Ok(WatchEvent::Deleted(object)) => {
                    self.saw("delete");
                    advance(version, object.meta());
                    sink(Event::Delete(ObjectKey::of(object.meta())));
                    self.status.changed();
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    self.saw("bookmark");
                    *version = bookmark.metadata.resource_version;
                }
                Ok(WatchEvent::Error(status)) => return Failure::of("watch", &kube::Error::Api(status)).into(),
                // Not even its metadata can be read. The watch continues with the next line.
                Err(kube::Error::SerdeError(error)) => self.malformed(&ObjectKey::default(), &error.to_string()),
                // kube reads any JSON object that is not an event as an empty status.
                Err(kube::Error::Api(status)) if status.code == 0 => {
                    self.malformed(&ObjectKey::default(), "a line of the watch is not an event");
                }
                Err(error) => return Failure::of("watch", &error).into(),
            }
            self.backoff.reset();
        }
    }

    /// Whether the last watch was good. One that was never accepted was not, however long that took.
    fn was_good(&self) -> bool {
        self.accepted.is_some_and(|since| since.elapsed() >= self.pace.good)
    }

    /// Records that something was received: the data is fresh.
    fn saw(&self, what: &'static str) {
        self.status.seen();
        counter!(names::WATCH_EVENTS, "kube_cluster" => self.key.cluster().clone(), "kind" => self.key.kind(), "type" => what).increment(1);
    }

    /// Reports one object that cannot be read. The others are not affected.
    fn malformed(&self, object: &ObjectKey, error: &str) {
        counter!(names::WATCH_MALFORMED, "kube_cluster" => self.key.cluster().clone(), "kind" => self.key.kind())
            .increment(1);
        warn!(watch = %self.key, %object, error, "skipped an object that cannot be read; its last known state stays");
    }

    /// Reports a failure and waits before the next attempt.
    async fn failed(&mut self, failure: &Failure) {
        counter!(names::WATCH_ERRORS, "kube_cluster" => self.key.cluster().clone(), "kind" => self.key.kind(), "reason" => failure.reason.as_str()).increment(1);
        let delay = self.backoff.next_delay();
        let text = failure.explain(&self.key);
        warn!(watch = %self.key, reason = failure.reason.as_str(), ?delay, "{text}; keeping the last known state and trying again");
        self.status.failed(failure.reason, text);
        sleep(delay).await;
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        if failure.reason == Reason::Gone { Self::Gone(failure) } else { Self::Failed(failure) }
    }
}

/// The next watch continues after the last object that was received.
fn advance(version: &mut String, meta: &ObjectMeta) {
    if let Some(newer) = meta.resource_version.as_ref().filter(|newer| !newer.is_empty()) {
        version.clone_from(newer);
    }
}

#[cfg(test)]
mod tests;
