//! Rule: the scope of each time-out.
//!
//! A pause in these tests is something a peer does, longer than a time-out; never a way to wait for something.

use std::time::Duration;

use testkit::client::RawClient;
use testkit::eventually;
use testkit::http::{BodyMode, Cut};
use testkit::origin::{Act, At, BlackHole, Reply};

use crate::fixture::{NEVER, Proxy, assert_made_up, bytes, ms, origin, origins, over, sized_post};

/// A slow peer.
async fn dawdle(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Sends one byte after the other with pauses, until the server closes.
async fn drip(client: &mut RawClient, bytes: &[u8], pause: Duration) {
    for byte in bytes {
        if !client.is_quiet() || client.try_send(&[*byte]).await.is_err() {
            return;
        }
        dawdle(pause).await;
    }
    panic!("the server took all {} bytes", bytes.len());
}

#[tokio::test]
async fn an_empty_line_between_requests_is_no_head_that_has_begun() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).listener(|l| l.timeouts.head = ms(100)).start();
    for stray in ["\r\n", "\r"] {
        let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.read_response("GET").await.expect_status(200);
        client.send(stray).await;
        dawdle(ms(400)).await;
        assert!(client.is_quiet(), "no 408 and no end");
        let rest = if stray == "\r" { "\n" } else { "" };
        client.send(format!("{rest}GET / HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.read_response("GET").await.expect_status(200);
    }
    // One empty line is ignored, but not several.
    let mut client = proxy.sent("\r\n\r\n").await;
    assert_made_up(&client.read_response("GET").await, 400, "http_request_error");
    // A single one ends like an idle connection.
    let proxy = over(&[&a]).listener(|l| l.timeouts.keepalive = ms(100)).start();
    let mut client = proxy.sent("\r\n").await;
    assert_eq!(client.expect_end().await, Cut::Eof);
}

#[tokio::test]
async fn the_head_has_one_time_out_in_all_however_it_drips() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).listener(|l| l.timeouts.head = ms(300)).start();
    let mut client = proxy.sent("GET / HTTP/1.1\r\nX-Slow: ").await;
    drip(&mut client, &[b'a'; 1000], ms(20)).await;
    let answer = client.read_response("GET").await;
    assert_made_up(&answer, 408, "http_request_error");
    assert_eq!(answer.header("connection"), Some("close"));
    client.wait_end().await;
    a.assert_untouched();
}

#[tokio::test]
async fn a_client_that_falls_silent_in_its_body_gets_408_and_the_legs_are_cancelled() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).streaming().listener(|l| l.timeouts.body = ms(200)).start();
    let mut client = proxy.sent(sized_post(100)).await;
    client.send("only this").await;
    let answer = client.read_response("POST").await;
    assert_made_up(&answer, 408, "http_request_error");
    assert_eq!(answer.header("connection"), Some("close"));
    client.wait_end().await;
    for origin in [&a, &b] {
        let seen = origin.wait_requests(1).await.remove(0);
        assert!(seen.end.is_cut() && seen.text() == "only this", "{seen}");
        assert_eq!(proxy.legs(origin, "cancelled"), 1);
    }
}

#[tokio::test]
async fn a_body_that_keeps_coming_is_not_idle() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).listener(|l| l.timeouts.body = ms(1000)).start();
    let mut client = proxy.sent(sized_post(8)).await;
    for _ in 0..8 {
        dawdle(ms(200)).await;
        client.send("x").await;
    }
    client.read_response("POST").await.expect_status(200);
    assert_eq!(a.wait_requests(1).await.remove(0).complete().text(), "xxxxxxxx");
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).listener(|l| l.timeouts.keepalive = ms(200)).start();
    let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_response("GET").await.expect_status(200);
    assert_eq!(client.expect_end().await, Cut::Eof);
    // A connection that never sent anything, too.
    assert_eq!(proxy.client().await.expect_end().await, Cut::Eof);
}

#[tokio::test]
async fn connecting() {
    let hole = BlackHole::unconnectable();
    let a = origin(5, Reply::ok("a"));
    let proxy = over(&[&hole, &a]).policy(|p| p.timeouts.connect = ms(200)).total(NEVER).start();
    assert_made_up(&proxy.get("/").await, 504, "connection_timeout");
    assert_eq!(proxy.legs(&hole, "timeout"), 1);
    proxy.wait_leg(&a, "ok").await;
}

#[tokio::test]
async fn the_first_byte_counts_from_the_end_of_the_request() {
    let a = origin(0, [Reply::ok("a"), Reply::never()]);
    let proxy = over(&[&a]).policy(|p| p.timeouts.first_byte = Some(ms(1000))).total(NEVER).start();
    let mut client = proxy.sent(sized_post(2)).await;
    client.send("x").await;
    dawdle(ms(1500)).await;
    client.send("y").await;
    client.read_response("POST").await.expect_status(200);
    assert_made_up(&proxy.get("/").await, 504, "connection_read_timeout");
    a.wait_closed().await;
}

#[tokio::test]
async fn the_whole_exchange() {
    let [a, b] = origins([Reply::ok("a"), Reply::never()]);
    let proxy = over(&[&a, &b]).total(ms(300)).start();
    let answer = proxy.get("/").await;
    assert_made_up(&answer, 504, "http_response_timeout");
    proxy.wait_leg(&b, "timeout").await;
    b.wait_closed().await;
}

#[tokio::test]
async fn the_whole_exchange_with_an_answer_that_never_ends() {
    let a = origin(0, Reply::ok(bytes(1000)).hang_at(At::Body(500)));
    let proxy = over(&[&a]).total(ms(300)).start();
    let answer = proxy.get("/").await;
    assert_eq!(answer.status, 504, "{answer}");
    a.wait_closed().await;
}

