//! A faulty endpoint or client does not affect others, and leaves nothing behind.

use testkit::eventually;
use testkit::origin::{BlackHole, Gate, Origin, Reply, Welcome};

use crate::fixture::{
    MORE_THAN_SYSTEM_BUFFERS, NEVER, Place, assert_made_up, bytes, ms, origin, origins, over, refusing, result_of,
    route,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn endpoints_that_hang_delay_only_requests_that_need_them() {
    let a = origin(0, Reply::ok("a"));
    let (silent, hole, dead) = (BlackHole::silent(), BlackHole::unconnectable(), refusing(7));
    let hung = Origin::builder().address("127.0.0.9:0").welcome(Welcome::Hang).start(Reply::ok(""));
    let places: [&dyn Place; 5] = [&a, &silent, &hole, &dead, &hung];
    let proxy = over(&places).require("any").total(NEVER).policy(|p| p.timeouts.connect = NEVER).start();
    // No time-out passes in this test: every answer comes while the others still hang.
    for n in 1..=30 {
        let answer = proxy.post(b"body").await.expect_status(200);
        assert_eq!(answer.text(), "a", "request {n}");
    }
    assert!(proxy.legs_in_flight() >= 3 * 30, "all of them still hang: {}", proxy.legs_in_flight());
    assert_eq!(a.wait_requests(30).await.iter().filter(|r| r.is_complete()).count(), 30);
}

#[tokio::test]
async fn a_route_is_not_affected_by_another() {
    let gate = Gate::new();
    let [a, stuck] = origins([Reply::ok("a"), Reply::ok("stuck").hold(&gate)]);
    let proxy = over(&[&a]).listener(|l| {
        let mut other = route("other", "other");
        other.matches = "/other/*".parse().unwrap();
        l.routes.insert(0, other.into());
    });
    let proxy = proxy.total(NEVER).start();
    proxy.publish_cluster("other", &[&stuck]);
    eventually!("the other route", proxy.empty_routes().len(), |n| *n == 0);
    let waiting = proxy.sent_times(20, "GET /other/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    gate.wait_reached(20).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.expect_status(200).text(), "a");
    }
    gate.release();
    for mut client in waiting {
        assert_eq!(client.read_response("GET").await.expect_status(200).text(), "stuck");
    }
}

#[tokio::test]
async fn a_burst_of_requests_connects_at_once() {
    let hole = BlackHole::unconnectable();
    let proxy = over(&[&hole]).policy(|p| p.timeouts.connect = NEVER).total(NEVER).start();
    let _waiting = proxy.sent_times(20, GET).await;
    eventually!("all to connect", hole.connecting(), |n| *n == 20);
}

#[tokio::test]
async fn to_an_endpoint_that_swallows_connections_a_few_connect_for_all_until_it_is_back() {
    let hole = BlackHole::unconnectable();
    let proxy = over(&[&hole]).policy(|p| {
        p.timeouts.connect = NEVER;
        p.timeouts.first_byte = Some(ms(100));
    });
    let proxy = proxy.listener(|l| {
        let mut brief = route("brief", crate::fixture::CLUSTER);
        brief.matches = "/brief/*".parse().unwrap();
        brief.policy.timeouts.connect = ms(200);
        l.routes.insert(0, brief.into());
    });
    let proxy = proxy.total(NEVER).start();
    assert_made_up(&proxy.get("/brief/").await, 504, "connection_timeout");
    // Legs that wait for a connection have the same time-out and outcome.
    let brief = futures::future::join_all((0..20).map(|_| proxy.get("/brief/")));
    for answer in brief.await {
        assert_made_up(&answer, 504, "connection_timeout");
    }
    assert_eq!(proxy.legs(&hole, "timeout"), 21);
    let mut waiting = proxy.sent_times(200, GET).await;
    eventually!("all to wait", proxy.legs_in_flight(), |n| *n == 200);
    // One every 100 ms. That would be all of them after 20 s.
    let connecting = eventually!("some to connect", hole.connecting(), |n| *n > 0);
    assert!(connecting < 100, "{connecting} connect to where nobody answers");
    let _hole = hole.into_silent();
    // All of them get a connection, but no answer.
    for client in &mut waiting {
        assert_made_up(&client.read_response("GET").await, 504, "connection_read_timeout");
    }
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let a = origin(0, Reply::ok("a"));
    let silent = BlackHole::silent();
    let [_, never, cut] =
        origins([Reply::ok(""), Reply::never(), Reply::ok(bytes(100_000)).reset_at(testkit::origin::At::Body(70_000))]);
    let dead = refusing(6);
    let places: [&dyn Place; 5] = [&a, &silent, &never, &cut, &dead];
    for require in ["any", "all", "majority"] {
        let proxy = over(&places).require(require).total(ms(300)).policy(|p| p.timeouts.connect = ms(200)).start();
        for n in 0..10 {
            let mut client = proxy.sent(crate::fixture::sized_post(1000)).await;
            match n % 3 {
                // A client that sends everything and reads, one that disconnects in the middle, and one at the end.
                0 => {
                    client.send(bytes(1000)).await;
                    client.read_response("POST").await;
                }
                1 => client.send(bytes(10)).await,
                _ => client.send(bytes(1000)).await,
            }
            client.close();
        }
        proxy.settled().await;
        eventually!("clients to be gone", proxy.metric("fanfare_client_connections", &[]), |n| *n == 0.0);
        assert_eq!(proxy.handle.inflight(), 0);
        eventually!("what hung to be closed", (never.open(), cut.open()), |open| *open == (0, 0));
        assert!(a.open() <= 10, "idle ones are kept, of endpoints that are well: {}", a.open());
        let idle = proxy.metric("fanfare_idle_connections", &[]);
        assert_eq!(idle as usize, a.open(), "and each of them is known");
        drop(proxy);
        a.reset_all().await;
    }
}

#[tokio::test]
async fn client_connections_are_capped() {
    let gate = Gate::new();
    let [a] =
        origins([[Reply::ok("a").hold(&gate), Reply::ok("a").hold(&gate), Reply::ok("a").hold(&gate), Reply::ok("a")]]);
    let proxy = over(&[&a]).limits(|l| l.connections = 3).total(NEVER).start();
    let mut clients = Vec::new();
    for n in 1..=3 {
        clients.push(proxy.sent(GET).await);
        gate.wait_reached(n).await;
    }
    let mut refused = proxy.sent(GET).await;
    let answer = refused.read_response("GET").await;
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{answer}");
    refused.half_close();
    refused.wait_end().await;
    gate.release();
    for client in &mut clients {
        client.read_response("GET").await.expect_status(200);
    }
    clients.pop().unwrap().close();
    eventually!("room", proxy.metric("fanfare_client_connections", &[]), |n| *n == 2.0);
    proxy.get("/").await.expect_status(200);
    assert_eq!(a.requests().len(), 4);
}

#[tokio::test]
async fn where_there_is_no_room_the_connection_longest_without_a_whole_request_makes_it() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a])
        .limits(|l| l.connections = 3)
        .listener(|l| (l.timeouts.head, l.timeouts.keepalive) = (NEVER, NEVER))
        .start();
    let mut silent = proxy.client().await;
    eventually!("the first", proxy.metric("fanfare_client_connections", &[]), |n| *n == 1.0);
    let mut asks = proxy.sent(GET).await;
    asks.read_response("GET").await.expect_status(200);
    let mut half = proxy.sent("GET / HTTP/1.1\r\nHo").await;
    eventually!("all three", proxy.metric("fanfare_client_connections", &[]), |n| *n == 3.0);
    asks.send(GET).await;
    asks.read_response("GET").await.expect_status(200);
    let mut others = Vec::new();
    for gone in [&mut silent, &mut half] {
        let mut another = proxy.sent(GET).await;
        another.read_response("GET").await.expect_status(200);
        gone.expect_end().await;
        others.push(another);
    }
    asks.send(GET).await;
    asks.read_response("GET").await.expect_status(200);
}

