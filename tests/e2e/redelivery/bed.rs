//! Two endpoints, of which one is unreachable at times, and its deliveries.

use std::{net::SocketAddr, path::Path};

use serde_json::Value;
use testkit::{
    client::{self, Response},
    origin::{Origin, Reply},
};

use crate::process::Fanfare;

/// Two endpoints: one that is always reachable, and one that is not.
pub(super) struct Bed {
    pub(super) there: Origin,
    pub(super) away: Origin,
}

/// The settings of redelivery in every test: short delays between attempts.
pub(super) const FLAGS: [&str; 4] = ["--redeliver", "1h", "--redeliver-backoff", "20ms..200ms"];

impl Bed {
    /// One of them is away.
    pub(super) async fn new() -> Self {
        let bed = Self { there: Origin::start(Reply::ok("there")), away: Origin::start(Reply::ok("back")) };
        bed.away.stop_listening().await;
        bed
    }

    /// A process with these flags besides the usual ones.
    pub(super) async fn serve(&self, flags: &[&str]) -> Fanfare {
        let fanfare = Fanfare::broadcast(&self.addresses(), &[&FLAGS, flags].concat()).await;
        fanfare.wait_ready().await;
        fanfare
    }

    /// The same with a journal.
    pub(super) async fn serve_with(&self, journal: &Path, flags: &[&str]) -> Fanfare {
        let journal = journal.to_str().expect("a path of ASCII");
        self.serve(&[&["--redeliver-journal", journal], flags].concat()).await
    }

    pub(super) fn addresses(&self) -> [SocketAddr; 2] {
        [self.there.address(), self.away.address()]
    }

    /// The endpoint that was away is back.
    pub(super) async fn come_back(&self) {
        self.away.listen_again().await;
    }

    /// The targets of the requests that it got since, once it has this number of them.
    pub(super) async fn delivered(&self, count: usize) -> Vec<String> {
        let seen = self.away.wait_requests(count).await;
        seen.into_iter().map(|request| request.target).collect()
    }
}

pub(super) async fn put(fanfare: &Fanfare, target: &str) -> Response {
    client::request(fanfare.address(), "PUT", target, &[], target.as_bytes()).await.complete()
}

/// Sends a request that is owed to one endpoint, and returns the id of its job.
pub(super) async fn owe(fanfare: &Fanfare, target: &str) -> String {
    let answer = put(fanfare, target).await;
    let result = answer.header("x-broadcast-result").unwrap_or_default();
    assert!(result.ends_with(", deferred=1"), "{answer}");
    answer.header("x-broadcast-job").unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The answer of `/-/jobs`.
pub(super) async fn jobs(fanfare: &Fanfare, query: &str) -> Value {
    json(&client::get(fanfare.admin(), &format!("/-/jobs{query}")).await.complete().expect_status(200))
}

pub(super) fn json(answer: &Response) -> Value {
    serde_json::from_str(&answer.text()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The ids of the jobs in this state, the oldest first.
pub(super) async fn ids(fanfare: &Fanfare, state: &str) -> Vec<String> {
    let shown = jobs(fanfare, &format!("?state={state}")).await;
    let shown = shown["jobs"].as_array().expect("a list").iter();
    shown.rev().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

/// How its only journal is.
pub(super) async fn journal(fanfare: &Fanfare) -> Value {
    let journals = jobs(fanfare, "").await["journals"].clone();
    assert_eq!(journals.as_array().map(Vec::len), Some(1), "{journals}");
    journals[0].clone()
}
