//! Rule: held answers are bounded, and an answer that is cut after it began never looks complete.

use testkit::eventually;
use testkit::http::{Cut, End, digest_of};
use testkit::origin::{At, Gate, Origin, Reply};

use crate::fixture::{bytes, origin, origins, over, result_of};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// More than all buffers of the kernel between two sockets can take.
const HUGE: u64 = 64 << 20;

fn huge(piece: &str) -> Reply {
    Reply::new(200).filler(piece.repeat(4096), HUGE)
}

/// Waits until the origin has written no more for a while, and says whether it is done.
async fn stalls(origin: &Origin) -> bool {
    let mut last = (0, 0);
    eventually!("an answer to stall or to end", origin.requests()[0].answer_length, |length| {
        last = if *length == last.0 { (last.0, last.1 + 1) } else { (*length, 0) };
        last.1 > 6
    });
    origin.requests()[0].answered
}

#[tokio::test]
async fn the_candidates_body_pauses_and_its_leg_counts_as_ok() {
    let gate = Gate::new();
    let a = Origin::builder().address("127.0.0.1:0").send_buffer(64 << 10).start(huge("a"));
    let [_, b, c] = origins([Reply::ok(""), Reply::ok("b").hold(&gate), Reply::never()]);
    let proxy = over(&[&a, &b, &c]).require("2").start();
    let mut client = proxy.sent(GET).await;
    a.wait_heads(1).await;
    eventually!("the answer to begin", a.requests()[0].answer_length, |n| *n > 0);
    assert!(!stalls(&a).await, "{HUGE} bytes were read though nobody can have them yet");
    let held = proxy.metric("fanfare_buffered_bytes", &[]);
    assert!(held <= 256.0 * 1024.0, "{held} bytes in memory for one request");
    assert!(client.is_quiet());
    gate.release();
    client.set_body_mode(testkit::http::BodyMode::Digest);
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!((answer.body_length, result_of(&answer)), (HUGE, [3, 2, 0, 1, 2]));
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*a.address().to_string()));
}

#[tokio::test]
async fn a_smaller_body_counts_when_it_is_whole() {
    let gate = Gate::new();
    let cut = Reply::ok(bytes(20_000)).hold_at(At::Body(10_000), &gate).reset_at(At::Body(10_000));
    let [a, b] = origins([cut, Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let mut client = proxy.sent(GET).await;
    gate.wait_reached(1).await;
    proxy.wait_leg(&b, "ok").await;
    assert!(client.is_quiet() && proxy.legs(&a, "ok") == 0, "half an answer is none");
    gate.release();
    let answer = client.read_response("GET").await;
    assert_eq!((answer.status, result_of(&answer)), (502, [2, 1, 1, 0, 2]));
    assert_eq!(proxy.legs(&a, "reset"), 1);
}

#[tokio::test]
async fn the_others_bodies_are_read_on_and_dropped() {
    let gate = Gate::new();
    let [a, b, c] = origins([
        Reply::ok("candidate").hold_at(At::Body(3), &gate),
        huge("b"),
        huge("c").reset_at(At::Body(HUGE - 1)),
    ]);
    let proxy = over(&[&a, &b, &c]).start();
    let mut client = proxy.sent(GET).await;
    gate.wait_reached(1).await;
    // The body of each must be read whole, but cannot be held.
    proxy.wait_leg(&b, "ok").await;
    proxy.wait_leg(&c, "reset").await;
    gate.release();
    let answer = client.read_response("GET").await;
    assert_eq!((answer.status, result_of(&answer)), (502, [3, 2, 1, 0, 3]), "a dropped body that is cut is a failure");
}

#[tokio::test]
async fn of_the_failures_the_best_ranked_keeps_its_body() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let gates: [Gate; 3] = std::array::from_fn(|_| Gate::new());
        let size = 200_000;
        let failed = |n: usize, status| Reply::new(status).body(bytes(size + n)).hold(&gates[n]);
        let [a, b, c] = origins([failed(0, 500), failed(1, 500), failed(2, 404)]);
        let proxy = over(&[&a, &b, &c]).start();
        let mut client = proxy.sent(GET).await;
        for n in order {
            gates[n].release();
            let origin = [&a, &b, &c][n];
            eventually!("the answer to begin", origin.requests(), |r| r.first().is_some_and(|r| r.answer_length > 0));
        }
        let answer = client.read_response("GET").await.expect_status(500);
        assert_eq!(answer.digest, digest_of(&bytes(size)), "{order:?}");
    }
}

#[tokio::test]
async fn all_held_bytes_of_a_request_stay_within_one_window() {
    let gate = Gate::new();
    let body = bytes(60_000);
    let mut all: Vec<Origin> = (0..12).map(|n| origin(n + 1, Reply::ok(&body))).collect();
    all.push(origin(0, Reply::ok(&body).hold(&gate)));
    let places: Vec<&dyn crate::fixture::Place> = all.iter().map(|o| o as _).collect();
    let proxy = over(&places).policy(|p| p.window = 64 << 10).start();
    let mut client = proxy.sent(GET).await;
    for origin in &all[..12] {
        proxy.wait_leg(origin, "ok").await;
    }
    let held = proxy.metric("fanfare_buffered_bytes", &[]);
    assert!(held <= 128.0 * 1024.0, "{held} bytes of 12 answers in memory, window 64 KiB for each direction");
    gate.release();
    assert_eq!(client.read_response("GET").await.expect_status(200).body, body);
}

#[tokio::test]
async fn a_chunked_answer_that_was_cut_is_closed_without_a_final_chunk() {
    let gate = Gate::new();
    let pieces = [bytes(1000), bytes(1000)];
    let reply = Reply::new(200).chunked(&pieces).hold_at(At::Body(1005), &gate).reset_at(At::Body(1005));
    let a = origin(0, reply);
    let proxy = over(&[&a]).require("any").start();
    let mut client = proxy.sent(GET).await;
    let mut answer = client.read_head("GET").await;
    client.read_body(&mut answer, 1000).await;
    gate.release();
    client.read_body(&mut answer, u64::MAX).await;
    assert!(answer.end.is_cut(), "{answer}");
    assert_eq!(answer.body, pieces[0]);
    assert!(!answer.raw_body.ends_with(b"0\r\n\r\n"), "{answer}");
    proxy.wait_leg(&a, "reset").await;
    assert_eq!(proxy.legs(&a, "ok"), 0);
}

#[tokio::test]
async fn an_answer_of_known_length_that_was_cut_is_closed_short() {
    let a = origin(0, Reply::ok(bytes(300_000)).close_at(At::Body(200_000)));
    // With `all` a leg counts as ok at 64 KiB, and may still fail.
    for require in ["any", "all"] {
        let proxy = over(&[&a]).require(require).start();
        let answer = proxy.get("/").await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("300000")), "{require}");
        assert!(matches!(answer.end, End::Cut(Cut::Eof | Cut::Reset)), "{answer}");
        assert!(answer.body_length <= 200_000 && bytes(300_000).starts_with(&answer.body), "{answer}");
        proxy.wait_leg(&a, "reset").await;
        assert_eq!(proxy.legs(&a, "ok"), 0);
    }
}
