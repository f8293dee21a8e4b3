//! Rule: slow clients cost the endpoints nothing. The legs begin when enough of the body has arrived; a client that is too slow on
//! average is given up, whether it sends or reads.

use std::time::Duration;

use testkit::client::RawClient;
use testkit::eventually;
use testkit::origin::{Gate, Reply};
use tokio::time::Instant;

use crate::fixture::{
    CHUNKED_POST, NEVER, Proxy, assert_made_up, bytes, chunked, ms, origin, origins, over, result_of, sized_post,
    unfinished,
};

/// Waits until the proxy has read this much of incomplete bodies.
async fn kept(proxy: &Proxy, least: usize) {
    eventually!(
        format!("{least} bytes to be read from the client"),
        proxy.metric("fanfare_buffered_bytes", &[]),
        |kept| *kept >= least as f64
    );
}

#[tokio::test]
async fn a_small_request_that_was_cut_reaches_no_endpoint() {
    type End = fn(RawClient);
    let ends: [(&str, End); 3] =
        [("closed", RawClient::close), ("reset", RawClient::reset), ("half-closed", |mut client| client.half_close())];
    for (how, end) in ends {
        for (head, part) in [(CHUNKED_POST.to_owned(), unfinished(&[b"first"])), (sized_post(100), b"first".to_vec())] {
            let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
            let proxy = over(&[&a, &b]).require("any").start();
            let mut client = proxy.sent([head.as_bytes(), &part].concat()).await;
            kept(&proxy, 1).await;
            end(client);
            eventually!("the request to be over", proxy.results("client"), |n| *n == 1);
            proxy.settled().await;
            client = proxy.client().await;
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            client.read_response("GET").await.expect_status(200);
            for origin in [&a, &b] {
                let seen = origin.wait_requests(1).await;
                assert!(seen.len() == 1 && seen[0].method == "GET", "{how}: {}", origin.journal());
                assert_eq!(proxy.legs(origin, "cancelled"), 0, "a leg that never began");
            }
        }
    }
}

#[tokio::test]
async fn a_small_request_that_breaks_the_rules_reaches_no_endpoint() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).policy(|p| p.max_body = Some(1000)).listener(|l| l.timeouts.body = ms(200)).start();
    let broken = [unfinished(&[b"first"]), b"zz\r\n".to_vec()].concat();
    for (body, status) in [(broken, 400), (unfinished(&[&bytes(1001)]), 413), (unfinished(&[b"then silence"]), 408)] {
        let mut client = proxy.sent([CHUNKED_POST.as_bytes(), &body].concat()).await;
        let answer = client.read_response("POST").await;
        assert_made_up(&answer, status, "http_request_error");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(result_of(&answer), [1, 0, 0, 1, 1]);
        client.half_close();
        client.wait_end().await;
    }
    proxy.settled().await;
    a.assert_untouched();
    assert_eq!(proxy.results("client"), 3);
}

#[tokio::test]
async fn a_body_that_drips_reaches_the_endpoints_when_it_is_whole() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let body = bytes(3000);
    let pieces: Vec<&[u8]> = body.chunks(1).collect();
    // As many pieces as bytes, in one write as in many: 3,000 of them would fill the window.
    for writes in [1, 300] {
        let mut client = proxy.sent(CHUNKED_POST).await;
        for some in pieces.chunks(pieces.len() / writes) {
            client.send(unfinished(some)).await;
        }
        kept(&proxy, 3000).await;
        let before = a.requests().len();
        assert_eq!(proxy.legs_in_flight(), 0, "{writes} writes");
        client.send("0\r\n\r\n").await;
        client.read_response("POST").await.expect_status(200);
        for origin in [&a, &b] {
            assert_eq!(origin.wait_requests(before + 1).await.pop().unwrap().complete().body, body);
        }
        proxy.settled().await;
    }
}

#[tokio::test]
async fn the_legs_begin_when_so_much_of_the_body_is_there() {
    for size in [64 << 10, 5000] {
        let [a] = origins([Reply::ok("a")]);
        let proxy = over(&[&a]).policy(|p| p.start_after = size as u64).start();
        let body = bytes(size + 1000);
        let mut client = proxy.sent(sized_post(body.len())).await;
        client.send(&body[..size - 1]).await;
        kept(&proxy, size - 1).await;
        a.assert_untouched();
        client.send(&body[size - 1..size]).await;
        a.wait_until("the first part", |j| j.requests.first().is_some_and(|r| r.body_length == size as u64)).await;
        client.send(&body[size..]).await;
        client.read_response("POST").await.expect_status(200);
        assert_eq!(a.wait_requests(1).await.remove(0).complete().body, body);
    }
}

