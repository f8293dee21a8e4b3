//! Rule: `Prefer: respond-async` is answered as soon as the journal has the request, where the route allows it; then the legs run.

use std::path::Path;

use proxy::config::Redeliver;
use tempfile::tempdir;
use testkit::{
    client::Response,
    eventually,
    origin::{Gate, Reply},
};

use super::{
    jobs,
    policies::{disk_of, done},
    redelivering, reset,
};
use crate::{
    fixture::{NEVER, Place, Proxy, Setup, bytes, ms, origin, origins, over},
    http2::{Client, request},
};

const ASYNC: (&str, &str) = ("Prefer", "wait=10, Respond-Async");

fn setup(places: &[&dyn Place], journal: &Path, change: impl FnOnce(&mut Redeliver)) -> Setup {
    let journal = journal.to_owned();
    over(places).total(NEVER).policy(|policy| {
        redelivering(policy, |it| {
            (it.journal, it.respond_async) = (Some(journal), true);
            change(it);
        });
    })
}

async fn send(proxy: &Proxy, method: &str, path: &str, body: &[u8]) -> Response {
    proxy.request(method, path, &[ASYNC], body).await.complete()
}

fn is_plain(answer: &Response) -> bool {
    answer.status != 202 && answer.header("preference-applied").is_none()
}

#[tokio::test]
async fn it_is_answered_before_any_endpoint_has_answered_and_every_endpoint_gets_it() {
    let (journal, gate) = (tempdir().unwrap(), Gate::new());
    let [a, b] = origins([Reply::ok("a").hold(&gate), Reply::ok("b").hold(&gate)]);
    let proxy = setup(&[&a, &b], journal.path(), |_| {}).start();
    // More than a window.
    let body = bytes(700 << 10);
    let answer = send(&proxy, "PUT", "/x", &body).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, Some("respond-async")), "{answer}");
    assert_eq!(answer.header("x-broadcast-result"), Some("total=2, ok=0, failed=0, pending=2, required=2"));
    let shown = jobs(&proxy)[0].clone();
    assert_eq!(shown["id"], answer.header("x-broadcast-job").unwrap());
    for delivery in shown["deliveries"].as_array().unwrap() {
        assert_eq!(delivery["state"], "pending", "{shown}");
    }
    gate.release();
    done(&proxy, 1).await;
    for origin in [&a, &b] {
        let seen = origin.requests();
        assert_eq!((seen.len(), seen[0].body == body), (1, true));
        assert!(seen[0].headers.get("x-broadcast-attempt").is_none(), "it is the first");
    }
    assert_eq!(proxy.completed("ok"), 1);
}

#[tokio::test]
async fn the_time_of_the_journal_is_none_of_the_endpoints_time() {
    let journal = tempdir().unwrap();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    // It takes longer to write this body than endpoints may take to connect.
    let body = bytes(32 << 20);
    let proxy = setup(&[&a, &b], journal.path(), |it| it.rules.max_body = body.len())
        .policy(|policy| policy.timeouts.connect = ms(500))
        .start();
    assert_eq!(send(&proxy, "PUT", "/x", &body).await.status, 202);
    done(&proxy, 1).await;
    for origin in [&a, &b] {
        assert_eq!(proxy.legs(origin, "timeout"), 0);
        assert!(origin.requests()[0].body == body && origin.requests().len() == 1);
    }
}

#[tokio::test]
async fn missed_copies_are_sent_again_and_pending_deliveries_go_first() {
    let journal = tempdir().unwrap();
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, reset()));
    let proxy = setup(&[&a, &b], journal.path(), |_| {}).start();
    assert_eq!(send(&proxy, "PUT", "/1", b"").await.status, 202);
    b.wait_requests(1).await;
    let shown = || jobs(&proxy)[0]["deliveries"][1]["state"].clone();
    eventually!("it is missed", shown(), |state| state == "owed");
    assert_eq!(send(&proxy, "PUT", "/2", b"").await.status, 202);
    b.set(Reply::ok("b"));
    done(&proxy, 2).await;
    let seen: Vec<_> = b.requests().into_iter().map(|seen| seen.target).collect();
    assert!(
        seen.ends_with(&["/1".into(), "/2".into()]) && seen.iter().filter(|target| *target == "/2").count() == 1,
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_process_that_is_killed_after_the_answer_delivers_it_to_all_when_it_is_back() {
    let journal = tempdir().unwrap();
    let [a, b] = origins([Reply::never(), Reply::never()]);
    let proxy = setup(&[&a, &b], journal.path(), |_| {}).start();
    let client = Client::of(&proxy).await;
    let asked = request("PUT", "/x", &[("prefer", "respond-async")]);
    let answer = client.send(asked, Some(b"value")).await.unwrap();
    assert_eq!((answer.head.status().as_u16(), answer.body.len()), (202, 0));
    assert_eq!(answer.head.headers()["preference-applied"], "respond-async");
    let disk = disk_of(journal.path());
    drop((client, proxy));
    let before = [&a, &b].map(|origin| {
        origin.set(Reply::ok("late"));
        origin.requests().len()
    });
    let next = setup(&[&a, &b], disk.path(), |_| {}).start();
    for (origin, before) in [&a, &b].into_iter().zip(before) {
        assert_eq!(origin.wait_requests(before + 1).await.last().unwrap().text(), "value");
    }
    done(&next, 1).await;
}

#[tokio::test]
async fn without_leave_method_or_room_it_is_a_request_like_any_other() {
    let journal = tempdir().unwrap();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let all = |change: fn(&mut Redeliver)| setup(&[&a, &b], journal.path(), change);
    let proxy = all(|it| it.respond_async = false).start();
    let plain = send(&proxy, "PUT", "/x", b"").await;
    assert!(is_plain(&plain) && plain.status == 200, "{plain}");
    drop(proxy);
    let journal = tempdir().unwrap();
    let all = |change: fn(&mut Redeliver)| setup(&[&a, &b], journal.path(), change);
    let proxy = all(|it| (it.limits.max_jobs, it.rules.max_body) = (0, 10)).start();
    for (method, body) in [("POST", "of no such method"), ("PUT", "too long to be kept"), ("PUT", "no room")] {
        let plain = send(&proxy, method, "/x", body.as_bytes()).await;
        assert!(is_plain(&plain) && plain.status == 200, "{body}: {plain}");
        assert_eq!(plain.header("x-broadcast-result"), Some("total=2, ok=2, failed=0, pending=0, required=2"));
    }
    for preference in ["respond-asynchronously", "handling=lenient", "respond-async=no"] {
        let answer = proxy.request("PUT", "/x", &[("Prefer", preference)], b"").await;
        assert!(is_plain(&answer), "{preference}: {answer}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_owed_something_gets_nothing_out_of_turn_where_there_is_no_room() {
    let journal = tempdir().unwrap();
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, reset()));
    let proxy = setup(&[&a, &b], journal.path(), |it| it.limits.max_jobs = 1).start();
    assert!(proxy.request("PUT", "/1", &[], b"").await.header("x-broadcast-job").is_some());
    let plain = send(&proxy, "PUT", "/2", b"").await;
    assert!(is_plain(&plain) && plain.status == 503, "{plain}");
    assert!(plain.text().contains("not deferred: pending jobs have reached --redeliver-max-jobs"), "{plain}");
    assert!(b.requests().iter().all(|seen| seen.target == "/1"));
}
