//! The driver with a journal: persistence, take-over by another process, and answers while the disk fails.

use super::{Endpoints, limits, miss, text, waits};

use redeliver::{
    Redelivery,
    core::{Refused, RouteId, Why},
    rules::Rules,
    view::Query,
};
use std::path::Path;
use tempfile::tempdir;
use testkit::eventually;

async fn start(directory: &Path) -> (Redelivery, RouteId) {
    let redelivery = Redelivery::start(limits(), Some(directory), fastrand::u64(..)).unwrap();
    let route = redelivery.route("purges", Rules::default());
    redelivery.until_read().await;
    (redelivery, route)
}

fn state(redelivery: &Redelivery) -> String {
    serde_json::to_value(redelivery.journal()).unwrap()["state"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_1_and_2_pending_deliveries_are_sent_first_after_a_restart() {
    let directory = tempdir().unwrap();
    let endpoints = Endpoints::new(&["a"]);
    endpoints.set_up("a", false);
    let (redelivery, route) = start(directory.path()).await;
    let running = endpoints.run(&redelivery);
    let mut ids = Vec::new();
    for target in ["/1", "/2", "/3"] {
        ids.push(miss(&redelivery, route, target, &["a"]).await.unwrap());
    }
    running.drain().await;
    assert_eq!(miss(&redelivery, route, "/4", &["a"]).await, Err(Refused(Why::Journal)), "the process ends");
    drop(redelivery);

    let (redelivery, route) = start(directory.path()).await;
    assert!(waits(&redelivery, route, "a"), "the journal is read before anybody is let in");
    assert_eq!(redelivery.owed(), 3);
    assert!(redelivery.job(ids[0]).is_some());
    endpoints.set_up("a", true);
    let running = endpoints.run(&redelivery);
    ids.push(miss(&redelivery, route, "/5", &["a"]).await.unwrap());
    eventually!("all of it", endpoints.received("a"), |received| received.len() == 4);
    let received = endpoints.received("a");
    assert_eq!(received.iter().map(|copy| copy.job).collect::<Vec<_>>(), ids);
    assert_eq!(&*received[3].request.target, "/5");
    eventually!("nothing is owed on disk either", waits(&redelivery, route, "a"), |waits| !*waits);
    let shown = text(&redelivery);
    for name in ["fanfare_journal_bytes ", "fanfare_journal_writable 1\n", "fanfare_journal_commit_seconds_count "] {
        assert!(shown.contains(name), "{name} in {shown}");
    }
    running.drain().await;
    drop(redelivery);

    let (redelivery, _) = start(directory.path()).await;
    assert_eq!(redelivery.owed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_second_process_keeps_jobs_in_memory_until_it_takes_over() {
    let directory = tempdir().unwrap();
    let (before, after) = (Endpoints::new(&["a"]), Endpoints::new(&["a"]));
    before.set_up("a", false);
    after.set_up("a", false);
    let (old, old_route) = start(directory.path()).await;
    let running = before.run(&old);
    let first = miss(&old, old_route, "/1", &["a"]).await.unwrap();

    let (new, route) = start(directory.path()).await;
    assert_eq!(state(&new), "waiting");
    let taking = after.run(&new);
    let second = miss(&new, route, "/2", &["a"]).await.unwrap();
    assert_eq!(new.owed(), 1, "in memory");
    running.drain().await;
    eventually!("the journal", state(&new), |state| state == "open");
    eventually!("what the first one owed", new.owed(), |owed| *owed == 2);
    taking.drain().await;
    drop(new);

    let (last, _) = start(directory.path()).await;
    after.set_up("a", true);
    let running = after.run(&last);
    eventually!("both", after.received("a"), |received| received.len() == 2);
    assert_eq!(after.received("a").iter().map(|copy| copy.job).collect::<Vec<_>>(), [first, second]);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_while_the_disk_fails_the_answer_is_the_plain_failure_and_the_queues_go_on() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("journal");
    std::fs::write(&path, "no directory").unwrap();
    let endpoints = Endpoints::new(&["a"]);
    let (redelivery, route) = start(&path).await;
    let running = endpoints.run(&redelivery);
    assert_eq!(state(&redelivery), "failed");
    assert_eq!(miss(&redelivery, route, "/1", &["a"]).await, Err(Refused(Why::Journal)));
    assert!(!waits(&redelivery, route, "a"), "live requests go on");
    let shown = text(&redelivery);
    assert!(shown.contains("fanfare_journal_writable 0\n") && shown.contains("result=\"refused\"} 1\n"), "{shown}");
    std::fs::remove_file(&path).unwrap();
    eventually!("the journal", state(&redelivery), |state| state == "open");
    miss(&redelivery, route, "/2", &["a"]).await.unwrap();
    eventually!("it arrives", endpoints.received("a"), |received| received.len() == 1);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_damaged_journal_is_shown_with_its_new_name() {
    let directory = tempdir().unwrap();
    std::fs::write(directory.path().join("journal.redb"), "something else").unwrap();
    let (redelivery, route) = start(directory.path()).await;
    miss(&redelivery, route, "/1", &["a"]).await.unwrap();
    let shown = serde_json::to_value(redelivery.jobs(&Query::default())).unwrap();
    assert_eq!(shown["jobs"].as_array().unwrap().len(), 1);
    let aside = shown["journal"]["damaged"]["file"].as_str().unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), b"something else");
    assert!(text(&redelivery).contains("fanfare_journal_damaged_total 1\n"));
    Endpoints::new(&["a"]).run(&redelivery).abort();
}
