//! SIGTERM: first readiness ends, then no connections are accepted, then requests in flight end or are cut off.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::{
    client::{self, RawClient, request_bytes},
    origin::{At, Gate, Origin, Reply},
};

use crate::process::Fanfare;

async fn wait_draining(fanfare: &Fanfare) {
    let ready = async || client::get(fanfare.admin(), "/-/ready").await;
    let told = testkit::eventually!("the drain to begin", ready().await, |ready| ready.status == 503);
    assert_eq!(told.text(), "NOT READY: draining");
}

async fn wait_refusing(fanfare: &Fanfare) {
    let address = fanfare.address();
    testkit::eventually!("connections to be refused", RawClient::try_connect(address).await.is_err(), |refused| {
        *refused
    });
}

/// Signals within this time after the first one count as the same.
const ECHO: Duration = Duration::from_millis(150);

/// A client whose request is at the origin, which delays its answer.
async fn in_flight(fanfare: &Fanfare, origin: &Origin) -> RawClient {
    let mut client = RawClient::connect(fanfare.address()).await;
    client.send(request_bytes("h", "POST", "/", &[], b"body")).await;
    origin.wait_requests(1).await;
    client
}

#[tokio::test]
async fn requests_in_flight_finish_and_the_exit_status_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let gate = Gate::new();
        let origin = Origin::start(Reply::ok("finished").hold_at(At::Start, &gate));
        let fanfare = Fanfare::broadcast(&[origin.address()], &["--timeout", "1h"]).await;
        fanfare.wait_ready().await;
        let mut client = in_flight(&fanfare, &origin).await;
        fanfare.signal(signal);
        wait_draining(&fanfare).await;
        wait_refusing(&fanfare).await;
        gate.release();
        let answer = client.read_response("POST").await.complete();
        assert_eq!((answer.status, answer.text().as_str()), (200, "finished"));
        client.wait_end().await;
        let finished = fanfare.finish().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn two_signals_at_once_are_one() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("finished").hold_at(At::Start, &gate));
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--timeout", "1h"]).await;
    fanfare.wait_ready().await;
    let mut client = in_flight(&fanfare, &origin).await;
    // It finds both at once, however busy the machine is.
    for signal in [Signal::STOP, Signal::TERM, Signal::INT, Signal::CONT] {
        fanfare.signal(signal);
    }
    wait_refusing(&fanfare).await;
    gate.release();
    assert_eq!(client.read_response("POST").await.complete().text(), "finished");
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[tokio::test]
async fn a_kept_connection_may_bring_one_more_request_and_is_closed_when_it_brings_none() {
    let origin = Origin::start(Reply::ok("fine"));
    let flags = ["--drain-timeout", "1h", "--drain-idle", "5s"];
    let mut fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut used = RawClient::connect(fanfare.address()).await;
        used.send(request_bytes("h", "GET", "/", &[], b"")).await;
        used.read_response("GET").await.complete().expect_status(200);
        clients.push(used);
    }
    fanfare.signal(Signal::TERM);
    wait_refusing(&fanfare).await;
    clients[0].send(request_bytes("h", "POST", "/", &[], b"one more")).await;
    let answer = clients[0].read_response("POST").await.complete().expect_status(200);
    assert_eq!(answer.header("connection"), Some("close"), "{answer}");
    for client in &mut clients {
        client.expect_end().await;
    }
    assert_eq!(fanfare.exit().await.code(), Some(0));
    assert_eq!(origin.wait_requests(3).await.pop().expect("three").text(), "one more");
}

#[tokio::test]
async fn the_deadline_cuts_what_does_not_end() {
    let origin = Origin::start(Reply::never());
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--timeout", "1h", "--drain-timeout", "300ms"]).await;
    fanfare.wait_ready().await;
    let mut client = in_flight(&fanfare, &origin).await;
    let start = Instant::now();
    fanfare.signal(Signal::TERM);
    client.wait_end().await;
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(start.elapsed() >= Duration::from_millis(300), "it was cut after {:?}", start.elapsed());
}

#[tokio::test]
async fn during_the_delay_it_is_not_ready_but_serves_and_a_second_signal_ends_it() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--drain-delay", "1h"]).await;
    fanfare.wait_ready().await;
    fanfare.signal(Signal::TERM);
    wait_draining(&fanfare).await;
    client::get(fanfare.address(), "/").await.complete().expect_status(200);
    tokio::time::sleep(ECHO).await;
    fanfare.signal(Signal::TERM);
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_requests_in_flight() {
    let origin = Origin::start(Reply::never());
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--timeout", "1h", "--drain-timeout", "1h"]).await;
    fanfare.wait_ready().await;
    let mut client = in_flight(&fanfare, &origin).await;
    fanfare.signal(Signal::TERM);
    wait_refusing(&fanfare).await;
    tokio::time::sleep(ECHO).await;
    fanfare.signal(Signal::INT);
    client.wait_end().await;
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
}
