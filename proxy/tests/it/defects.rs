//! The thirteen defects of the tool that this one replaces, each as a regression test.

use snapshot::Endpoint;
use testkit::origin::{At, BlackHole, Gate, Reply, Welcome};

use crate::fixture::{Place, Setup, assert_made_up, bytes, ms, origin, origins, over, refusing, result_of, sized_post};

#[tokio::test]
async fn defect_1_the_body_of_a_failed_answer_reaches_the_client_whole() {
    let body = bytes(20_000);
    let [a, b] = origins([Reply::ok("fine"), Reply::new(500).body(&body)]);
    let proxy = over(&[&a, &b]).start();
    let answer = proxy.post(b"x").await.expect_status(500);
    assert_eq!(answer.header("content-length"), Some("20000"));
    assert_eq!(answer.body, body);
}

#[tokio::test]
async fn defect_2_availability_answers_although_another_endpoint_has_not() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("late").hold(&gate), Reply::ok("small")]);
    let proxy = over(&[&a, &b]).require("any").start();
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!(answer.text(), "small");
    assert!(!gate.is_open(), "the whole answer was read while the other endpoint held its own");
    gate.release();
    proxy.wait_leg(&a, "ok").await;
}

#[tokio::test]
async fn defect_3_a_time_out_after_the_answer_writes_no_second_one() {
    let [a, b] = origins([Reply::ok("first"), Reply::never()]);
    let proxy = over(&[&a, &b]).require("any").total(ms(1000)).start();
    let mut client = proxy.sent("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.read_response("GET").await.expect_status(200).text(), "first");
    proxy.wait_leg(&b, "timeout").await;
    b.wait_closed().await;
    assert!(client.is_quiet(), "nothing follows the answer");
    a.set(Reply::ok("second"));
    client.send("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.read_response("GET").await.expect_status(200).text(), "second");
}

#[tokio::test]
async fn defect_4_connections_to_endpoints_are_used_again() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    for _ in 0..5 {
        proxy.post(b"body").await.expect_status(200);
        proxy.settled().await;
    }
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
    assert_eq!((a.requests().len(), b.requests().len()), (5, 5));
}

#[tokio::test]
async fn defect_5_a_body_goes_on_to_the_endpoints_as_it_comes() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).streaming().start();
    let body = bytes(30_000);
    let mut client = proxy.sent(sized_post(body.len())).await;
    for end in [10_000, 20_000, 30_000] {
        client.send(&body[end - 10_000..end]).await;
        for origin in [&a, &b] {
            let arrived =
                |j: &testkit::origin::Journal| j.requests.first().is_some_and(|r| r.body_length == end as u64);
            origin.wait_until(format!("{end} bytes while the client has sent no more"), arrived).await;
        }
    }
    client.read_response("POST").await.expect_status(200);
    for origin in [&a, &b] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().body, body);
    }
}

#[tokio::test]
async fn defect_6_an_endpoint_that_cannot_be_tried_stays_in_the_count() {
    let a = origin(0, Reply::ok("a"));
    let unusable = Endpoint::ready("127.0.0.2:0".parse().unwrap());
    let proxy = Setup::new(vec![Endpoint::ready(a.place()), unusable]).start();
    let answer = proxy.get("/").await;
    assert_eq!(answer.status, 502, "{answer}");
    assert_eq!(result_of(&answer), [2, 1, 1, 0, 2]);
}

#[tokio::test]
async fn defect_7_a_mixed_result_under_any_is_counted_as_the_success_it_is() {
    let [a, b] = origins([Reply::new(500), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).require("any").start();
    proxy.get("/").await.expect_status(200);
    proxy.settled().await;
    assert_eq!(proxy.results("failed"), 0);
    assert_eq!(proxy.metric("fanfare_requests_total", &[]), 1.0);
    assert_eq!(proxy.metric("request_duration_seconds_count", &[("status_code", "200")]), 1.0);
    assert_eq!(proxy.metric("request_duration_seconds_count", &[]), 1.0);
}

#[tokio::test]
async fn defect_8_durations_are_in_seconds_under_labels_that_do_not_grow_with_the_paths() {
    let a = origin(0, Reply::ok("a").delay(ms(20)));
    let proxy = over(&[&a]).start();
    for n in 0..10 {
        proxy.get(&format!("/path/{n}")).await.expect_status(200);
    }
    proxy.settled().await;
    let metrics = proxy.handle.metrics();
    let counts = crate::fixture::series(&metrics, "request_duration_seconds_count", &[]);
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!(counts[0].1, 10.0);
    let sum = proxy.metric("request_duration_seconds_sum", &[]);
    assert!((0.2..600.0).contains(&sum), "ten times 20 ms and more, in seconds: {sum}");
    assert!(!metrics.contains("/path/"), "no path in a label");
    assert_eq!(proxy.legs(&a, "ok"), 10, "and legs are counted by endpoint");
}

#[tokio::test]
async fn defect_9_hop_by_hop_fields_stop_here_and_the_hop_is_announced() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let fields = [("Connection", "x-mine"), ("X-Mine", "1"), ("Keep-Alive", "timeout=5"), ("traceparent", "00-a-b-01")];
    proxy.request("GET", "/", &[&[("Host", "shop")], &fields[..]].concat(), b"").await.expect_status(200);
    for origin in [&a, &b] {
        let seen = origin.wait_requests(1).await.remove(0);
        crate::fixture::assert_head(&seen, "GET / HTTP/1.1\r\nHost: shop\r\ntraceparent: 00-a-b-01\r\n", "shop");
    }
    assert_eq!(a.requests()[0].head, b.requests()[0].head, "one request, one id");
}