#[tokio::test]
async fn time_spent_waiting_for_the_client_does_not_count() {
    for stream in [false, true] {
        let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
        let proxy = over(&[&a, &b]).total(ms(1000)).policy(|p| p.stream = stream).start();
        let mut client = proxy.sent(sized_post(3)).await;
        for _ in 0..3 {
            dawdle(ms(500)).await;
            client.send("x").await;
        }
        client.read_response("POST").await.expect_status(200);
    }
}

#[tokio::test]
async fn an_answer_that_streams_has_only_idle_time_outs() {
    let a = origin(0, Reply::new(200).chunked_by(1, "streamed").act(At::Body(6), Act::Pause(ms(1500))));
    let proxy = over(&[&a]).require("any").total(ms(1000)).policy(|p| p.timeouts.idle = NEVER).start();
    assert_eq!(proxy.get("/").await.expect_status(200).text(), "streamed");
}

#[tokio::test]
async fn an_answer_that_streams_and_falls_silent_is_cut() {
    let a = origin(0, Reply::ok(bytes(1000)).hang_at(At::Body(500)));
    let proxy = over(&[&a]).require("any").total(NEVER).policy(|p| p.timeouts.idle = ms(200)).start();
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.body_length), (200, 500), "{answer}");
    assert!(answer.end.is_cut(), "{answer}");
    proxy.wait_leg(&a, "timeout").await;
    a.wait_closed().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let a = origin(0, Reply::new(200).endless("endless "));
    let proxy = over(&[&a]).require("any").total(ms(900)).listener(|l| l.timeouts.body = ms(300)).start();
    let mut client = RawClient::connect_small(proxy.address, 4096).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    a.wait_closed().await;
    client.set_body_mode(BodyMode::Digest);
    let answer = client.read_response("GET").await;
    assert!(answer.end.is_cut(), "{answer}");
    proxy.settled().await;
}

#[tokio::test]
async fn a_slow_reader_that_takes_some_is_served() {
    let body = bytes(1 << 20);
    let a = origin(0, Reply::ok(&body));
    let proxy = over(&[&a]).require("any").total(ms(1000)).listener(|l| l.timeouts.body = ms(1500)).start();
    let mut client = RawClient::connect_small(proxy.address, 4096).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = client.read_head("GET").await;
    for part in 1..=4 {
        dawdle(ms(300)).await;
        client.read_body(&mut answer, part * (256 << 10)).await;
    }
    client.read_body(&mut answer, u64::MAX).await;
    assert_eq!(answer.complete().body, body);
}

#[tokio::test]
async fn an_idle_connection_to_an_endpoint_is_kept_only_so_long() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).limits(|l| l.pool_idle = ms(200)).start();
    proxy.get("/").await.expect_status(200);
    dawdle(ms(300)).await;
    proxy.get("/").await.expect_status(200);
    assert_eq!(a.wait_connections(2).await.len(), 2, "too old to be used again");
    eventually!("idle connections to be closed", a.open(), |open| *open == 0);
}

/// How many answers the system buffers for clients that read none, after these good requests and a bad head each. Counted once the
/// proxy has given up all of these connections.
async fn taken_after(proxy: &Proxy, requests: &[String]) -> Vec<usize> {
    let mut clients = Vec::new();
    for good in requests {
        let mut client = RawClient::connect_small(proxy.address, 4096).await;
        client.send(good.clone() + "bad head\r\n\r\n").await;
        client.set_body_mode(BodyMode::Digest);
        clients.push(client);
    }
    let open = || proxy.metric("fanfare_client_connections", &[]);
    eventually!("every connection to be given up", open(), |open| *open == 0.0);
    let mut taken = Vec::new();
    for (mut client, good) in clients.into_iter().zip(requests) {
        let mut complete = 0;
        for method in good.lines().filter_map(|line| line.strip_suffix(" / HTTP/1.1")).chain(["GET"]) {
            match client.try_read_response(method).await {
                Ok(answer) if answer.is_complete() => complete += 1,
                _ => break,
            }
        }
        taken.push(complete);
    }
    taken
}

#[tokio::test]
async fn an_answer_to_a_bad_head_that_nobody_takes_is_given_up_as_the_listener_says() {
    let a = origin(0, Reply::ok(bytes(8 << 10)));
    let proxy = over(&[&a]).total(NEVER).listener(|l| {
        (l.timeouts.head, l.timeouts.keepalive, l.timeouts.body) = (NEVER, NEVER, ms(500));
    });
    let proxy = proxy.start();
    let (large, small) =
        (|n| "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(n), |n| "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(n));
    // How many large answers the buffers of the system hold depends on the machine and its load. Small ones then fill what is left, so
    // that on one of these connections there is no room for just the answer to the bad head.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let requests: Vec<String> = (0..64).map(large).collect();
        let taken = taken_after(&proxy, &requests).await;
        let room = taken.iter().enumerate().take_while(|(good, taken)| *taken > good).count();
        assert!((1..64).contains(&room), "{room} large answers were taken");
        let requests: Vec<String> = (0..64).map(|n| large(room - 1) + &small(n)).collect();
        let taken = taken_after(&proxy, &requests).await;
        if taken.iter().enumerate().any(|(n, taken)| *taken == room - 1 + n) {
            return;
        }
        seen.push((room, taken));
    }
    panic!("the answer to the bad head was never what did not fit: {seen:?}");
}
