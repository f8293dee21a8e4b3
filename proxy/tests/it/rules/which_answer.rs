//! Rule: which answer a client gets is a function of the endpoints and their outcomes, and of nothing else.

use testkit::http::digest_of;
use testkit::origin::{At, BlackHole, Gate, Origin, Reply};

use crate::fixture::{Place, Proxy, assert_made_up, bytes, ms, origin, origins, over, refusing, result_of};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Three gates, and three origins that answer with their letter behind them.
fn gated(statuses: [u16; 3]) -> ([Gate; 3], [Origin; 3]) {
    let gates: [Gate; 3] = std::array::from_fn(|_| Gate::new());
    let mut n = 0;
    let origins = origins(statuses.map(|status| {
        n += 1;
        Reply::new(status).body(["a", "b", "c"][n - 1]).hold(&gates[n - 1])
    }));
    (gates, origins)
}

async fn release(proxy: &Proxy, gate: &Gate, origin: &Origin, outcome: &str) {
    gate.release();
    proxy.wait_leg(origin, outcome).await;
}

#[tokio::test]
async fn success_is_the_first_endpoint_in_order_whoever_answers_first() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let (gates, [a, b, c]) = gated([200, 201, 202]);
        let proxy = over(&[&c, &a, &b]).start();
        let mut client = proxy.sent(GET).await;
        for n in order {
            release(&proxy, &gates[n], [&a, &b, &c][n], "ok").await;
        }
        let answer = client.read_response("GET").await.expect_status(200);
        assert_eq!((answer.text().as_str(), result_of(&answer)), ("a", [3, 3, 0, 0, 3]), "{order:?}");
        assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*a.address().to_string()));
    }
}

#[tokio::test]
async fn a_quorum_answers_with_the_first_in_order_of_those_that_are_ok() {
    let (gates, [a, b, c]) = gated([200, 200, 200]);
    let proxy = over(&[&a, &b, &c]).require("majority").start();
    let mut client = proxy.sent(GET).await;
    release(&proxy, &gates[2], &c, "ok").await;
    assert!(client.is_quiet(), "one of three is no majority");
    gates[1].release();
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("b", [3, 2, 0, 1, 2]));
    gates[0].release();
}

#[tokio::test]
async fn any_answers_with_the_first_to_be_ok() {
    let (gates, [a, b, c]) = gated([200, 404, 200]);
    let proxy = over(&[&a, &b, &c]).require("any").start();
    let mut client = proxy.sent(GET).await;
    release(&proxy, &gates[1], &b, "client_error").await;
    assert!(client.is_quiet(), "a failed leg decides nothing");
    gates[2].release();
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("c", [3, 1, 1, 1, 1]));
    gates[0].release();
}

#[tokio::test]
async fn success_needs_a_body_that_is_still_available() {
    let gate = Gate::new();
    let large = bytes(300_000);
    let [a, b, c] =
        origins([Reply::ok(bytes(20_000)).hold_at(At::Body(10_000), &gate), Reply::ok(&large), Reply::ok(&large)]);
    let proxy = over(&[&a, &b, &c]).require("2").start();
    let mut client = proxy.sent(GET).await;
    a.wait_heads(1).await;
    gate.wait_reached(1).await;
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!(answer.digest, digest_of(&large), "a whole body of one of the two that were ok");
    gate.release();
}

#[tokio::test]
async fn failure_prefers_the_server_side_to_a_client_error() {
    let [a, b, c] = origins([Reply::new(404).body("a"), Reply::ok("b"), Reply::new(503).body("c")]);
    let proxy = over(&[&a, &b, &c]).start();
    let answer = proxy.get("/").await.expect_status(503);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("c", [3, 1, 2, 0, 3]));
}

#[tokio::test]
async fn failure_prefers_a_transport_failure_to_a_client_error() {
    let a = origin(0, Reply::new(404).body("a"));
    let dead = refusing(1);
    let proxy = over(&[&a, &dead]).start();
    assert_made_up(&proxy.get("/").await, 502, "connection_refused");
}

