//! Rule: legs run on after an early answer, within bounds.

use testkit::origin::{At, Gate, Reply};

use crate::fixture::{NEVER, bytes, ms, origins, over, result_of};

#[tokio::test]
async fn stragglers_run_on_after_an_early_answer() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok(bytes(200_000)).hold(&gate)]);
    let proxy = over(&[&a, &b]).require("any").start();
    let answer = proxy.post(b"body").await.expect_status(200);
    assert_eq!(result_of(&answer), [2, 1, 0, 1, 1]);
    gate.wait_reached(1).await;
    testkit::eventually!(
        "the request to be counted as straggling",
        proxy.metric("fanfare_straggling_requests", &[]),
        |n| *n == 1.0
    );
    assert_eq!(proxy.legs_in_flight(), 1);
    // The client is gone: its connection was closed with the answer read.
    gate.release();
    proxy.wait_leg(&b, "ok").await;
    let seen = b.wait_requests(1).await.remove(0).complete();
    assert_eq!(seen.text(), "body");
    proxy.settled().await;
    assert!(b.requests()[0].answered, "its answer was read to the end");
}

#[tokio::test]
async fn a_straggler_of_an_early_failure_runs_on_too() {
    let gate = Gate::new();
    let [a, b, c] = origins([Reply::new(500), Reply::new(500), Reply::ok("c").hold(&gate)]);
    let proxy = over(&[&a, &b, &c]).require("2").start();
    let answer = proxy.post(b"body").await.expect_status(500);
    assert_eq!(result_of(&answer), [3, 0, 2, 1, 2]);
    gate.release();
    proxy.wait_leg(&c, "ok").await;
}

#[tokio::test]
async fn a_straggler_ends_at_its_own_deadline() {
    let gate = Gate::new();
    let late = Reply::ok(bytes(1000)).hold(&gate).hang_at(At::Body(10));
    let [a, b, c] = origins([Reply::ok("a"), Reply::never(), late]);
    let proxy = over(&[&a, &b, &c]).require("any").total(ms(1000)).start();
    assert_eq!(proxy.get("/").await.expect_status(200).text(), "a");
    gate.release();
    for origin in [&b, &c] {
        proxy.wait_leg(origin, "timeout").await;
        origin.wait_closed().await;
    }
    proxy.settled().await;
}

#[tokio::test]
async fn stragglers_are_bounded_per_endpoint_and_one_more_is_rejected() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate)]);
    let proxy = over(&[&a, &b]).require("any").total(NEVER).limits(|l| l.inflight_per_endpoint = 2).start();
    for n in 1..=2 {
        let answer = proxy.get("/").await.expect_status(200);
        assert_eq!(result_of(&answer)[3], 1, "request {n}");
        b.wait_heads(n).await;
    }
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!(result_of(&answer), [2, 1, 1, 0, 1], "rejected at once, counted as failed");
    assert_eq!(proxy.legs(&b, "rejected"), 1);
    assert_eq!(b.requests().len(), 2);
    gate.release();
    proxy.settled().await;
    proxy.get("/").await.expect_status(200);
    assert_eq!(b.wait_requests(3).await.len(), 3, "there is room again");
}
