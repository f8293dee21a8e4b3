//! Draining: requests in flight finish, idle connections are closed, and the deadline holds.

use testkit::client::RawClient;
use testkit::http::Cut;
use testkit::origin::{At, Gate, Reply};

use crate::fixture::{NEVER, bytes, ms, origin, origins, over, sized_post};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn requests_in_flight_finish_and_idle_connections_are_closed() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate)]);
    let mut proxy = over(&[&a, &b]).streaming().total(NEVER).start();
    let mut fresh = proxy.client().await;
    b.set([Reply::ok("b"), Reply::ok("b").hold(&gate)]);
    let mut idle = proxy.sent(GET).await;
    idle.read_response("GET").await.expect_status(200);
    let mut waiting = proxy.sent(GET).await;
    let mut sending = proxy.sent(sized_post(4)).await;
    sending.send("bo").await;
    gate.wait_reached(1).await;
    b.wait_heads(3).await;

    let draining = tokio::spawn(proxy.running().drain(ms(200), NEVER));
    assert_eq!(idle.expect_end().await, Cut::Eof);
    assert_eq!(fresh.expect_end().await, Cut::Eof);
    assert!(!draining.is_finished(), "two requests are in flight");
    sending.send("dy").await;
    gate.release();
    for (client, method) in [(&mut waiting, "GET"), (&mut sending, "POST")] {
        let answer = client.read_response(method).await.expect_status(200);
        assert_eq!(answer.header("connection"), Some("close"), "no next request: {answer}");
        client.expect_end().await;
    }
    assert_eq!(testkit::eventually::within("the drain", draining).await.unwrap().cut, 0);
    assert!(RawClient::try_connect(proxy.address).await.is_err(), "nobody listens any more");
    assert_eq!(b.wait_requests(3).await.pop().unwrap().complete().text(), "body");
    testkit::eventually!("connections to endpoints to be closed", (a.open(), b.open()), |open| *open == (0, 0));
}

#[tokio::test]
async fn stragglers_finish_too() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok(bytes(100_000)).hold(&gate)]);
    let mut proxy = over(&[&a, &b]).require("any").total(NEVER).start();
    proxy.post(b"body").await.expect_status(200);
    gate.wait_reached(1).await;
    let draining = tokio::spawn(proxy.running().drain(ms(200), NEVER));
    testkit::eventually!("the listener to be closed", RawClient::try_connect(proxy.address).await.is_err(), |closed| {
        *closed
    });
    assert!(!draining.is_finished());
    gate.release();
    assert_eq!(testkit::eventually::within("the drain", draining).await.unwrap().cut, 0);
    assert_eq!(proxy.legs(&b, "ok"), 1);
}

#[tokio::test]
async fn the_deadline_cuts_what_has_not_ended() {
    let reply = Reply::ok(bytes(1000)).hang_at(At::Body(500));
    let [a, b] = origins([reply, Reply::never()]);
    let mut proxy = over(&[&a, &b]).require("any").streaming().total(NEVER).start();
    let mut streaming = proxy.sent(GET).await;
    let mut answer = streaming.read_head("GET").await;
    streaming.read_body(&mut answer, 500).await;
    let mut sending = proxy.sent(sized_post(10)).await;
    sending.send("part").await;
    for origin in [&a, &b] {
        origin.wait_heads(2).await;
    }
    let cut = testkit::eventually::within("the drain", proxy.drain(ms(200))).await;
    assert!(cut >= 2, "two connections at least: {cut}");
    streaming.read_body(&mut answer, u64::MAX).await;
    assert!(answer.end.is_cut(), "{answer}");
    sending.wait_end().await;
    for origin in [&a, &b] {
        origin.wait_closed().await;
        assert!(!origin.requests()[1].is_complete(), "a copy that was cut never looks whole");
    }
}

