//! Rule: which failures are retried.

use proxy::config::Policy;
use testkit::origin::{At, Gate, Reading, Reply, Welcome};

use crate::fixture::{NEVER, Place, bytes, origin, origins, over, refusing};

#[tokio::test]
async fn nothing_is_tried_again_by_default() {
    let a = origin(0, Reply::ok("a").reset_at(At::Start));
    let proxy = over(&[&a]).start();
    assert_eq!(proxy.get("/").await.status, 502);
    assert_eq!((a.accepted(), a.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_transport_failure_is_tried_again_so_many_times() {
    let failing = || Reply::ok("a").reset_at(At::Start);
    let a = origin(0, [failing(), failing(), Reply::ok("third")]);
    let b = origin(1, Reply::ok("b"));
    let proxy = over(&[&a, &b]).policy(|p| p.retries = 2).start();
    let (status, report) = proxy.report("PUT", "/p", b"body").await;
    assert_eq!(status, 200, "{report}");
    assert_eq!((&report["results"][0]["attempts"], &report["results"][1]["attempts"]), (&3.into(), &1.into()));
    let seen = a.wait_requests(3).await;
    assert!(seen.iter().all(|r| r.text() == "body"), "the whole body each time");
    assert_eq!(b.requests().len(), 1, "only the endpoint that failed");

    a.set(failing());
    a.close_idle().await;
    let (status, report) = proxy.report("GET", "/p", b"").await;
    assert_eq!((status, &report["results"][0]["attempts"]), (502, &3.into()), "{report}");
}

#[tokio::test]
async fn an_answer_is_never_tried_again() {
    let [a] = origins([Reply::new(503)]);
    let proxy = over(&[&a]).policy(|p| p.retries = 3).start();
    proxy.get("/").await.expect_status(503);
    assert_eq!(a.requests().len(), 1);
    // Nor is half of an answer, or one that is not HTTP.
    for reply in [Reply::ok(bytes(1000)).reset_at(At::Body(10)), Reply::raw("SSH-2.0\r\n\r\n").then_close()] {
        let before = a.requests().len();
        a.set(reply);
        assert_eq!(proxy.get("/").await.status, 502);
        assert_eq!(a.requests().len(), before + 1);
    }
}

#[tokio::test]
async fn a_request_that_must_not_be_sent_twice_is_not() {
    let [a] = origins([Reply::ok("a").reset_at(At::Start)]);
    let proxy = over(&[&a]).policy(|p| p.retries = 3).start();
    for method in ["POST", "REFRESH", "PATCH"] {
        assert_eq!(proxy.request(method, "/", &[], b"body").await.status, 502, "{method}");
    }
    assert_eq!(a.requests().len(), 3);
}

#[tokio::test]
async fn where_nothing_was_written_any_request_can_be_tried_again() {
    let dead = refusing(0);
    let proxy = over(&[&dead]).policy(|p| p.retries = 2).start();
    let (status, report) = proxy.report("POST", "/", b"body").await;
    assert_eq!((status, &report["results"][0]["attempts"]), (502, &3.into()), "{report}");
    assert_eq!(proxy.legs(&dead, "connect"), 1, "one leg, whatever the number of attempts");
}

#[tokio::test]
async fn a_body_that_has_left_the_window_is_not_sent_again() {
    let gate = Gate::new();
    let a = origin(
        0,
        Reply::ok("a").reading(Reading::HeldAfter(2 << 20, gate.clone())).early().hold(&gate).reset_at(At::Start),
    );
    let proxy = over(&[&a]).policy(|p| p.retries = 3).total(NEVER).start();
    let body = bytes(4 << 20);
    let mut client = proxy.sent(format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    client.send(&body[..1 << 20]).await;
    a.wait_until("what no window holds", |j| j.requests.first().is_some_and(|r| r.body_length == 1 << 20)).await;
    gate.release();
    let _ = client.try_send(&body[1 << 20..]).await;
    assert_eq!(client.read_response("PUT").await.status, 502);
    assert_eq!(a.requests().len(), 1);
}

#[tokio::test]
async fn a_repeated_copy_has_the_whole_body_although_others_continued() {
    // The first copy breaks in the middle of the body. Until it is sent again its endpoint needs the window from the start.
    let a = origin(0, [Reply::ok("a").early().unread().reset_at(At::Start), Reply::ok("again")]);
    let b = origin(1, Reply::ok("b"));
    let policy = |p: &mut Policy| (p.retries, p.window, p.stream) = (1, Policy::MIN_WINDOW, true);
    let proxy = over(&[&a, &b]).policy(policy).total(NEVER).start();
    let body = bytes(1 << 20);
    let mut client = proxy.sent("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for (number, chunk) in body.chunks(16 << 10).enumerate() {
        client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
        if number == 0 {
            a.wait_closed().await;
        }
    }
    client.send("0\r\n\r\n").await;
    client.read_response("PUT").await.expect_status(200);
    let (seen, other) = (a.wait_requests(2).await, b.wait_requests(1).await);
    assert!(!seen[0].is_complete() && seen[1].is_complete() && other[0].is_complete());
    assert!(seen[1].body == body && other[0].body == body, "{} of {} bytes", seen[1].body.len(), body.len());
}

#[tokio::test]
async fn an_idle_connection_that_its_endpoint_closed_is_not_used() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for n in 1..=5 {
        proxy.post(b"body").await.expect_status(200);
        proxy.settled().await;
        assert_eq!(a.accepted(), n);
        a.close_idle().await;
    }
    assert!(a.requests().iter().all(|r| r.is_complete()));
    assert_eq!(proxy.legs(&a, "ok"), 5);
}

#[tokio::test]
async fn an_idle_connection_that_sent_something_unasked_is_not_used() {
    let a = origin(
        0,
        [
            Reply::raw(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
            ),
            Reply::ok("b"),
        ],
    );
    let proxy = over(&[&a]).start();
    assert_eq!(proxy.get("/1").await.expect_status(200).text(), "a");
    proxy.settled().await;
    assert_eq!(proxy.get("/2").await.expect_status(200).text(), "b", "the answer to this request, not the one before");
    assert_eq!(a.wait_requests(2).await[1].connection, 1);
}

#[tokio::test]
async fn an_idle_connection_that_dies_in_use_is_no_failure_of_an_idempotent_request() {
    let [a] = origins([[Reply::ok("first"), Reply::ok("").close_at(At::Start), Reply::ok("again")]]);
    let proxy = over(&[&a]).start();
    proxy.get("/1").await.expect_status(200);
    proxy.settled().await;
    assert_eq!(proxy.get("/2").await.expect_status(200).text(), "again");
    let seen = a.wait_requests(3).await;
    assert_eq!(seen.iter().map(|r| r.connection).collect::<Vec<_>>(), [0, 0, 1]);
}

#[tokio::test]
async fn an_idle_connection_that_dies_in_use_fails_a_request_that_must_not_be_sent_twice() {
    let [a] = origins([[Reply::ok("first"), Reply::ok("").close_at(At::Start), Reply::ok("again")]]);
    let proxy = over(&[&a]).start();
    proxy.get("/1").await.expect_status(200);
    proxy.settled().await;
    assert_eq!(proxy.post(b"body").await.status, 502);
    assert_eq!(a.wait_requests(2).await.len(), 2);
    assert_eq!(proxy.legs(&a, "reset"), 1);
}

#[tokio::test]
async fn which_requests_may_be_sent_twice_can_be_said() {
    let dying = || [Reply::ok("first"), Reply::ok("").close_at(At::Start), Reply::ok("again")];
    const KEY: (&str, &str) = ("Idempotency-Key", "\"8e03978e\"");
    type Case = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)], u16);
    let cases: [Case; 8] = [
        ("PURGE", &["PURGE", "BAN"], &[], 200),
        ("BAN", &["PURGE", "BAN"], &[], 200),
        ("purge", &["PURGE", "BAN"], &[], 502),
        ("POST", &["PURGE", "BAN"], &[], 502),
        ("POST", &["PURGE", "BAN"], &[KEY], 200),
        ("POST", &["PURGE", "BAN"], &[("Idempotency-Key", "")], 502),
        ("PURGE", &[], &[], 502),
        ("POST", &["POST"], &[], 200),
    ];
    for (method, idempotent, fields, status) in cases {
        let a = origin(0, dying());
        let setup = over(&[&a]).policy(|p| p.idempotent = idempotent.iter().map(|m| (*m).into()).collect());
        let proxy = setup.start();
        proxy.get("/1").await.expect_status(200);
        proxy.settled().await;
        assert_eq!(
            proxy.request(method, "/2", fields, b"body").await.status,
            status,
            "{method} {idempotent:?} {fields:?}"
        );
        let seen = a.wait_requests(if status == 200 { 3 } else { 2 }).await;
        assert!(seen[1..].iter().all(|r| r.method == method && r.text() == "body"), "{method}: {}", a.journal());
        for (name, value) in fields {
            assert!(seen[1..].iter().all(|r| r.headers.all(name) == [*value]), "the endpoints need it too");
        }
    }
}

#[tokio::test]
async fn retries_apply_to_what_may_be_sent_twice() {
    let failing = || Reply::ok("a").reset_at(At::Start);
    for (method, fields, status) in
        [("PURGE", &[][..], 200), ("POST", &[("Idempotency-Key", "k")], 200), ("POST", &[], 502)]
    {
        let a = origin(0, [failing(), Reply::ok("again")]);
        let proxy = over(&[&a]).policy(|p| p.retries = 1).start();
        assert_eq!(proxy.request(method, "/", fields, b"body").await.status, status, "{method} {fields:?}");
    }
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_a_failure_also_of_an_idempotent_request() {
    let a = origin(0, Reply::ok("a"));
    a.set_welcome(Welcome::CloseAfter(10));
    let proxy = over(&[&a]).start();
    assert_eq!(proxy.get("/").await.status, 502);
    assert_eq!(proxy.legs(&a as &dyn Place, "reset"), 1);
    assert_eq!(a.accepted(), 1);
}