#[tokio::test]
async fn any_number_of_silent_clients_keeps_no_request_out() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a])
        .limits(|l| l.connections = 50)
        .listener(|l| (l.timeouts.head, l.timeouts.keepalive) = (NEVER, NEVER))
        .start();
    let mut held = Vec::new();
    for n in 0..300 {
        held.push(proxy.sent(if n % 2 == 0 { "" } else { "GET / HTTP/1.1\r\nHo" }).await);
        if n % 50 == 49 {
            proxy.get("/").await.expect_status(200);
        }
    }
}

#[tokio::test]
async fn requests_in_flight_are_capped() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("a").hold(&gate)]);
    let proxy = over(&[&a]).limits(|l| l.inflight = 2).total(NEVER).start();
    let mut waiting = [proxy.sent(GET).await, proxy.sent(GET).await];
    gate.wait_reached(2).await;
    let mut client = proxy.sent(crate::fixture::sized_post(4) + "body").await;
    let answer = client.read_response("POST").await;
    assert_eq!(answer.status, 503, "{answer}");
    assert_eq!(a.requests().len(), 2, "nothing was sent for it");
    gate.release();
    for client in &mut waiting {
        client.read_response("GET").await.expect_status(200);
    }
    proxy.settled().await;
    proxy.get("/").await.expect_status(200);
}