#[tokio::test]
async fn failure_prefers_a_real_answer_to_a_made_up_one() {
    let dead = refusing(0);
    let b = origin(1, Reply::new(500).body("b"));
    let proxy = over(&[&dead, &b]).start();
    let answer = proxy.get("/").await.expect_status(500);
    assert_eq!(answer.text(), "b");
    assert_eq!(answer.header("proxy-status"), None, "the endpoint's own answer, unchanged");
}

#[tokio::test]
async fn a_real_answer_wins_over_a_made_up_one_of_the_same_side_only() {
    // The client error is a real answer, but the time-out is a server-side failure.
    let [a, b] = origins([Reply::ok("a"), Reply::new(404).body("b")]);
    let silent = BlackHole::silent();
    let proxy = over(&[&a, &b, &silent]).total(ms(1000)).start();
    let answer = proxy.get("/").await;
    assert_made_up(&answer, 504, "http_response_timeout");
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*silent.address().to_string()));
    // Also if the client would get another status for it, which is not a real answer either.
    let proxy = over(&[&a, &b, &silent]).total(ms(1000)).policy(|p| p.on_timeout = 408).start();
    assert_made_up(&proxy.get("/").await, 408, "http_response_timeout");
    // A real server error wins over it, whatever its place in the order.
    b.set(Reply::new(500).body("b"));
    for places in [[&b as &dyn Place, &silent], [&silent, &b]] {
        let answer = over(&places).total(ms(1000)).start().get("/").await.expect_status(500);
        assert_eq!((answer.text().as_str(), answer.header("proxy-status")), ("b", None));
        assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*b.address().to_string()));
    }
}

#[tokio::test]
async fn failure_is_otherwise_the_first_in_order() {
    let dead = refusing(0);
    let b = origin(1, Reply::new(200).reset_at(At::Start));
    let proxy = over(&[&dead, &b]).start();
    assert_made_up(&proxy.get("/").await, 502, "connection_refused");

    let [a, b] = origins([Reply::new(410).body("a"), Reply::new(404).body("b")]);
    let proxy = over(&[&b, &a]).start();
    assert_eq!(proxy.get("/").await.expect_status(410).text(), "a");
}

#[tokio::test]
async fn all_fails_only_when_every_leg_has_ended() {
    let (gates, [a, b, c]) = gated([500, 200, 200]);
    let proxy = over(&[&a, &b, &c]).start();
    let mut client = proxy.sent(GET).await;
    release(&proxy, &gates[0], &a, "server_error").await;
    release(&proxy, &gates[1], &b, "ok").await;
    assert!(client.is_quiet(), "one leg has not ended");
    gates[2].release();
    let answer = client.read_response("GET").await.expect_status(500);
    assert_eq!(result_of(&answer), [3, 2, 1, 0, 3]);
}

#[tokio::test]
async fn a_quorum_fails_as_soon_as_it_is_out_of_reach() {
    let (gates, [a, b, c]) = gated([500, 502, 200]);
    let proxy = over(&[&a, &b, &c]).require("majority").start();
    let mut client = proxy.sent(GET).await;
    release(&proxy, &gates[1], &b, "server_error").await;
    assert!(client.is_quiet(), "two of three can still be ok");
    gates[0].release();
    let answer = client.read_response("GET").await.expect_status(500);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("a", [3, 0, 2, 1, 2]));
    gates[2].release();
}

#[tokio::test]
async fn a_percentage_is_rounded_up() {
    let [a, b, c] = origins([Reply::ok("a"), Reply::new(500), Reply::new(500)]);
    for (require, status) in [("33%", 200), ("34%", 500), ("1%", 200), ("100%", 500)] {
        let proxy = over(&[&a, &b, &c]).require(require).start();
        proxy.get("/").await.expect_status(status);
    }
}
