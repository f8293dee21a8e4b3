//! A configuration file that changes while something is owed.

use testkit::{client, eventually};

use super::bed::{Bed, ids, jobs, owe};
use crate::config_file::{ConfigFile, reload};

/// The text of a file with these routes. A route matches the path of its name.
pub(super) fn text(bed: &Bed, routes: &[(&str, &str)]) -> String {
    let endpoints = bed.addresses().map(|address| format!("'{address}'")).join(", ");
    let route = |(name, more): &(&str, &str)| {
        format!("    - {{name: {name}, match: {{path: /{name}}}, to: {{endpoints: [{endpoints}]}}, {more}}}\n")
    };
    let routes: String = routes.iter().map(route).collect();
    format!("admin: {{listen: '127.0.0.1:0'}}\nthreads: 1\nbroadcast:\n  - listen: 127.0.0.1:0\n    routes:\n{routes}")
}

/// The settings of redelivery of a route, with a journal of this name in the folder of the file.
pub(super) fn redeliver(file: &ConfigFile, journal: &str, more: &str) -> String {
    let journal = file.folder().join(journal);
    format!("redeliver: {{for: 1h, backoff: 20ms..200ms, journal: {}, {more}}}", journal.display())
}

#[tokio::test]
async fn a_reload_keeps_pending_deliveries() {
    let (bed, file) = (Bed::new().await, ConfigFile::missing());
    file.write(&text(&bed, &[("a", &redeliver(&file, "j", ""))]));
    let fanfare = file.serve().await;
    let id = owe(&fanfare, "/a").await;
    file.write(&text(&bed, &[("a", &format!("{}, on_deferred: 202", redeliver(&file, "j", "max_jobs: 5")))]));
    reload(&fanfare, "applied", 1).await;
    assert_eq!(ids(&fanfare, "owed").await, std::slice::from_ref(&id));
    let answer = client::request(fanfare.address(), "PUT", "/a", &[], b"").await.complete().expect_status(202);
    let second = answer.header("x-broadcast-job").unwrap().to_owned();
    bed.come_back().await;
    assert_eq!(bed.delivered(2).await, ["/a", "/a"]);
    eventually!("both are done", ids(&fanfare, "done").await, |done| *done == [id.clone(), second.clone()]);
}

#[tokio::test]
async fn deliveries_of_a_route_that_left_the_file_wait_until_it_is_back() {
    let (bed, file) = (Bed::new().await, ConfigFile::missing());
    let on = redeliver(&file, "j", "");
    file.write(&text(&bed, &[("a", &on), ("b", &on)]));
    let fanfare = file.serve().await;
    let (a, b) = (owe(&fanfare, "/a").await, owe(&fanfare, "/b").await);
    file.write(&text(&bed, &[("b", &on)]));
    reload(&fanfare, "applied", 1).await;
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, ["/b"]);
    eventually!("the one is done", ids(&fanfare, "done").await, |done| *done == [b.clone()]);
    assert_eq!(ids(&fanfare, "owed").await, std::slice::from_ref(&a), "the other one waits");
    file.write(&text(&bed, &[("a", &on), ("b", &on)]));
    reload(&fanfare, "applied", 2).await;
    assert_eq!(bed.delivered(2).await, ["/b", "/a"]);
    eventually!("both are done", ids(&fanfare, "done").await.len(), |done| *done == 2);
}

#[tokio::test]
async fn the_journal_cannot_change_and_no_pending_delivery_is_forgotten() {
    let (bed, file) = (Bed::new().await, ConfigFile::missing());
    file.write(&text(&bed, &[("a", &redeliver(&file, "j", "")), ("b", "require: any")]));
    let fanfare = file.serve().await;
    let id = owe(&fanfare, "/a").await;
    file.write(&text(&bed, &[("a", &redeliver(&file, "k", "")), ("b", "require: any")]));
    reload(&fanfare, "refused", 1).await;
    let told =
        "where missed requests are kept (another journal, or redelivery where there was none) cannot change while";
    fanfare.stderr.wait("the reason", |log| log.contains(told)).await;
    // A route that redelivers no longer: what it owes is still there.
    file.write(&text(&bed, &[("a", "require: all"), ("b", "require: any")]));
    reload(&fanfare, "applied", 1).await;
    assert_eq!(ids(&fanfare, "owed").await, std::slice::from_ref(&id));
    assert_eq!(jobs(&fanfare, "").await["journals"][0]["state"], "open");
    let path = format!("/-/jobs/{id}");
    client::request(fanfare.admin(), "DELETE", &path, &[], b"").await.complete().expect_status(204);
    assert_eq!(ids(&fanfare, "owed").await, [""; 0]);
}