#[tokio::test]
async fn legs_are_capped_per_endpoint_and_others_are_not_concerned() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a").hold(&gate), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).limits(|l| l.inflight_per_endpoint = 3).total(NEVER).start();
    let waiting = proxy.sent_times(3, GET).await;
    gate.wait_reached(3).await;
    let answer = proxy.get("/").await;
    assert_made_up(&answer, 503, "connection_limit_reached");
    assert_eq!(result_of(&answer), [2, 1, 1, 0, 2]);
    assert_eq!((a.requests().len(), b.wait_requests(4).await.len()), (3, 4));
    gate.release();
    for mut client in waiting {
        client.read_response("GET").await.expect_status(200);
    }
}

#[tokio::test]
async fn idle_connections_are_capped_per_endpoint() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("a").hold(&gate)]);
    let proxy = over(&[&a]).limits(|l| l.pool = 2).total(NEVER).start();
    let waiting = proxy.sent_times(5, GET).await;
    gate.wait_reached(5).await;
    assert_eq!(a.accepted(), 5);
    gate.release();
    for mut client in waiting {
        client.read_response("GET").await.expect_status(200);
    }
    proxy.settled().await;
    eventually!("all but two to be closed", a.open(), |open| *open == 2);
    assert_eq!(proxy.metric("fanfare_idle_connections", &[]), 2.0);
}

#[tokio::test]
async fn bytes_in_flight_are_capped_and_everybody_goes_on() {
    let gate = Gate::new();
    let slow = Reply::ok("slow").reading(testkit::origin::Reading::HeldAfter(1000, gate.clone()));
    let a = Origin::builder().address("127.0.0.1:0").receive_buffer(16 << 10).start(slow);
    let proxy = over(&[&a]).limits(|l| l.buffered = 300 << 10).total(NEVER).start();
    let size = MORE_THAN_SYSTEM_BUFFERS;
    let body = bytes(size);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.sent(crate::fixture::sized_post(size)).await;
        let sent = client.send_until_stalled(&body, ms(300)).await.unwrap();
        assert!(sent < size);
        clients.push((client, sent));
    }
    let held = proxy.metric("fanfare_buffered_bytes", &[]);
    assert!(held <= (300 << 10) as f64 + 4.0 * 65_536.0, "{held} bytes of four requests");
    gate.release();
    let body = &body;
    let rest = clients.iter_mut().map(|(client, sent)| async move {
        client.send(&body[*sent..]).await;
        client.read_response("POST").await.expect_status(200);
    });
    // All at once: none can wait for another.
    futures::future::join_all(rest).await;
    assert!(a.wait_requests(4).await.iter().all(|r| r.is_complete() && r.body_length == size as u64));
}

#[tokio::test]
async fn running_out_of_descriptors_is_an_error_answer_and_not_a_spin() {
    let gate = Gate::new();
    let a = origin(0, Reply::ok("a").hold(&gate));
    let process = crate::process::Process::start(&[a.address()], "all", Some(64)).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = testkit::client::RawClient::connect(process.address).await;
        client.send(GET).await;
        clients.push(client);
    }
    // As many as there are descriptors for are in progress or refused; the rest waits to be accepted.
    eventually!(
        "the last descriptor to be taken",
        clients.iter().filter(|c| !c.is_quiet()).count() + a.requests().len(),
        |n| *n >= 20
    );
    let before = process.processor_ticks();
    // Measures CPU time per second, so a second has to pass.
    tokio::time::sleep(ms(1000)).await;
    let used = process.processor_ticks() - before;
    assert!(used < 50, "{used} hundredths of a second of processor time in one second of waiting");
    gate.release();
    // Each closes when it has its answer, which is what gives others a descriptor.
    let answers = clients.into_iter().map(|mut client| async move { client.read_response("GET").await });
    let answers = futures::future::join_all(answers).await;
    for answer in &answers {
        match answer.status {
            502 => drop(assert_made_up(answer, 502, "proxy_internal_error")),
            503 => drop(assert_made_up(answer, 503, "connection_limit_reached")),
            _ => assert_eq!(answer.status, 200, "{answer}"),
        }
    }
    let refused = answers.iter().filter(|answer| answer.status != 200).count();
    assert!(refused < 60, "some were served");
    let mut again = testkit::client::RawClient::connect(process.address).await;
    again.send(GET).await;
    again.read_response("GET").await.expect_status(200);
}
