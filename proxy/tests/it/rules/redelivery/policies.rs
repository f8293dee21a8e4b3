//! Rule: with `any` and quorums, missed and pending copies are on disk before the answer, and nothing is written without failures.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

use std::{fs, path::Path, time::Duration};

use h2::Reason;
use proxy::config::Policy;
use redeliver::view::Query;
use tempfile::{TempDir, tempdir};
use testkit::{
    client::Response,
    eventually,
    origin::{At, Gate, Origin, Reply},
};

use super::{jobs, redelivering, reset};
use crate::{
    fixture::{NEVER, Place, Proxy, Setup, bytes, ms, origin, origins, over},
    http2::{Client, request},
    http2_endpoints::{Does, Endpoint, over_h2},
};

fn with(setup: Setup, require: &str, grace: Duration, journal: &Path) -> Setup {
    let journal = journal.to_owned();
    let change = |policy: &mut Policy| {
        redelivering(policy, |it| (it.grace, it.journal, it.on_deferred) = (grace, Some(journal), Some(202)));
    };
    setup.require(require).policy(change)
}

fn any(places: &[&dyn Place], journal: &Path) -> Setup {
    with(over(places), "any", ms(5), journal)
}

/// The content of the disk if the process is killed now.
pub(super) fn disk_of(journal: &Path) -> TempDir {
    let copy = tempdir().unwrap();
    for entry in fs::read_dir(journal).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn result(answer: &Response) -> &str {
    answer.header("x-broadcast-result").unwrap()
}

fn targets(origin: &Origin) -> Vec<String> {
    origin.requests().into_iter().map(|seen| seen.target).collect()
}

/// An answer like this: for a moment more requests wait behind what the journal does not know to be settled yet.
async fn live(proxy: &Proxy, is_right: impl Fn(&Response) -> bool) -> Response {
    let asked = async || proxy.request("PURGE", "/y", &[], b"").await.complete();
    eventually!("a live request", asked().await, |answer| is_right(answer))
}

pub(super) async fn done(proxy: &Proxy, count: usize) {
    let all = |shown: &serde_json::Value| shown.as_array().unwrap().iter().filter(|job| job["state"] == "done").count();
    eventually!("the jobs are done", jobs(proxy), |shown| all(shown) == count);
}

#[tokio::test]
async fn where_every_leg_is_ok_within_the_grace_nothing_is_written() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate)]);
    let proxy = with(over(&[&a, &b]), "any", NEVER, journal.path()).start();
    let size = || proxy.metric("fanfare_journal_commit_seconds_count", &[]);
    let before = size();
    let asked = proxy.request("PURGE", "/x", &[], b"");
    let answer = async {
        gate.wait_reached(1).await;
        gate.release();
    };
    let (answer, ()) = tokio::join!(asked, answer);
    let answer = answer.expect_status(200);
    assert_eq!(answer.text(), "a");
    assert_eq!(result(&answer), "total=2, ok=2, failed=0, pending=0, required=1");
    assert!(answer.header("x-broadcast-job").is_none(), "{answer}");
    assert_eq!((jobs(&proxy), size()), (serde_json::json!([]), before));
}

#[tokio::test]
async fn a_pending_leg_that_ends_well_settles_what_was_written_and_is_not_sent_again() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate)]);
    let proxy = any(&[&a, &b], journal.path()).start();
    let answer = proxy.request("PUT", "/x", &[], b"value").await.expect_status(200);
    assert_eq!(result(&answer), "total=2, ok=1, failed=0, pending=1, required=1");
    let job = answer.header("x-broadcast-job").unwrap();
    let shown = jobs(&proxy)[0].clone();
    assert_eq!((&shown["id"], &shown["state"]), (&job.into(), &"owed".into()));
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 1, "only what is not ok: {shown}");
    assert_eq!(shown["deliveries"][0]["state"], "pending");
    gate.release();
    done(&proxy, 1).await;
    assert_eq!(jobs(&proxy)[0]["deliveries"][0]["state"], "delivered");
    // Whatever would be sent again, was sent before this.
    eventually!(
        "nothing is owed",
        proxy.request("PUT", "/y", &[], b"").await.header("x-broadcast-job").is_none(),
        |n| *n
    );
    assert_eq!(targets(&b).iter().filter(|target| *target == "/x").count(), 1);
}

