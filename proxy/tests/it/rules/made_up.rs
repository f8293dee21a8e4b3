//! Rule: generated answers explain what happened, for people and for machines.

use std::sync::Arc;

use proxy::config::Success;
use testkit::{
    eventually,
    origin::{At, BlackHole, Gate, Origin, Reply},
};

use crate::fixture::{NEVER, assert_made_up, bytes, ms, origin, origins, over, refusing, result_of};

#[tokio::test]
async fn no_endpoint_is_503() {
    let proxy = over(&[]).start();
    let answer = proxy.post(b"body").await;
    assert_made_up(&answer, 503, "destination_unavailable");
    assert_eq!(result_of(&answer), [0, 0, 0, 0, 0]);
    assert_eq!(proxy.results("empty"), 1);
}

#[tokio::test]
async fn no_endpoint_can_be_told_to_be_something_else() {
    for status in [200, 204, 404] {
        let proxy = over(&[]).policy(|p| p.on_empty = status).start();
        let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = client.read_response("GET").await.expect_status(status);
        assert_eq!(answer.body.is_empty(), status < 400, "{answer}");
        assert!(answer.keeps_alive);
    }
}

#[tokio::test]
async fn without_a_list_of_endpoints_nothing_can_be_told_to_be_a_success() {
    let proxy = over(&[]).policy(|p| p.on_empty = 204).start();
    assert_eq!(proxy.get("/").await.status, 204, "an empty list is a list");
    proxy.unpublish();
    eventually!("the list to be gone", proxy.handle.routes()[0].has_list, |has_list| !has_list);
    assert_made_up(&proxy.get("/").await, 503, "destination_unavailable");
    let routes = proxy.handle.routes();
    assert!(!routes[0].has_list && routes[0].why_none.contains("no list"), "{routes:?}");
}

#[tokio::test]
async fn transport_failures_are_502() {
    let dead = refusing(0);
    assert_made_up(&over(&[&dead]).start().get("/").await, 502, "connection_refused");

    let [a] = origins([Reply::ok("a").reset_at(At::Start)]);
    let proxy = over(&[&a]).start();
    assert_made_up(&proxy.get("/").await, 502, "connection_terminated");
    a.set(Reply::ok(bytes(1000)).close_at(At::Body(10)));
    assert_made_up(&proxy.get("/").await, 502, "http_response_incomplete");
    a.set(Reply::raw("nonsense\r\n\r\n"));
    assert_made_up(&proxy.get("/").await, 502, "http_protocol_error");
    a.set(Reply::raw("HTTP/1.1 2").then_close());
    assert_made_up(&proxy.get("/").await, 502, "http_response_incomplete");
}

#[tokio::test]
async fn an_endpoint_that_speaks_something_else_is_told_with_the_setting_for_it() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for (said, told) in [
        (&b"\x15\x03\x03\x00\x02\x02\x46"[..], "but TLS: use --upstream-tls"),
        (b"\0\0\0\x04\0\0\0\0\0", "but HTTP/2: use --upstream-protocol h2"),
        (b"SSH-2.0-OpenSSH_9\r\n", "it has sent something else"),
    ] {
        a.set(Reply::raw(said).then_close());
        let answer = proxy.get("/").await.complete();
        assert_made_up(&answer, 502, "http_protocol_error");
        assert!(answer.text().contains("does not speak HTTP/1.1") && answer.text().contains(told), "{answer}");
    }
}

#[tokio::test]
async fn time_running_out_is_504_unless_told_otherwise() {
    let hole = BlackHole::silent();
    let proxy = over(&[&hole]).total(ms(200)).start();
    assert_eq!(proxy.get("/").await.status, 504);
    for status in [200, 202, 408] {
        let proxy = over(&[&hole]).total(ms(100)).policy(|p| p.on_timeout = status).start();
        assert_eq!(proxy.get("/").await.complete().status, status);
    }
}

#[tokio::test]
async fn rejected_is_503() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("a").hold(&gate)]);
    let proxy = over(&[&a]).limits(|l| l.inflight_per_endpoint = 1).total(NEVER).start();
    let mut first = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    gate.wait_reached(1).await;
    assert_made_up(&proxy.get("/").await, 503, "connection_limit_reached");
    gate.release();
    first.read_response("GET").await.expect_status(200);
}

