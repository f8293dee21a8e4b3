//! Rule: requests that an endpoint missed are sent to it again, in order, and the answer says so.

mod bodies;
mod grpc;
mod opening;
mod order;
mod policies;
mod respond_async;

use std::{path::Path, sync::Arc, time::Duration};

use proxy::config::{Policy, Redeliver};
use redeliver::view::Query;
use tempfile::tempdir;
use testkit::{
    eventually,
    origin::{At, Origin, Reply},
};

use crate::fixture::{NEVER, Proxy, Setup, origin, origins, over};

fn redelivering(policy: &mut Policy, change: impl FnOnce(&mut Redeliver)) {
    let mut redeliver = Redeliver::lasting(Duration::from_secs(600));
    redeliver.limits.backoff = (Duration::from_millis(20), Duration::from_millis(100));
    change(&mut redeliver);
    policy.redeliver = Some(Arc::new(redeliver));
}

fn setup(a: &Origin, b: &Origin) -> Setup {
    over(&[a, b]).policy(|policy| redelivering(policy, |_| {}))
}

fn reset() -> Reply {
    Reply::ok("b").reset_at(At::Start)
}

fn jobs(proxy: &Proxy) -> serde_json::Value {
    serde_json::to_value(&proxy.handle.jobs(&Query::default())[0].jobs).expect("jobs are JSON")
}

#[tokio::test]
async fn a_copy_that_was_missed_is_sent_again_and_the_answer_names_its_job() {
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, [reset(), Reply::ok("b")]));
    let proxy = setup(&a, &b).start();
    let answer = proxy.request("PUT", "/x?y", &[("X-Own", "kept")], b"value").await.complete();
    assert_eq!(answer.status, 502, "{answer}");
    let result = answer.headers.get("x-broadcast-result").unwrap();
    assert_eq!(result, "total=2, ok=1, failed=1, pending=0, required=2, deferred=1");
    let job = answer.headers.get("x-broadcast-job").unwrap().to_owned();
    let seen = b.wait_requests(2).await;
    let id = |n: usize| seen[n].headers.get("x-request-id").unwrap().to_owned();
    assert_eq!(id(0), id(1), "the same request");
    let (first, again) = (String::from_utf8_lossy(&seen[0].head), String::from_utf8_lossy(&seen[1].head));
    let lines = again.replace("X-Broadcast-Attempt: 2\r\nX-Broadcast-Age: 0\r\n", "");
    assert_eq!(lines, first, "and nothing else is different");
    assert_eq!(seen[1].text(), "value");
    eventually!("the job is done", jobs(&proxy)[0]["state"].clone(), |state| state == "done");
    let shown = jobs(&proxy)[0].clone();
    assert_eq!((&shown["id"], &shown["method"], &shown["uri"]), (&job.into(), &"PUT".into(), &"/x?y".into()));
    assert_eq!(shown["deliveries"][0]["attempts"], 2);
    assert_eq!(a.requests().len(), 1, "who has it does not get it again");
    proxy.request("PUT", "/x", &[], b"live").await.expect_status(200);
}

#[tokio::test]
async fn while_an_endpoint_is_owed_something_later_requests_wait_behind_it() {
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, reset()));
    let proxy = setup(&a, &b).start();
    proxy.request("PUT", "/1", &[], b"").await.expect_status(502);
    for n in [2, 3] {
        let (status, report) = proxy.report("PUT", &format!("/{n}"), b"").await;
        assert_eq!(status, 503, "{report}");
        assert_eq!(report["results"][1]["outcome"], "deferred");
        assert!(report["job"].as_str().is_some_and(|job| job.len() == 16), "{report}");
    }
    b.set(Reply::ok("b"));
    let done = |shown: &serde_json::Value| shown.as_array().unwrap().iter().all(|job| job["state"] == "done");
    eventually!("all are done", jobs(&proxy), |shown| done(shown));
    let seen: Vec<String> = b.requests().iter().map(|seen| seen.target.clone()).collect();
    let last: Vec<&str> = seen.iter().rev().take(3).rev().map(String::as_str).collect();
    assert_eq!(last, ["/1", "/2", "/3"], "{seen:?}");
    assert!(seen[..seen.len() - 3].iter().all(|target| target == "/1"), "nothing went first: {seen:?}");
    assert_eq!(a.requests().len(), 3);
}

#[tokio::test]
async fn on_deferred_is_the_answer_only_where_every_failure_is_deferred() {
    let [a, b] = origins([Reply::ok("a"), reset()]);
    let proxy = over(&[&a, &b]).policy(|policy| redelivering(policy, |it| it.on_deferred = Some(202))).start();
    proxy.request("PURGE", "/x", &[], b"").await.expect_status(202);
    let (status, _) = proxy.report("PURGE", "/x", b"").await;
    assert_eq!(status, 202);
    a.set(Reply::new(404));
    let answer = proxy.request("PURGE", "/y", &[], b"").await.complete();
    assert_ne!(answer.status, 202, "a 404 is never sent again: {answer}");
    assert!(answer.headers.get("x-broadcast-result").unwrap().ends_with("failed=2, pending=0, required=2, deferred=1"));
}

#[tokio::test]
async fn methods_and_outcomes_outside_the_lists_are_not_sent_again() {
    let [a, b] = origins([Reply::ok("a"), reset()]);
    let proxy = setup(&a, &b).start();
    for (method, reply) in [("POST", reset()), ("PURGE", Reply::new(404))] {
        b.set(reply);
        let answer = proxy.request(method, "/x", &[], b"").await.complete();
        assert!(answer.headers.get("x-broadcast-job").is_none(), "{answer}");
    }
    assert_eq!(jobs(&proxy), serde_json::json!([]));
}

#[tokio::test]
async fn with_a_journal_the_next_process_sends_pending_deliveries() {
    let directory = tempdir().unwrap();
    let [a, b] = origins([Reply::ok("a"), reset()]);
    let start = |directory: &Path| {
        let policy = |policy: &mut Policy| redelivering(policy, |it| it.journal = Some(directory.to_owned()));
        over(&[&a, &b]).policy(policy).start()
    };
    let mut proxy = start(directory.path());
    let answer = proxy.request("PUT", "/x", &[], b"value").await.complete();
    let job = answer.headers.get("x-broadcast-job").unwrap().to_owned();
    proxy.drain(NEVER).await;
    b.set(Reply::ok("b"));
    let before = b.requests().len();
    let proxy = start(directory.path());
    let seen = b.wait_requests(before + 1).await;
    assert_eq!(seen[before].text(), "value");
    eventually!("the job is done", jobs(&proxy)[0].clone(), |shown| shown["state"] == "done" && shown["id"] == *job);
    // The journal may not have recorded the delivery yet.
    let live = async || proxy.request("PUT", "/x", &[], b"live").await.status;
    eventually!("a live request", live().await, |status| *status == 200);
}
