//! Connections that are not served, listeners that come and go, and addresses where nobody answers.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::client::{ReadError, get};
use crate::http::Cut;

#[tokio::test]
async fn a_refusing_address_refuses() {
    let refusing = Refusing::new();
    for _ in 0..3 {
        let error = TcpStream::connect(refusing.address()).await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    let silent = refusing.into_silent();
    assert!(TcpStream::connect(silent.address()).await.is_ok());
}

#[tokio::test]
async fn an_unconnectable_address_never_completes_a_connect() {
    let hole = BlackHole::unconnectable();
    assert_eq!(hole.connecting(), 0);
    let mut connect = Box::pin(TcpStream::connect(hole.address()));
    assert!(timeout(Duration::from_millis(300), &mut connect).await.is_err());
    assert_eq!(hole.connecting(), 1);
    let hole = hole.into_silent();
    assert!(connect.await.is_ok(), "the kernel asks again within seconds");
    assert_eq!(hole.connecting(), 0);
}

#[tokio::test]
async fn a_silent_address_takes_bytes_and_says_nothing() {
    let hole = BlackHole::silent();
    let mut client = RawClient::connect(hole.address()).await;
    client.send(GET).await;
    assert!(client.is_quiet());
}

#[tokio::test]
async fn a_connection_gets_the_scripted_welcome() {
    let origin = Origin::builder().welcome(Welcome::Close).start(Reply::ok("x"));
    let mut client = RawClient::connect(origin.address()).await;
    assert_eq!(client.expect_end().await, Cut::Eof);

    origin.set_welcome(Welcome::Reset);
    let mut client = RawClient::connect(origin.address()).await;
    assert_eq!(client.expect_end().await, Cut::Reset);

    origin.set_welcome(Welcome::ResetAfter(7));
    let mut client = sent(&origin, "GET / ").await;
    origin.wait_until("6 bytes", |j| j.connections.iter().any(|c| c.received == 6)).await;
    assert!(client.is_quiet());
    client.send("HTTP").await;
    assert_eq!(client.expect_end().await, Cut::Reset);
    assert_eq!(origin.wait_closed().await[2].stray, b"GET / H");

    origin.set_welcome(Welcome::CloseAfter(3));
    let mut client = sent(&origin, "GET").await;
    assert_eq!(client.expect_end().await, Cut::Eof);

    origin.set_welcome(Welcome::Banner(b"220 hello\r\n".to_vec()));
    let mut client = RawClient::connect(origin.address()).await;
    assert_eq!(client.read_bytes(11).await, b"220 hello\r\n");
    client.send(GET).await;
    assert_eq!(client.read_response("GET").await.status, 200);

    origin.set_welcome(Welcome::Hang);
    let client = sent(&origin, GET).await;
    let last = origin.wait_connections(6).await.remove(5);
    assert!(client.is_quiet() && last.open && last.received == 0);
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let gate = Gate::new();
    let origin = Origin::start([Reply::ok("1"), Reply::ok("2").hold(&gate)]);
    let mut idle = sent(&origin, GET).await;
    assert!(idle.read_response("GET").await.is_complete());
    let mut busy = sent(&origin, GET).await;
    gate.wait_reached(1).await;
    origin.wait_until("the first to be idle", |j| j.connections[0].idle).await;
    origin.close_idle().await;
    assert_eq!(idle.expect_end().await, Cut::Eof);
    assert_eq!(origin.open(), 1);
    gate.release();
    assert_eq!(busy.read_response("GET").await.complete().text(), "2");
    origin.reset_all().await;
    assert_eq!(busy.expect_end().await, Cut::Reset);
    assert_eq!(origin.open(), 0);
}

#[tokio::test]
async fn a_listener_stops_and_starts_at_the_same_address() {
    let origin = Origin::start(Reply::ok("x"));
    let mut client = sent(&origin, GET).await;
    assert!(client.read_response("GET").await.is_complete());
    origin.stop_listening().await;
    let error = TcpStream::connect(origin.address()).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    client.send(GET).await;
    assert!(client.read_response("GET").await.is_complete());
    origin.listen_again().await;
    assert_eq!(get(origin.address(), "/").await.complete().text(), "x");
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_dropped_origin_ends_its_connections_and_its_port() {
    let origin = Origin::start(Reply::never());
    let address = origin.address();
    let mut client = sent(&origin, GET).await;
    origin.wait_heads(1).await;
    drop(origin);
    let ended = client.try_read_head("GET").await;
    assert!(matches!(ended, Err(ReadError::Closed(_))), "{ended:?}");
    let refused = crate::eventually!("the port to refuse", TcpStream::connect(address).await, |c| c.is_err());
    assert_eq!(refused.expect_err("just checked").kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn ipv6_and_untouched_origins() {
    let origin = Origin::builder().address("[::1]:0").start(Reply::ok("six"));
    origin.assert_untouched();
    assert_eq!(get(origin.address(), "/").await.complete().text(), "six");
    let touched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| origin.assert_untouched()));
    assert!(touched.is_err());
}