#[tokio::test]
async fn too_large_is_413_414_or_431() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a])
        .policy(|p| p.max_body = Some(100))
        .listener(|l| (l.head.target, l.head.bytes, l.head.fields) = (200, 2000, 10))
        .start();
    assert_made_up(&proxy.post(&[b'x'; 101]).await, 413, "http_request_error");
    let target = format!("/{}", "a".repeat(200));
    assert_made_up(&proxy.get(&target).await, 414, "http_request_error");
    let value = "v".repeat(2000);
    assert_made_up(&proxy.request("GET", "/", &[("X", &value)], b"").await, 431, "http_request_error");
    let many: Vec<_> = (0..11).map(|_| ("X", "v")).collect();
    assert_made_up(&proxy.request("GET", "/", &many, b"").await, 431, "http_request_error");
    a.assert_untouched();
    // What is just allowed is allowed.
    proxy.get(&target[..200]).await.expect_status(200);
    proxy.request("GET", "/", &many[..9], b"").await.expect_status(200);
    proxy.post(&[b'x'; 100]).await.expect_status(200);
}

#[tokio::test]
async fn what_no_route_takes_is_404_and_what_is_not_allowed_403() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).listener(|l| {
        Arc::make_mut(&mut l.routes[0]).matches = "PURGE,GET /cache/*".parse().unwrap();
        l.allow = vec!["PURGE,POST /*".parse().unwrap()];
    });
    let proxy = proxy.start();
    assert_eq!(proxy.request("GET", "/cache/a", &[], b"").await.complete().status, 403);
    assert_eq!(proxy.request("POST", "/cache/a", &[], b"x").await.complete().status, 404);
    a.assert_untouched();
    proxy.request("PURGE", "/cache/a", &[], b"").await.expect_status(200);
}

#[tokio::test]
async fn which_statuses_are_a_success_can_be_said() {
    let [a, b] = origins([Reply::new(404).body("a"), Reply::ok("b")]);
    let success = || Success::parse(["2xx", "PURGE=200,404"]).unwrap();
    let proxy = over(&[&a, &b]).policy(|p| p.success = success()).start();
    let answer = proxy.request("PURGE", "/", &[], b"").await.expect_status(404);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("a", [2, 2, 0, 0, 2]), "the first in order, a success");
    let answer = proxy.request("BAN", "/", &[], b"").await.expect_status(404);
    assert_eq!(result_of(&answer), [2, 1, 1, 0, 2]);
    a.set(Reply::new(302).header("Location", "/x"));
    assert_eq!(result_of(&proxy.get("/").await.expect_status(302)), [2, 1, 1, 0, 2], "302 was not named");
}

#[tokio::test]
async fn by_default_a_redirect_is_a_success_and_passed_on() {
    let [a] = origins([Reply::new(302).header("Location", "/x")]);
    let proxy = over(&[&a]).start();
    let answer = proxy.get("/").await.expect_status(302);
    assert_eq!((answer.header("location"), result_of(&answer)), (Some("/x"), [1, 1, 0, 0, 1]));
}

#[tokio::test]
async fn a_made_up_answer_to_head_has_no_body_and_keeps_the_connection() {
    let dead = refusing(0);
    let proxy = over(&[&dead]).start();
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = client.read_response("HEAD").await.expect_status(502);
        assert!(answer.keeps_alive && answer.body.is_empty(), "{answer}");
        assert!(client.is_quiet(), "no body follows");
    }
}

#[tokio::test]
async fn a_head_that_is_refused_is_answered_without_a_body_where_it_is_a_head() {
    let proxy = over(&[]).start();
    for (method, is_bodiless) in [("HEAD", true), ("GET", false)] {
        let mut client = proxy.sent(format!("{method} / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")).await;
        let answer = client.read_head(method).await;
        assert_eq!(answer.status, 400, "{answer}");
        assert!(answer.header("content-length").is_some_and(|length| length != "0"), "{answer}");
        let (body, _) = client.read_to_end().await;
        assert_eq!(body.is_empty(), is_bodiless, "{method}: {body:?}");
    }
}

#[tokio::test]
async fn what_an_endpoint_says_cannot_break_the_text_of_a_made_up_answer() {
    let a = Origin::start(Reply::raw("HTTP/1.1 200 \"\\\x7f\r\nA\x01: b\r\n\r\n"));
    let b = origin(3, Reply::ok("b"));
    let proxy = over(&[&a, &b]).start();
    assert_made_up(&proxy.get("/").await, 502, "http_protocol_error");
}
