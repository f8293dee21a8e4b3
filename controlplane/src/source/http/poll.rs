//! Schedules the requests for a list: at regular intervals, at once on request, and sooner after a failure.

use std::time::Duration;

use runtime::backoff::Backoff;
use snapshot::ClusterName;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::fetch::{FetchError, Fetched, Fetcher};
use super::{HTTP_FETCHES, ListUrl};
use crate::source::list::ListEntry;

/// The delay of the first attempt after a failure; it doubles up to the regular interval.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The requests for one list, and the state of their log messages.
pub(super) struct Poll {
    cluster: ClusterName,
    url: ListUrl,
    fetcher: Fetcher,
    refresh: Duration,
    backoff: Backoff,
    due: Instant,
    /// Changes when another request is due at once.
    asked: watch::Receiver<u64>,
    /// Why the last request failed, if it did.
    failure: Option<String>,
    /// The last good list.
    last: Option<Vec<ListEntry>>,
}

/// The result of a request.
#[derive(Debug)]
pub(super) enum PollResult {
    /// A new list.
    List(Vec<ListEntry>),
    /// The list is unchanged.
    Unchanged,
    /// The request failed, for this reason.
    Failed(String),
}

// === impl Poll ===

impl Poll {
    pub(super) fn new(cluster: ClusterName, url: ListUrl, refresh: Duration, asked: watch::Receiver<u64>) -> Self {
        let fetcher = Fetcher::new(url.clone());
        let backoff = Backoff::new(FIRST_RETRY_DELAY.min(refresh), 2.0, refresh);
        Self { cluster, url, fetcher, refresh, backoff, due: Instant::now(), asked, failure: None, last: None }
    }

    /// Waits until a request is due, and makes it.
    pub(super) async fn next(&mut self) -> PollResult {
        tokio::select! {
            () = sleep_until(self.due) => {}
            Ok(()) = self.asked.changed() => {}
        }
        let fetched = self.fetcher.fetch().await;
        let result = match &fetched {
            Ok(Fetched::List(_)) => "ok",
            Ok(Fetched::Unchanged) => "unchanged",
            Err(FetchError::Invalid(_)) => "invalid",
            Err(FetchError::Failed(_)) => "failed",
        };
        metrics::counter!(HTTP_FETCHES, "cluster" => self.cluster.to_string(), "result" => result).increment(1);
        match fetched {
            Ok(fetched) => self.succeeded(fetched),
            Err(error) => self.failed(format!("{}: {error}", self.url)),
        }
    }

    fn succeeded(&mut self, fetched: Fetched) -> PollResult {
        self.due = Instant::now() + self.refresh;
        self.backoff.reset();
        if self.failure.take().is_some() {
            tracing::info!(cluster = %self.cluster, url = %self.url, "the list of endpoints can be fetched again");
        }
        match fetched {
            Fetched::Unchanged => PollResult::Unchanged,
            Fetched::List(list) if self.last.as_ref() == Some(&list) => PollResult::Unchanged,
            Fetched::List(list) => {
                tracing::info!(cluster = %self.cluster, url = %self.url, targets = list.len(), "list of endpoints fetched");
                self.last = Some(list.clone());
                PollResult::List(list)
            }
        }
    }

    fn failed(&mut self, why: String) -> PollResult {
        self.due = Instant::now() + self.backoff.next_delay();
        if self.failure.as_ref() != Some(&why) {
            tracing::warn!(cluster = %self.cluster, %why, "the list of endpoints cannot be fetched, keeping the last good one");
            self.failure = Some(why.clone());
        }
        PollResult::Failed(why)
    }
}
