//! Pending deliveries survive requests, crashes, drains and a successor.

use std::time::Instant;

use rustix::process::Signal;
use tempfile::tempdir;
use testkit::{client, eventually};

use super::bed::{Bed, ids, jobs, journal, json, owe, put};

#[tokio::test]
async fn an_endpoint_that_comes_back_gets_what_it_missed_in_order() {
    let bed = Bed::new().await;
    let fanfare = bed.serve(&["--on-deferred", "202"]).await;
    let began = Instant::now();
    let first = put(&fanfare, "/1").await.expect_status(202);
    assert_eq!(first.header("x-broadcast-result"), Some("total=2, ok=1, failed=1, pending=0, required=2, deferred=1"));
    let report =
        client::request(fanfare.address(), "PUT", "/2", &[("Accept", "application/vnd.broadcast+json")], b"/2");
    let report = json(&report.await.complete().expect_status(202));
    let outcomes: Vec<_> =
        report["results"].as_array().unwrap().iter().map(|result| result["outcome"].clone()).collect();
    assert!(outcomes.contains(&"deferred".into()) && report["job"].is_string(), "{report}");
    let last = owe(&fanfare, "/3").await;
    fanfare.stdout.wait("the entry", |log| log.contains(&format!(" job={last} "))).await;
    bed.come_back().await;
    assert_eq!(bed.delivered(3).await, ["/1", "/2", "/3"]);
    let seen = bed.away.requests();
    assert_eq!(seen[2].text(), "/3");
    assert_eq!(seen[0].headers.get("x-request-id"), bed.there.requests()[0].headers.get("x-request-id"));
    assert!(seen[0].headers.get("x-broadcast-attempt").is_some_and(|number| number.parse::<u32>().unwrap() > 1));
    let age = seen[0].headers.get("x-broadcast-age").and_then(|age| age.parse::<u64>().ok());
    assert!(age.is_some_and(|age| age <= began.elapsed().as_secs()), "{age:?} in whole seconds");
    eventually!("nothing is owed", ids(&fanfare, "done").await, |done| done.last() == Some(&last));
    let live = put(&fanfare, "/4").await.expect_status(200);
    assert!(live.header("x-broadcast-job").is_none(), "{live}");
    assert_eq!(bed.there.requests().len(), 4, "who has it does not get it again");
}

#[tokio::test]
async fn acknowledged_requests_survive_kill_9() {
    let (bed, journal) = (Bed::new().await, tempdir().unwrap());
    let mut fanfare = bed.serve_with(journal.path(), &["--on-deferred", "202"]).await;
    let mut owed = Vec::new();
    for target in ["/1", "/2", "/3"] {
        owed.push(owe(&fanfare, target).await);
    }
    fanfare.signal(Signal::KILL);
    fanfare.exit().await;
    bed.come_back().await;
    let fanfare = bed.serve_with(journal.path(), &["--on-deferred", "202"]).await;
    let has_jobs = |log: &str| log.contains("the journal has jobs with pending deliveries jobs=3 ");
    fanfare.stderr.wait("the number of jobs", has_jobs).await;
    assert_eq!(bed.delivered(3).await, ["/1", "/2", "/3"]);
    let bodies: Vec<_> = bed.away.requests().iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["/1", "/2", "/3"]);
    eventually!("all are done", ids(&fanfare, "done").await, |done| *done == owed);
    // The journal may not know yet that nothing is owed, and then a live request goes behind.
    eventually!("a live request", put(&fanfare, "/4").await.status, |status| *status == 200);
    assert_eq!(
        bed.there.requests()[..3].iter().map(|request| &*request.target).collect::<Vec<_>>(),
        ["/1", "/2", "/3"]
    );
}

#[tokio::test]
async fn a_drain_reports_pending_deliveries() {
    let (bed, journal) = (Bed::new().await, tempdir().unwrap());
    let away = bed.away.address();
    for (kept, told) in
        [(true, "pending deliveries stay in the journal"), (false, "pending deliveries are lost with this process")]
    {
        let fanfare = match kept {
            true => bed.serve_with(journal.path(), &[]).await,
            false => bed.serve(&[]).await,
        };
        owe(&fanfare, "/1").await;
        owe(&fanfare, "/2").await;
        fanfare.signal(Signal::TERM);
        let finished = fanfare.finish().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let line = finished.stderr.lines().find(|line| line.contains(told));
        let line = line.unwrap_or_else(|| panic!("{}", finished.stderr));
        assert!(line.contains("jobs=2") && line.contains(&format!("{away}=2")), "{line}");
    }
    bed.come_back().await;
    let _fanfare = bed.serve_with(journal.path(), &[]).await;
    assert_eq!(bed.delivered(2).await, ["/1", "/2"]);
}

#[tokio::test]
async fn a_process_beside_it_takes_the_journal_over() {
    let (bed, directory) = (Bed::new().await, tempdir().unwrap());
    let old = bed.serve_with(directory.path(), &[]).await;
    let first = owe(&old, "/1").await;
    let new = bed.serve_with(directory.path(), &[]).await;
    eventually!("it to wait for the journal", journal(&new).await, |journal| journal["state"] == "waiting");
    let second = owe(&new, "/2").await;
    assert_eq!(ids(&new, "owed").await, std::slice::from_ref(&second), "in memory");
    let told = new.stderr.wait("the journal", |log| log.contains("another process has the journal")).await;
    assert!(told.contains(directory.path().to_str().unwrap()), "{told}");
    old.signal(Signal::TERM);
    assert_eq!(old.finish().await.code, Some(0));
    eventually!("the journal", journal(&new).await, |journal| journal["state"] == "open");
    eventually!("what the old one owed", ids(&new, "owed").await, |owed| *owed == [first.clone(), second.clone()]);
    // Its jobs in memory are written at once.
    let metrics = async || client::get(new.admin(), "/metrics").await.complete().text();
    eventually!("a commit", metrics().await, |text| text.lines().any(|line| {
        let count = line.strip_prefix("fanfare_journal_commit_seconds_count ");
        count.is_some_and(|count| count != "0")
    }));
    new.signal(Signal::KILL);
    drop(new);
    bed.come_back().await;
    let last = bed.serve_with(directory.path(), &[]).await;
    assert_eq!(bed.delivered(2).await, ["/1", "/2"]);
    eventually!("both are done", ids(&last, "done").await, |done| *done == [first.clone(), second.clone()]);
    assert_eq!(jobs(&last, "").await["jobs"].as_array().map(Vec::len), Some(2));
}