#[tokio::test]
async fn defect_10_the_proxy_never_sends_to_itself() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    proxy.publish(&[&a, &proxy.address]);
    testkit::eventually!("the new endpoints", proxy.metric("fanfare_snapshot_version", &[]), |v| *v == 2.0);
    // Left out instead of failed: it is not one of the endpoints.
    assert_eq!(result_of(&proxy.get("/").await.expect_status(200)), [1, 1, 0, 0, 1]);
    proxy.publish(&[&proxy.address]);
    testkit::eventually!("itself alone to count as no endpoint", proxy.get("/").await.status, |s| *s == 503);
}

#[tokio::test]
async fn defect_10_a_request_that_has_been_here_goes_no_further() {
    let a = origin(0, Reply::ok("a"));
    let named = |name: &str| over(&[&a]).listener(|listener| listener.via_name = name.parse().expect("a name"));
    let proxy = named("edge").start();
    proxy.get("/").await.expect_status(200);
    let via = a.wait_requests(1).await[0].headers.get("via").unwrap().to_owned();
    let answer = proxy.request("GET", "/", &[("Via", &format!("1.0 other, {via}"))], b"").await;
    assert_made_up(&answer, 508, "proxy_loop_detected");
    assert_eq!(a.requests().len(), 1);
    // A replica has the same name.
    let replica = named("edge").start();
    assert_eq!(replica.request("GET", "/", &[("Via", &via)], b"").await.status, 508);
    proxy.request("GET", "/", &[("Via", "1.1 fanfare")], b"").await.expect_status(200);
}

#[tokio::test]
async fn a_tier_behind_another_is_no_loop_whatever_both_send_to() {
    let a = origin(0, Reply::ok("a"));
    // Both have the same endpoint names, like tiers that read the same file or service.
    let inner = over(&[&a]).start();
    let outer = over(&[&inner.address]).start();
    outer.get("/").await.expect_status(200);
    let seen = a.wait_requests(1).await.remove(0);
    let names: Vec<_> = seen.headers.all("via").iter().flat_map(|via| via.split(", ")).map(str::to_owned).collect();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    // A request that returns to either one was there before.
    for (proxy, via) in [(&outer, &names[0]), (&inner, &names[1])] {
        assert_eq!(proxy.request("GET", "/", &[("Via", via)], b"").await.status, 508);
    }
}

#[tokio::test]
async fn defect_11_the_authority_of_an_ipv6_endpoint_has_brackets() {
    let six = testkit::origin::Origin::builder().address("[::1]:0").start(Reply::ok("six"));
    let proxy = over(&[&six]).start();
    let answer = proxy.answer_to("GET / HTTP/1.0\r\n\r\n", "GET").await.expect_status(200);
    assert_eq!(answer.text(), "six");
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*six.address().to_string()));
    let host = format!("[::1]:{}", six.address().port());
    assert_eq!(six.wait_requests(1).await[0].headers.all("host"), [host]);
}

#[tokio::test]
async fn defect_12_the_failure_that_is_returned_does_not_depend_on_chance() {
    for first in 0..3 {
        let gates: [Gate; 3] = std::array::from_fn(|_| Gate::new());
        let held = |n: usize, status, body: &str| Reply::new(status).body(body).hold(&gates[n]);
        let [a, b, c] = origins([held(0, 404, "a"), held(1, 500, "b"), held(2, 503, "c")]);
        let dead = refusing(3);
        let proxy = over(&[&a, &b, &c, &dead]).start();
        let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        for n in 0..3 {
            let n = (first + n) % 3;
            let origin = [&a, &b, &c][n];
            gates[n].release();
            let outcome = if n == 0 { "client_error" } else { "server_error" };
            proxy.wait_leg(origin, outcome).await;
        }
        let answer = client.read_response("GET").await.expect_status(500);
        assert_eq!(answer.text(), "b", "whoever answered first: here number {first}");
        assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*b.address().to_string()));
    }
}

#[tokio::test]
async fn defect_13_connecting_and_the_first_byte_have_time_outs_of_their_own() {
    let hole = BlackHole::unconnectable();
    let proxy = over(&[&hole]).policy(|p| p.timeouts.connect = ms(200)).total(crate::fixture::NEVER).start();
    assert_made_up(&proxy.get("/").await, 504, "connection_timeout");

    let silent = BlackHole::silent();
    let proxy = over(&[&silent]).policy(|p| p.timeouts.first_byte = Some(ms(200))).total(crate::fixture::NEVER).start();
    assert_made_up(&proxy.get("/").await, 504, "connection_read_timeout");
}

#[tokio::test]
async fn defect_13_a_transport_failure_can_be_tried_again() {
    let a = origin(0, [Reply::ok("never sent").close_at(At::Start), Reply::ok("second try")]);
    let proxy = over(&[&a]).policy(|p| p.retries = 1).start();
    assert_eq!(proxy.get("/").await.expect_status(200).text(), "second try");
    assert_eq!(a.accepted(), 2);
    a.set_welcome(Welcome::Reset);
    a.reset_all().await;
    let answer = proxy.get("/").await;
    assert_eq!(answer.status, 502, "{answer}");
    assert_eq!(a.accepted(), 4, "one retry, not more");
}
