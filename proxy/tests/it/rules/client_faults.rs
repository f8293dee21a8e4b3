//! Rule: the client's faults outrank every leg, and a bad or cut request never looks complete to an endpoint.

use testkit::http::End;
use testkit::origin::{Gate, Journal, Origin, Reply};

use crate::fixture::{CHUNKED_POST, Proxy, assert_made_up, bytes, origins, over, sized_post, unfinished};

fn arrived(n: u64) -> impl Fn(&Journal) -> bool {
    move |journal| journal.requests.first().is_some_and(|request| request.body_length >= n)
}

/// Asserts that every origin saw a request that was cut short, and that nothing runs on.
async fn assert_aborted(proxy: &Proxy, origins: &[&Origin]) {
    for origin in origins {
        let seen = origin.wait_requests(1).await.remove(0);
        assert!(matches!(seen.end, End::Cut(_)), "{seen}");
        assert!(!seen.raw_body.ends_with(b"0\r\n\r\n"), "{seen}");
        proxy.wait_leg(*origin, "cancelled").await;
    }
    proxy.settled().await;
    assert_eq!(proxy.results("client"), 1);
}

#[tokio::test]
async fn a_bad_chunk_is_400_whatever_the_endpoints_said() {
    for status in [200, 500] {
        let [a, b] = origins([Reply::new(status).early(), Reply::ok("b")]);
        let proxy = over(&[&a, &b]).streaming().start();
        let mut client = proxy.sent(CHUNKED_POST).await;
        client.send(unfinished(&[b"first"])).await;
        a.wait_until("the early answer", |j| j.requests.first().is_some_and(|r| r.answered)).await;
        b.wait_until("the first chunk", arrived(5)).await;
        client.send("zz\r\n").await;
        let answer = client.read_response("POST").await;
        assert_made_up(&answer, 400, "http_request_error");
        assert_eq!(answer.header("connection"), Some("close"));
        client.wait_end().await;
        let seen = b.wait_requests(1).await.remove(0);
        assert!(seen.end.is_cut() && seen.text() == "first", "{seen}");
        assert!(!a.wait_requests(1).await[0].is_complete());
        proxy.settled().await;
    }
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_413() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).streaming().policy(|p| p.max_body = Some(10_000)).start();
    let mut client = proxy.sent(CHUNKED_POST).await;
    client.send(unfinished(&[&bytes(10_000)])).await;
    for origin in [&a, &b] {
        origin.wait_until("all that is allowed", arrived(10_000)).await;
    }
    client.send(unfinished(&[b"x"])).await;
    let answer = client.read_response("POST").await;
    assert_made_up(&answer, 413, "http_request_error");
    assert_eq!(answer.header("connection"), Some("close"));
    client.wait_end().await;
    assert_aborted(&proxy, &[&a, &b]).await;
}

#[tokio::test]
async fn a_body_of_just_the_size_that_is_allowed_is_not_too_large() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).policy(|p| p.max_body = Some(10_000)).start();
    proxy.post(&bytes(10_000)).await.expect_status(200);
    let wire = [CHUNKED_POST.as_bytes(), &crate::fixture::chunked(&[&bytes(9_999), b"x"])].concat();
    proxy.answer_to(wire, "POST").await.expect_status(200);
    assert!(
        a.wait_requests(2).await.iter().all(|r| r.is_complete() && r.body == bytes(10_000) || r.body_length == 10_000)
    );
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_413_before_any_leg_starts() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).policy(|p| p.max_body = Some(10_000)).start();
    let mut client = proxy.sent(sized_post(10_001)).await;
    let answer = client.read_response("POST").await;
    assert_made_up(&answer, 413, "http_request_error");
    client.half_close();
    client.wait_end().await;
    a.assert_untouched();
    b.assert_untouched();
}

#[tokio::test]
async fn a_client_that_closes_before_its_body_ends_aborts_the_legs() {
    for reset in [false, true] {
        for head in [CHUNKED_POST.to_owned(), sized_post(100)] {
            let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
            let proxy = over(&[&a, &b]).require("any").streaming().start();
            let mut client = proxy.sent(&head).await;
            client.send(if head == CHUNKED_POST { &b"5\r\nfirst\r\n"[..] } else { b"first" }).await;
            for origin in [&a, &b] {
                origin.wait_until("the first part", arrived(5)).await;
            }
            if reset {
                client.reset();
            } else {
                client.close();
            }
            assert_aborted(&proxy, &[&a, &b]).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_half_closes_before_its_body_ends_has_cut_it() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).streaming().start();
    let mut client = proxy.sent(sized_post(10)).await;
    client.send("first").await;
    for origin in [&a, &b] {
        origin.wait_until("the first part", arrived(5)).await;
    }
    client.half_close();
    client.wait_end().await;
    assert_aborted(&proxy, &[&a, &b]).await;
}

#[tokio::test]
async fn after_the_body_the_legs_run_on_without_the_client() {
    let gate = Gate::new();
    let held = || Reply::ok("answer").hold(&gate);
    let [a, b] = origins([held(), held()]);
    let proxy = over(&[&a, &b]).start();
    let mut client = proxy.sent(sized_post(4)).await;
    client.send("body").await;
    gate.wait_reached(2).await;
    client.reset();
    gate.release();
    for origin in [&a, &b] {
        proxy.wait_leg(origin, "ok").await;
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().text(), "body");
    }
    proxy.settled().await;
}

#[tokio::test]
async fn a_half_closed_client_that_sent_all_of_its_request_is_not_gone() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("answer").hold(&gate)]);
    let proxy = over(&[&a]).start();
    for (body, request) in [("", "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()), ("body", sized_post(4))] {
        let mut client = proxy.sent(&request).await;
        client.send(body).await;
        client.half_close();
        gate.wait_reached(1).await;
        gate.release();
        assert_eq!(client.read_response("GET").await.expect_status(200).text(), "answer");
        client.wait_end().await;
    }
}