#[tokio::test]
async fn a_route_that_streams_begins_at_the_first_piece() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).policy(|p| p.stream = true).start();
    let mut client = proxy.sent(CHUNKED_POST).await;
    for n in 1..=3_u64 {
        client.send(unfinished(&[b"x"])).await;
        for origin in [&a, &b] {
            let came = |r: &testkit::origin::Request| r.body_length == n;
            origin.wait_until("each piece as it comes", |j| j.requests.first().is_some_and(came)).await;
        }
    }
    client.send("0\r\n\r\n").await;
    client.read_response("POST").await.expect_status(200);
    // Before that no leg can begin.
    let mut waiting = proxy.sent(CHUNKED_POST).await;
    proxy.post(b"another").await.expect_status(200);
    assert_eq!(a.requests().len(), 2);
    waiting.send(chunked(&[b"late"])).await;
    waiting.read_response("POST").await.expect_status(200);
}

#[tokio::test]
async fn slow_clients_take_nothing_of_what_may_be_in_flight() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("a").hold(&gate)]);
    let proxy = over(&[&a]).limits(|l| (l.inflight, l.inflight_per_endpoint) = (2, 2)).total(NEVER).start();
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(proxy.sent(sized_post(100) + "x").await);
    }
    kept(&proxy, 20).await;
    let mut quick = [proxy.sent(sized_post(4) + "body").await, proxy.sent(sized_post(4) + "body").await];
    gate.wait_reached(2).await;
    // The limit of requests in flight is reached, and one with a complete body exceeds it.
    slow[0].send(&bytes(99)).await;
    let answer = slow[0].read_response("POST").await;
    assert_made_up(&answer, 503, "connection_limit_reached");
    assert_eq!((answer.keeps_alive, result_of(&answer)), (true, [1, 0, 0, 1, 1]), "{answer}");
    gate.release();
    for client in &mut quick {
        client.read_response("POST").await.expect_status(200);
    }
    // The others count once they have sent everything.
    for client in &mut slow[1..] {
        client.send(&bytes(99)).await;
        client.read_response("POST").await.expect_status(200);
    }
    assert_eq!(a.wait_requests(21).await.iter().filter(|r| r.is_complete()).count(), 21);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_before_the_legs_begin() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let head = "POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = proxy.sent(head).await;
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(client.read_bytes(interim.len()).await, interim.as_bytes());
    a.assert_untouched();
    client.send("body").await;
    client.read_response("POST").await.expect_status(200);
    assert_eq!(a.wait_requests(1).await.remove(0).complete().text(), "body");
}

/// The first 10 s are a client's own, so this takes as long.
#[tokio::test]
async fn a_body_that_comes_too_slowly_on_average_is_408() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let whole = over(&[&a]).start();
    let streams = over(&[&b]).policy(|p| p.stream = true).start();
    let any = over(&[&a]).policy(|p| p.min_body_rate = 0).start();
    let (mut one, mut two) = (whole.sent(sized_post(5000)).await, streams.sent(sized_post(5000)).await);
    let mut three = any.sent(sized_post(1000)).await;
    let mut sent = 0;
    while one.is_quiet() || two.is_quiet() {
        for client in [&mut one, &mut two, &mut three] {
            // A client that was given up may have closed already.
            let _ = client.try_send(b"x").await;
        }
        sent += 1;
        assert!(sent < 900, "neither of them was given up");
        // The pace of the client, 10 bytes a second.
        tokio::time::sleep(ms(100)).await;
    }
    assert!(sent > 50, "given up after {sent} pieces, which is too early");
    for client in [&mut one, &mut two] {
        let answer = client.read_response("POST").await;
        let problem = assert_made_up(&answer, 408, "http_request_error");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("1KiB")), "{problem}");
    }
    three.send(&bytes(1000 - sent)).await;
    three.read_response("POST").await.expect_status(200);
    let seen = a.wait_requests(1).await;
    assert!(seen.len() == 1 && seen[0].body_length == 1000, "{}", a.journal());
    assert!(!b.wait_requests(1).await[0].is_complete());
}

/// The first 10 s are a client's own, so this takes as long.
#[tokio::test]
async fn a_client_that_takes_its_answer_too_slowly_on_average_is_cut_off() {
    let a = origin(0, Reply::new(200).endless("answer ".repeat(1000)));
    let setup = || over(&[&a]).require("any").total(NEVER).listener(|l| l.timeouts.body = NEVER);
    let (strict, proxy) = (setup().policy(|p| p.min_body_rate = 100 << 20).start(), setup().start());
    let mut clients = Vec::new();
    for address in [strict.address, proxy.address] {
        let mut client = RawClient::connect_small(address, 4096).await;
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = client.read_head("GET").await;
        clients.push((client, answer));
    }
    let begun = Instant::now();
    let mut taken = 0;
    while !clients[0].1.end.is_cut() {
        taken += 1000;
        for (client, answer) in &mut clients {
            client.read_body(answer, taken).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "it was not given up");
        // The pace of the client, 20 KB a second.
        tokio::time::sleep(ms(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(9), "given up too early");
    eventually!("it to be gone", strict.metric("fanfare_client_connections", &[]), |n| *n == 0.0);
    assert!(!clients[1].1.end.is_cut(), "more than 1 KiB a second is enough for this one");
}
