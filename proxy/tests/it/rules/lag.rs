//! Rule: `all` waits for a leg that lags behind, other policies drop it.

use std::sync::LazyLock;

use testkit::client::{RawClient, Response};
use testkit::http::{BodyMode, digest_of};
use testkit::origin::{Gate, Origin, Reading, Reply};

use crate::fixture::{MORE_THAN_SYSTEM_BUFFERS, NEVER, Place, bytes, ms, origin, over, result_of, sized_post};

/// More than the system can buffer, even after an endpoint has read 8 MiB.
const HUGE: usize = MORE_THAN_SYSTEM_BUFFERS + (8 << 20);

/// A body of that length. Made before a request begins: a client that falls silent in its body for long is given up.
fn huge() -> &'static [u8] {
    static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(HUGE));
    &BODY
}

/// An origin that reads this number of bytes of the body, and then none until the gate opens.
fn stuck(n: usize, after: u64, gate: &Gate) -> Origin {
    let builder = Origin::builder().address(&crate::fixture::loopback(n)).receive_buffer(16 << 10);
    let reply = Reply::ok("stuck").reading(Reading::HeldAfter(after, gate.clone()));
    builder.body_mode(BodyMode::Digest).start(reply)
}

fn reader(n: usize) -> Origin {
    Origin::builder().address(&crate::fixture::loopback(n)).body_mode(BodyMode::Digest).start(Reply::ok("reads"))
}

/// Sends the body until the proxy takes no more and this holds. On a loaded machine it may take no more for a moment without a reason.
/// Returns how much was sent.
async fn send_until(client: &mut RawClient, body: &[u8], mut holds: impl FnMut() -> bool) -> usize {
    let mut sent = 0;
    loop {
        sent += client.send_until_stalled(&body[sent..], ms(400)).await.expect("an open connection");
        if sent == body.len() || holds() {
            return sent;
        }
    }
}

/// Sends the huge body while the answer is awaited, and reads the answer.
async fn send_huge(client: &mut RawClient) -> Response {
    let body = huge();
    client.send(sized_post(HUGE)).await;
    client.send(body).await;
    client.read_response("POST").await
}

#[tokio::test]
async fn all_waits_for_the_slowest() {
    let gate = Gate::new();
    let (slow, quick) = (stuck(0, 1000, &gate), reader(1));
    let proxy = over(&[&slow, &quick]).policy(|p| p.lag_timeout = ms(50)).total(NEVER).start();
    let body = huge();
    let mut client = proxy.sent(sized_post(HUGE)).await;
    let stalls = || proxy.metric("fanfare_window_stalls_total", &[]) >= 1.0;
    let sent = send_until(&mut client, body, stalls).await;
    assert!(sent < HUGE, "the client feels that one endpoint takes no more");
    assert_eq!(proxy.legs(&slow, "lagged"), 0);
    let held = proxy.metric("fanfare_buffered_bytes", &[]);
    assert!(held <= 512.0 * 1024.0, "{held} bytes in memory, window 256 KiB");
    gate.release();
    client.send(&body[sent..]).await;
    let answer = client.read_response("POST").await.expect_status(200);
    assert_eq!(result_of(&answer), [2, 2, 0, 0, 2]);
    for origin in [&slow, &quick] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().digest, digest_of(body));
    }
}

#[tokio::test]
async fn any_goes_on_without_a_leg_that_alone_blocks_the_window() {
    let gate = Gate::new();
    let (slow, quick) = (stuck(0, 1000, &gate), reader(1));
    let proxy = over(&[&slow, &quick]).require("any").policy(|p| p.lag_timeout = ms(100)).total(NEVER).start();
    let answer = send_huge(&mut proxy.client().await).await.expect_status(200);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("reads", [2, 1, 1, 0, 1]));
    assert_eq!(proxy.legs(&slow, "lagged"), 1);
    assert_eq!(quick.wait_requests(1).await.remove(0).complete().digest, digest_of(huge()));
    gate.release();
    let seen = slow.wait_requests(1).await.remove(0);
    assert!(!seen.is_complete(), "a copy that was given up never looks whole: {seen}");
}

#[tokio::test]
async fn the_farthest_behind_is_dropped_and_no_more_than_the_quorum_can_do_without() {
    // Three of four are needed: one may be given up, and only one.
    let gate = Gate::new();
    let (far, near) = (stuck(0, 1000, &gate), stuck(1, 8 << 20, &gate));
    let (c, d) = (reader(2), reader(3));
    let proxy = over(&[&far, &near, &c, &d]).require("3").policy(|p| p.lag_timeout = ms(100)).total(NEVER).start();
    let body = huge();
    let mut client = proxy.sent(sized_post(HUGE)).await;
    let sent = send_until(&mut client, body, || proxy.legs(&far, "lagged") == 1).await;
    assert!(sent < HUGE, "the second is needed, so that it is waited for");
    assert_eq!((proxy.legs(&far, "lagged"), proxy.legs(&near, "lagged")), (1, 0));
    gate.release();
    client.send(&body[sent..]).await;
    let answer = client.read_response("POST").await.expect_status(200);
    assert_eq!(result_of(&answer)[2], 1, "{answer}");
    for origin in [&near, &c, &d] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().digest, digest_of(body));
    }
    assert!(!far.wait_requests(1).await[0].is_complete());
}

#[tokio::test]
async fn a_leg_that_the_quorum_cannot_do_without_is_waited_for_to_its_deadline() {
    let gate = Gate::new();
    let (slow, quick) = (stuck(0, 1000, &gate), reader(1));
    let proxy = over(&[&slow, &quick]).require("2").policy(|p| p.lag_timeout = ms(50)).total(ms(600)).start();
    let body = huge();
    let mut client = proxy.sent(sized_post(HUGE)).await;
    let _ = client.try_send(body).await;
    let answer = client.read_response("POST").await;
    assert_eq!(answer.status, 504, "{answer}");
    assert_eq!((proxy.legs(&slow, "lagged"), proxy.legs(&slow, "timeout")), (0, 1));
    for origin in [&slow, &quick] {
        gate.release();
        assert!(!origin.wait_requests(1).await[0].is_complete());
    }
}

#[tokio::test]
async fn a_slow_leg_that_keeps_within_the_window_is_not_lagged() {
    let a = origin(0, Reply::ok("slow").reading(Reading::Rate(200_000)));
    let b = reader(1);
    let proxy = over(&[&a, &b]).require("any").policy(|p| p.lag_timeout = ms(50)).total(NEVER).start();
    let answer = proxy.post(&bytes(100_000)).await.expect_status(200);
    assert_eq!(answer.text(), "reads");
    assert_eq!(a.wait_requests(1).await.remove(0).complete().body, bytes(100_000));
    proxy.wait_leg(&a, "ok").await;
    assert_eq!(proxy.legs(&a as &dyn Place, "lagged"), 0);
}