#[tokio::test]
async fn a_pending_leg_that_misses_is_sent_again_and_what_comes_later_waits_behind_it() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let missed = Reply::ok("").hold(&gate).reset_at(At::Start);
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, [missed, Reply::ok("b")]));
    let proxy = any(&[&a, &b], journal.path()).start();
    proxy.request("PUT", "/1", &[], b"value").await.expect_status(200);
    let answer = proxy.request("PUT", "/2", &[], b"").await.expect_status(200);
    assert_eq!(result(&answer), "total=2, ok=1, failed=1, pending=0, required=1, deferred=1");
    gate.release();
    done(&proxy, 2).await;
    let seen = b.requests();
    assert_eq!(targets(&b), ["/1", "/1", "/2"]);
    let field = |n: usize, name: &str| seen[n].headers.get(name).map(ToOwned::to_owned);
    assert_eq!(field(0, "x-request-id"), field(1, "x-request-id"));
    assert_eq!(seen[1].text(), "value");
    assert_eq!([0, 1, 2].map(|n| field(n, "x-broadcast-attempt")), [None, Some("2".into()), Some("1".into())]);
    assert_eq!(targets(&a), ["/1", "/2"], "who has it does not get it again");
}

#[tokio::test]
async fn a_quorum_answers_with_what_it_has_and_the_rest_is_owed() {
    let journal = tempdir().unwrap();
    let (a, b, c) = (origin(0, Reply::ok("a")), origin(1, [reset(), Reply::ok("b")]), origin(2, Reply::ok("c")));
    let proxy = with(over(&[&a, &b, &c]), "majority", NEVER, journal.path()).start();
    let answer = proxy.request("PURGE", "/x", &[], b"").await.expect_status(200);
    assert_eq!(result(&answer), "total=3, ok=2, failed=1, pending=0, required=2, deferred=1");
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(a.address().to_string().as_str()));
    done(&proxy, 1).await;
    assert_eq!((a.requests().len(), b.requests().len(), c.requests().len()), (1, 2, 1));
    b.set(Reply::new(404));
    live(&proxy, |answer| answer.header("x-broadcast-job").is_none()).await.expect_status(200);
}

#[tokio::test]
async fn on_deferred_is_the_answer_of_a_quorum_that_failed_where_all_that_failed_is_deferred() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let [a, b, c] = origins([reset(), reset(), Reply::ok("c").hold(&gate)]);
    let proxy = with(over(&[&a, &b, &c]), "majority", ms(5), journal.path()).start();
    let answer = proxy.request("PURGE", "/x", &[], b"").await.expect_status(202);
    assert_eq!(result(&answer), "total=3, ok=0, failed=2, pending=1, required=2, deferred=2");
    gate.release();
    [&a, &b].into_iter().for_each(|origin| origin.set(Reply::ok("again")));
    done(&proxy, 1).await;
    assert_eq!(c.requests().len(), 1);
    [&a, &b].into_iter().for_each(|origin| origin.set(Reply::new(404)));
    let refused = "total=3, ok=1, failed=2, pending=0, required=2";
    let answer = live(&proxy, |answer| result(answer) == refused).await;
    assert_eq!(answer.status, 404, "a 404 is not missed");
}

#[tokio::test]
async fn a_process_that_is_killed_after_the_answer_delivers_what_was_pending_when_it_is_back() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let [a, b] = origins([Reply::ok(bytes(1 << 20)), Reply::ok("b").hold(&gate)]);
    let proxy = any(&[&a, &b], journal.path()).start();
    // The answer streams: its head has arrived, and not all of it is sent.
    let mut client = proxy.sent("PUT /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nvalue").await;
    let head = client.read_head("PUT").await;
    let disk = disk_of(journal.path());
    drop((client, proxy));
    b.set(Reply::ok("b"));
    let before = b.requests().len();
    let next = any(&[&a, &b], disk.path()).start();
    let seen = b.wait_requests(before + 1).await;
    assert_eq!(seen[before].text(), "value");
    done(&next, 1).await;
    assert_eq!(jobs(&next)[0]["id"], head.header("x-broadcast-job").unwrap());
    assert_eq!(a.requests().len(), 1);
}

