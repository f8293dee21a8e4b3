//! What the tests here have in common: how Fanfare is started, and what it says of what is owed.

use std::{net::SocketAddr, path::Path};

use testkit::client;

use crate::process::Fanfare;

/// Flags with which whatever is missed is sent again soon, from a journal in this directory.
pub(super) fn redelivering(journal: &Path) -> Vec<String> {
    let journal = journal.to_str().expect("a path of ASCII");
    let flags = ["--redeliver", "1h", "--redeliver-journal", journal, "--redeliver-backoff", "10ms..100ms"];
    flags.map(str::to_owned).into()
}

/// A broadcast on free ports to these endpoints, with the flags of [`redelivering`] and more.
pub(super) fn arguments(endpoints: &[SocketAddr], journal: &Path, more: &[&str]) -> Vec<String> {
    let list = endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let fixed = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "2", "--access-log", "off"];
    let own = ["--endpoints", &list, "--on-deferred", "202"];
    let flags = fixed.iter().chain(&own).chain(more).map(|flag| (*flag).to_owned());
    flags.chain(redelivering(journal)).collect()
}

/// The sum of a metric over its series; none where it has no series.
pub(super) async fn metric(fanfare: &Fanfare, name: &str) -> Option<f64> {
    let text = client::get(fanfare.admin(), "/metrics").await.complete().text();
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let own = rest.starts_with('{') || rest.starts_with(' ');
        own.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    });
    values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or_default() + value))
}

/// How many deliveries are owed.
pub(super) async fn owed(fanfare: &Fanfare) -> f64 {
    assert!(metric(fanfare, "fanfare_deliveries_total").await.is_some(), "it sends again what is missed");
    // An endpoint that is owed nothing has no series.
    metric(fanfare, "fanfare_deliveries_owed").await.unwrap_or_default()
}

/// Waits until nobody is owed anything, also of what a journal had.
pub(super) async fn until_all_have_everything(fanfare: &Fanfare) {
    let writable = async || metric(fanfare, "fanfare_journal_writable").await;
    testkit::eventually!("the journal to be read", writable().await, |writable| *writable == Some(1.0));
    testkit::eventually!("nobody to be owed anything", owed(fanfare).await, |owed| *owed == 0.0);
}
