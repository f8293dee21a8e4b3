//! Endpoints from an HTTP server that answers with a list of targets (Prometheus' http_sd), fetched again at regular intervals; any
//! failure keeps the last good list.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use runtime::readiness::Gate;
use snapshot::{ClusterName, Publisher};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::dns::Resolver;
use super::list::List;

mod fetch;
mod poll;
#[cfg(test)]
mod tests;
mod url;

use poll::{Poll, PollResult};
pub use url::{InvalidListUrl, ListUrl};

/// Counter `{cluster, result}`: answers to requests for lists of endpoints; result is `ok`, `unchanged`, `invalid` or `failed`. The last two
/// keep the last good list.
pub const HTTP_FETCHES: &str = "fanfare_endpoint_url_fetches_total";
/// Gauge `{cluster}` in seconds: the time since the server last answered with a good list, or that it is unchanged.
pub const HTTP_AGE: &str = "fanfare_endpoint_url_age_seconds";

/// The default interval between two requests.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(30);

/// The interval at which the age is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The source: one URL feeds one cluster.
#[derive(Debug)]
pub struct HttpSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// The URL of the list.
    pub url: ListUrl,
    /// The interval between two requests.
    pub refresh: Duration,
    /// The DNS client for host names in the list.
    pub resolver: Resolver,
    /// Receives the endpoints.
    pub publisher: Publisher,
    /// Opens with the first good list and stays open.
    pub gate: Gate,
}

// === impl HttpSource ===

impl HttpSource {
    /// Keeps the cluster current for ever. It first appears with the first good list; a list takes effect when each of its names has been
    /// looked up once. The cluster stays when the future is dropped; removing it is up to the caller.
    pub async fn run(self) {
        metrics::describe_counter!(
            HTTP_FETCHES,
            "Requests for lists of endpoints by cluster and result (ok, unchanged, invalid, failed)."
        );
        metrics::describe_gauge!(
            HTTP_AGE,
            metrics::Unit::Seconds,
            "Time since a list of endpoints was last fetched or found unchanged."
        );
        let Self { cluster, url, refresh, resolver, publisher, gate } = self;
        let results = ["ok", "unchanged", "invalid", "failed"];
        runtime::metrics::from_zero(HTTP_FETCHES, &[("cluster", &[cluster.as_str()]), ("result", &results)]);
        let age = metrics::gauge!(HTTP_AGE, "cluster" => cluster.to_string());
        let if_empty = format!("{url} lists none");
        let poll = Poll::new(cluster.clone(), url, refresh, resolver.asked());
        // A request in progress continues while names are looked up.
        let mut answers = pin!(stream::unfold(poll, async |mut poll| Some((poll.next().await, poll))));
        let mut list = List::new(cluster, publisher, gate, resolver);
        let mut reports = interval(REPORT_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut good = Instant::now();
        loop {
            tokio::select! {
                Some(answer) = answers.next() => match answer {
                    PollResult::List(entries) => {
                        good = Instant::now();
                        list.set(entries, &*if_empty);
                    }
                    PollResult::Unchanged => good = Instant::now(),
                    PollResult::Failed(why) => list.fail(why),
                },
                _ = reports.tick() => age.set(good.elapsed().as_secs_f64()),
                () = list.refresh() => {}
            }
        }
    }
}