#[tokio::test]
async fn a_leg_that_a_drain_cuts_stays_in_the_journal() {
    let journal = tempdir().unwrap();
    let [a, b] = origins([Reply::ok("a"), Reply::never()]);
    let mut proxy = any(&[&a, &b], journal.path()).start();
    proxy.request("PUT", "/x", &[], b"value").await.expect_status(200);
    proxy.drain(ms(1)).await;
    b.set(Reply::ok("b"));
    let next = any(&[&a, &b], journal.path()).start();
    done(&next, 1).await;
    // One copy may have begun as the drain did.
    assert!(targets(&b).len() >= 2 && targets(&b).iter().all(|target| target == "/x"));
    assert_eq!(b.requests().last().unwrap().text(), "value");
    assert_eq!(a.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_within_the_grace_is_taken_back() {
    let (journal, first, second) = (tempdir().unwrap(), Gate::new(), Gate::new());
    let cut = Reply::ok(bytes(1_000)).hold_at(At::Body(10), &first).close_at(At::Body(10));
    let (a, b) = (origin(0, [cut, Reply::ok("a")]), origin(1, Reply::ok("b").hold(&second)));
    let proxy = with(over(&[&a, &b]), "any", NEVER, journal.path()).start();
    let asked = proxy.request("PURGE", "/x", &[], b"");
    let open = async {
        tokio::join!(first.wait_reached(1), second.wait_reached(1));
        first.release();
        proxy.wait_leg(&a, "reset").await;
        second.release();
    };
    let (answer, ()) = tokio::join!(asked, open);
    let answer = answer.expect_status(200);
    assert_eq!(answer.text(), "b");
    assert_eq!(result(&answer), "total=2, ok=1, failed=1, pending=0, required=1, deferred=1");
    done(&proxy, 1).await;
    assert_eq!(a.requests().len(), 2);
}

#[tokio::test]
async fn the_same_over_http2() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let a = Endpoint::start(0, [Does::Answer(b"a".to_vec())]).await;
    let missed = Does::Reset(Reason::INTERNAL_ERROR).after(&gate);
    let b = Endpoint::start(1, [missed, Does::Answer(b"b".to_vec())]).await;
    let proxy = with(over_h2(&[&a, &b]), "any", ms(5), journal.path()).start();
    let client = Client::of(&proxy).await;
    let answer = client.send(request("PUT", "/1", &[]), Some(b"value")).await.unwrap();
    let result =
        |answer: &crate::http2::Answer| answer.head.headers()["x-broadcast-result"].to_str().unwrap().to_owned();
    assert_eq!((answer.head.status().as_u16(), &*answer.body), (200, &b"a"[..]));
    assert_eq!(result(&answer), "total=2, ok=1, failed=0, pending=1, required=1");
    let disk = disk_of(journal.path());
    let answer = client.send(request("PURGE", "/2", &[]), None).await.unwrap();
    assert_eq!(result(&answer), "total=2, ok=1, failed=1, pending=0, required=1, deferred=1");
    gate.release();
    done(&proxy, 2).await;
    let seen = b.wait(3).await;
    let of = |n: usize| (seen[n].head.uri().path().to_owned(), seen[n].head.headers()["x-request-id"].clone());
    assert_eq!((of(0), of(0).0, of(2).0), (of(1), "/1".into(), "/2".into()));
    assert_eq!(seen[1].body, b"value");
    assert_eq!(seen[1].head.headers()["x-broadcast-attempt"], "2");

    let next = with(over_h2(&[&a, &b]), "any", ms(5), disk.path()).start();
    done(&next, 1).await;
    assert_eq!(b.wait(4).await[3].body, b"value", "the killed process delivers what was pending");
    assert_eq!(a.wait(2).await.len(), 2);
    assert_eq!(next.handle.jobs(&Query::default()).len(), 1);
}
