//! Rule: while the request is still being sent, success waits and failure may answer at once.

use testkit::origin::{At, Gate, Journal, Reply, When};

use crate::fixture::{CHUNKED_POST, bytes, chunked, origin, origins, over, result_of, sized_post, unfinished};

fn has_body(n: u64) -> impl Fn(&Journal) -> bool {
    move |journal| journal.requests.first().is_some_and(|request| request.body_length >= n)
}

#[tokio::test]
async fn success_waits_for_the_end_of_the_request() {
    let [a, b] = origins([Reply::ok("early").early(), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).require("any").policy(|p| p.start_after = 0).start();
    let mut client = proxy.sent(sized_post(3)).await;
    a.wait_until("the early answer to be written", |j| j.requests.first().is_some_and(|r| r.answered)).await;
    for n in 1..=2 {
        client.send("x").await;
        b.wait_until("the next byte of the body", has_body(n)).await;
        assert!(client.is_quiet(), "an answer before the request had ended");
    }
    client.send("x").await;
    client.read_response("POST").await.expect_status(200);
    for origin in [&a, &b] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().text(), "xxx");
    }
}

#[tokio::test]
async fn a_leg_that_did_not_take_the_whole_request_is_not_ok() {
    // It answers after the first part of the body and closes, so the rest cannot be delivered.
    let early = Reply::ok("early").when(When::Body(1)).connection_close().close_at(At::End);
    let [a, b] = origins([early, Reply::ok("b")]);
    let proxy = over(&[&a, &b]).streaming().start();
    let mut client = proxy.sent(CHUNKED_POST).await;
    client.send(unfinished(&[&bytes(1000)])).await;
    a.wait_closed().await;
    let rest = bytes(4 << 20);
    client.send(chunked(&[&rest])).await;
    let answer = client.read_response("POST").await;
    assert_eq!((answer.status, result_of(&answer)), (502, [2, 1, 1, 0, 2]), "{answer}");
    assert_eq!(proxy.legs(&a, "reset"), 1);
    assert!(!a.requests()[0].is_complete());
    assert!(b.wait_requests(1).await[0].is_complete());
}

#[tokio::test]
async fn failure_answers_at_once_closes_and_aborts_the_legs() {
    let gate = Gate::new();
    let refused = || Reply::new(500).body("refused").early().hold(&gate);
    let [a, b, c] = origins([refused(), refused(), Reply::ok("c")]);
    let proxy = over(&[&a, &b, &c]).require("majority").streaming().start();
    let mut client = proxy.sent(sized_post(1_000_000)).await;
    client.send(bytes(1000)).await;
    // A leg that has not begun when the others fail reaches nobody.
    c.wait_until("the first part", has_body(1)).await;
    gate.release();
    let answer = client.read_response("POST").await.expect_status(500);
    assert_eq!(answer.text(), "refused");
    assert_eq!(answer.header("connection"), Some("close"));
    for origin in [&a, &b, &c] {
        let seen = origin.wait_requests(1).await.remove(0);
        assert!(!seen.is_complete(), "{seen}");
    }
    client.half_close();
    client.wait_end().await;
    proxy.settled().await;
}

#[tokio::test]
async fn a_failure_answered_early_can_be_read_by_a_client_that_is_still_sending() {
    let a = origin(0, Reply::new(503).body("not now").early());
    let proxy = over(&[&a]).start();
    let body = bytes(2 << 20);
    let mut client = proxy.sent(sized_post(body.len())).await;
    // The answer must arrive even if the rest of the body cannot be sent.
    let _ = client.try_send(&body).await;
    let answer = client.read_response("POST").await.expect_status(503);
    assert_eq!(answer.text(), "not now");
}

#[tokio::test]
async fn failure_that_needs_every_leg_waits_for_them() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::new(500).body("a").early(), Reply::ok("b").hold(&gate)]);
    let proxy = over(&[&a, &b]).policy(|p| p.start_after = 0).start();
    let mut client = proxy.sent(sized_post(4)).await;
    proxy.wait_leg(&a, "server_error").await;
    client.send("body").await;
    gate.wait_reached(1).await;
    assert!(client.is_quiet(), "all tells about every leg");
    assert_eq!(
        b.wait_requests(1).await.remove(0).complete().text(),
        "body",
        "who is not failing gets the whole request"
    );
    gate.release();
    assert_eq!(client.read_response("POST").await.expect_status(500).text(), "a");
}