#[tokio::test]
async fn a_kept_connection_may_bring_one_more_request() {
    let a = origin(0, Reply::ok("a"));
    let mut proxy = over(&[&a]).start();
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut client = proxy.sent(GET).await;
        client.read_response("GET").await.expect_status(200);
        kept.push(client);
    }
    let draining = tokio::spawn(proxy.running().drain(NEVER, NEVER));
    testkit::eventually!("the listener to be closed", RawClient::try_connect(proxy.address).await.is_err(), |closed| {
        *closed
    });
    assert!(kept.iter().all(RawClient::is_quiet), "a request may be on its way");
    for client in &mut kept[..2] {
        client.send(format!("{}body", sized_post(4))).await;
        let answer = client.read_response("POST").await.expect_status(200);
        assert_eq!(answer.header("connection"), Some("close"), "one more and no further: {answer}");
        assert_eq!(client.expect_end().await, Cut::Eof);
    }
    assert!(!draining.is_finished(), "the third may still bring one");
    kept.pop().unwrap().close();
    assert_eq!(testkit::eventually::within("the drain", draining).await.unwrap().cut, 0);
    assert!(a.wait_requests(5).await[3..].iter().all(|seen| seen.text() == "body"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_it_has_brought_nothing_for_so_long() {
    let a = origin(0, Reply::ok("a"));
    let mut proxy = over(&[&a]).start();
    let mut kept = proxy.sent(GET).await;
    kept.read_response("GET").await.expect_status(200);
    let begun = std::time::Instant::now();
    let draining = tokio::spawn(proxy.running().drain(ms(300), NEVER));
    assert_eq!(kept.expect_end().await, Cut::Eof);
    assert!(begun.elapsed() >= ms(300), "after {:?}", begun.elapsed());
    assert_eq!(testkit::eventually::within("the drain", draining).await.unwrap().cut, 0);
}

/// Sends POSTs one after the other until told to stop, on one connection for as long as the proxy keeps it. Returns how many.
async fn post_on(address: std::net::SocketAddr, name: usize, stop: tokio::sync::watch::Receiver<bool>) -> usize {
    let mut client = RawClient::connect(address).await;
    for n in 0.. {
        let body = format!("{name}-{n}");
        client.send(format!("{}{body}", sized_post(body.len()))).await;
        let answer = client.read_response("POST").await.complete().expect_status(200);
        if *stop.borrow() {
            return n + 1;
        }
        if answer.header("connection") == Some("close") {
            client = RawClient::connect(address).await;
        }
    }
    unreachable!("it is told to stop")
}

#[tokio::test]
async fn a_hand_over_loses_no_request_of_kept_connections() {
    const CLIENTS: usize = 8;
    let a = origin(0, Reply::ok("a"));
    let mut current = over(&[&a]).config(|c| c.reuse_port = true).start();
    let address = current.address;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..CLIENTS).map(|name| tokio::spawn(post_on(address, name, stopped.clone()))).collect();
    for round in 1..=10 {
        a.wait_requests(round * 100).await;
        let next = over(&[&a]).config(|c| c.reuse_port = true).listener(|l| l.address = address).start();
        let drained = current.running().drain(NEVER, NEVER);
        assert_eq!(testkit::eventually::within("the drain", drained).await.cut, 0);
        current = next;
    }
    stop.send_replace(true);
    let mut sent = Vec::new();
    for (name, client) in clients.into_iter().enumerate() {
        let number = testkit::eventually::within("the client to end", client).await.expect("no request is lost");
        sent.extend((0..number).map(|n| format!("{name}-{n}")));
    }
    let mut received: Vec<String> = a.requests().iter().map(|seen| seen.text()).collect();
    sent.sort();
    received.sort();
    assert_eq!(received, sent, "each once");
}

#[tokio::test]
async fn a_proxy_with_nothing_to_do_is_gone_at_once() {
    let a = origin(0, Reply::ok("a"));
    let mut proxy = over(&[&a]).config(|c| c.threads = 2).start();
    proxy.get("/").await.expect_status(200);
    assert_eq!(testkit::eventually::within("the drain", proxy.drain(NEVER)).await, 0);
}

#[tokio::test]
async fn another_process_can_bind_beside_it_and_take_over() {
    let gate = Gate::new();
    let a = origin(0, [Reply::ok("old").hold(&gate), Reply::ok("new")]);
    let mut old = over(&[&a]).config(|c| c.reuse_port = true).total(NEVER).start();
    let mut waiting = old.sent(GET).await;
    gate.wait_reached(1).await;
    let address = old.address;
    let new = over(&[&a]).config(|c| c.reuse_port = true).listener(|l| l.address = address).start();
    assert_eq!(new.address, address);
    let draining = tokio::spawn(old.running().drain(ms(200), NEVER));
    testkit::eventually!(
        "the new one to get all connections",
        {
            let before = new.metric("fanfare_requests_total", &[("result", "ok")]);
            new.get("/").await;
            new.metric("fanfare_requests_total", &[("result", "ok")]) > before
        },
        |taken| *taken
    );
    gate.release();
    assert_eq!(waiting.read_response("GET").await.expect_status(200).text(), "old");
    assert_eq!(testkit::eventually::within("the drain", draining).await.unwrap().cut, 0);
    for _ in 0..10 {
        new.get("/").await.expect_status(200);
    }
}
