//! HTTP/1.1 in full, on both sides.

use testkit::client::request_bytes;
use testkit::http::Framing;
use testkit::origin::{At, Gate, Origin, Reply, Script};

use crate::fixture::{CHUNKED_POST, assert_head, bytes, chunked, origin, origins, over, sized_post};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test]
async fn connections_persist_on_both_sides() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let mut client = proxy.client().await;
    for n in 1..=20 {
        client.send(sized_post(4) + "body").await;
        let answer = client.read_response("POST").await.expect_status(200);
        assert!(answer.keeps_alive, "request {n}: {answer}");
    }
    for origin in [&a, &b] {
        let seen = origin.wait_requests(20).await;
        assert!(seen.iter().all(|r| r.is_complete() && r.text() == "body"));
        assert_eq!(origin.accepted(), 1);
    }
    assert_eq!(proxy.metric("fanfare_idle_connections", &[]), 2.0);
}

#[tokio::test]
async fn keep_alive_of_clients_can_be_turned_off() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).listener(|l| l.keepalive = false).start();
    for _ in 0..2 {
        let mut client = proxy.sent(GET).await;
        let answer = client.read_response("GET").await.expect_status(200);
        assert_eq!(answer.header("connection"), Some("close"));
        client.expect_end().await;
        proxy.settled().await;
    }
    assert_eq!(a.accepted(), 1, "that of endpoints is another matter");
}

#[tokio::test]
async fn either_side_can_end_its_connection() {
    let [a, b] = origins([Reply::ok("a").connection_close(), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.send(GET).await;
        let answer = client.read_response("GET").await.expect_status(200);
        assert!(
            answer.keeps_alive && answer.header("connection").is_none(),
            "a's wish is no business of the client: {answer}"
        );
        proxy.settled().await;
    }
    assert_eq!((a.accepted(), b.accepted()), (2, 1));
    client.send("GET / HTTP/1.1\r\nHost: shop\r\nConnection: Close\r\n\r\n").await;
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!(answer.header("connection"), Some("close"));
    client.expect_end().await;
    assert_eq!(b.accepted(), 1, "nor is the client's of the endpoints");
}

#[tokio::test]
async fn bodies_of_every_size_arrive_byte_for_byte_in_both_framings() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let echo = || {
        Script::on_request(|request| match request.framing {
            Framing::Chunked => Reply::new(200).chunked_by(5000, &request.body),
            _ => Reply::ok(&request.body),
        })
    };
    a.set(echo());
    let proxy = over(&[&a, &b]).start();
    let mut client = proxy.client().await;
    for (n, size) in [0, 1, 255, 256, 4096, 65_535, 65_536, 65_537, 262_144, 1_000_000].into_iter().enumerate() {
        let body = bytes(size);
        client.send(sized_post(size)).await;
        client.send(&body).await;
        assert_eq!(client.read_response("POST").await.expect_status(200).body, body, "{size} bytes");
        let pieces: Vec<&[u8]> = body.chunks(9_999).collect();
        client.send(CHUNKED_POST).await;
        client.send(chunked(&pieces)).await;
        assert_eq!(client.read_response("POST").await.expect_status(200).body, body, "{size} bytes in chunks");
        for seen in &b.wait_requests(2 * n + 2).await[2 * n..] {
            assert!(seen.is_complete() && seen.body == body, "{size} bytes: {seen}");
        }
    }
}

#[tokio::test]
async fn a_body_of_many_tiny_chunks_arrives_whole() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let body = bytes(5_000);
    let pieces: Vec<&[u8]> = body.chunks(1).collect();
    let wire = [CHUNKED_POST.as_bytes(), &chunked(&pieces)].concat();
    proxy.answer_to(wire, "POST").await.expect_status(200);
    for origin in [&a, &b] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().body, body);
    }
}

#[tokio::test]
async fn a_head_and_a_body_can_come_in_any_pieces() {
    let [a] = origins([Reply::ok("answer")]);
    let proxy = over(&[&a]).start();
    let wire = [CHUNKED_POST.as_bytes(), &chunked(&[b"hello", b" world"])].concat();
    let mut client = proxy.client().await;
    for byte in &wire {
        client.send([*byte]).await;
    }
    client.read_response("POST").await.expect_status(200);
    a.set(Reply::new(200).chunked(["one", "two"]).drip(1, std::time::Duration::ZERO));
    client.send(GET).await;
    assert_eq!(client.read_response("GET").await.expect_status(200).text(), "onetwo");
    assert_eq!(a.wait_requests(2).await.remove(0).complete().text(), "hello world");
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    for reply in [
        Reply::new(200).bare().content_length(1_000_000),
        Reply::new(200).bare().header("Transfer-Encoding", "chunked"),
        Reply::new(200).bare(),
        Reply::new(404).bare().content_length(5),
    ] {
        let a = origin(0, reply.clone().header("X-A", "1"));
        for require in ["all", "any"] {
            let proxy = over(&[&a]).require(require).start();
            let mut client = proxy.client().await;
            for _ in 0..2 {
                client.send("HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
                let answer = client.read_response("HEAD").await;
                assert!(matches!(answer.status, 200 | 404) && answer.keeps_alive, "{answer}");
                assert_eq!(answer.header("x-a"), Some("1"));
                assert!(client.is_quiet(), "no body follows");
            }
            assert!(a.requests().iter().all(|r| r.method == "HEAD"));
        }
    }
    let a = origin(0, Reply::new(200).bare().content_length(1_000_000));
    let answer = over(&[&a]).start().request("HEAD", "/", &[], b"").await;
    assert_eq!(answer.header("content-length"), Some("1000000"), "what the length would be is kept");
}

#[tokio::test]
async fn answers_that_never_have_a_body() {
    let not_modified = || Reply::new(304).header("ETag", "\"x\"").content_length(100);
    for (reply, status) in [(Reply::new(204), 204), (not_modified(), 304)] {
        let [a, b] = origins([reply.clone(), reply]);
        let proxy = over(&[&a, &b]).start();
        let mut client = proxy.client().await;
        for _ in 0..2 {
            client.send(GET).await;
            let answer = client.read_response("GET").await.expect_status(status);
            assert!(answer.keeps_alive && answer.header("transfer-encoding").is_none(), "{answer}");
            assert!(client.is_quiet(), "no body follows");
        }
        assert_eq!((a.accepted(), b.accepted()), (1, 1), "and the connections are as good as before");
    }
}

#[tokio::test]
async fn any_method_is_a_method() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for method in ["PURGE", "BAN", "purge", "M-SEARCH", "X!#$%&'*+-.^_`|~9", "PRI", "GETS"] {
        let head = format!("{method} /x HTTP/1.1\r\nHost: shop\r\n");
        proxy.answer_to(format!("{head}\r\n"), method).await.expect_status(200);
        assert_head(a.requests().last().unwrap(), &head, "shop");
    }
}

#[tokio::test]
async fn a_http_1_0_client_gets_http_1_0_manners() {
    let [a] = origins([Reply::ok("answer")]);
    let proxy = over(&[&a]).start();
    let mut client = proxy.sent("POST /p HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody").await;
    assert_eq!(client.read_response("POST").await.expect_status(200).text(), "answer");
    client.expect_end().await;
    // It may ask for more.
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.send("GET /p HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").await;
        let answer = client.read_response("GET").await.expect_status(200);
        assert!(answer.headers.has_token("connection", "keep-alive"), "{answer}");
    }
    assert_eq!(a.wait_requests(3).await.remove(0).complete().text(), "body");
}

#[tokio::test]
async fn fields_keep_their_order_case_and_repetition_both_ways() {
    let reply = Reply::new(200)
        .reason("Quite Fine")
        .header("set-cookie", "a=1")
        .header("Set-Cookie", "b=2, c=3")
        .header("X-UPPER", "")
        .header("x-bytes", "caf\u{e9}")
        .header("Set-Cookie", "d=4")
        .header("Connection", "x-hop, keep-alive")
        .header("X-Hop", "1")
        .header("Keep-Alive", "timeout=9")
        .header("Proxy-Authenticate", "Basic")
        .header("Upgrade", "h2c")
        .body("ok");
    let [a] = origins([reply]);
    let proxy = over(&[&a]).policy(|p| p.report = false).start();
    let fields = "coOkie: a\r\nCookie: b\r\nX-Tab: a\tb\r\nx-empty:\r\nACCEPT: */*\r\nCookie: c\r\n";
    let answer = proxy.answer_to(format!("GET /?Q=A&q=a HTTP/1.1\r\nhOsT: Shop\r\n{fields}\r\n"), "GET").await;
    let lines = format!("GET /?Q=A&q=a HTTP/1.1\r\nhOsT: Shop\r\n{}", fields.replace("x-empty:", "x-empty: "));
    assert_head(&a.wait_requests(1).await[0], &lines, "Shop");
    let want = "HTTP/1.1 200 Quite Fine\r\nset-cookie: a=1\r\nSet-Cookie: b=2, c=3\r\nX-UPPER: \r\n\
                x-bytes: caf\u{e9}\r\nSet-Cookie: d=4\r\nContent-Length: 2\r\n";
    let head = String::from_utf8_lossy(&answer.head).into_owned();
    assert!(head.starts_with(want), "{head}");
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(!answer.headers.contains(name), "{name}: {head}");
    }
}

#[tokio::test]
async fn a_request_id_of_the_client_is_kept() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    proxy.request("GET", "/", &[("X-Request-Id", "mine-1")], b"").await.expect_status(200);
    proxy.get("/").await.expect_status(200);
    proxy.get("/").await.expect_status(200);
    let seen = a.wait_requests(3).await;
    assert_eq!(seen[0].headers.all("x-request-id"), ["mine-1"]);
    let made: Vec<&str> = seen[1..].iter().filter_map(|r| r.headers.get("x-request-id")).collect();
    assert!(made.len() == 2 && made[0] != made[1], "one for each request: {made:?}");
}

#[tokio::test]
async fn forwarded_fields_are_believed_from_trusted_clients_only() {
    let [a] = origins([Reply::ok("a")]);
    let fields = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.7")];
    let proxy = over(&[&a]).start();
    proxy.request("GET", "/", &fields, b"").await.expect_status(200);
    let trusting = over(&[&a]).listener(|l| l.trust_forwarded = vec!["127.0.0.0/8".parse().unwrap()]).start();
    trusting.request("GET", "/", &fields, b"").await.expect_status(200);
    let seen = a.wait_requests(2).await;
    let values = |n: usize, name: &str| seen[n].headers.all(name).join(" | ");
    assert_eq!((values(0, "x-forwarded-for"), values(0, "x-forwarded-proto")), ("127.0.0.1".into(), "http".into()));
    assert_eq!(values(0, "forwarded"), "");
    assert_eq!(values(1, "x-forwarded-for"), "192.0.2.7, 127.0.0.1");
    assert_eq!((values(1, "x-forwarded-proto"), values(1, "forwarded")), ("https".into(), "for=192.0.2.7".into()));
}

#[tokio::test]
async fn an_ipv6_endpoint_and_an_ipv4_one_are_endpoints_alike() {
    let four = origin(0, Reply::ok("four"));
    let six = Origin::builder().address("[::1]:0").start(Reply::ok("six"));
    let proxy = over(&[&six, &four]).start();
    let answer = proxy.post(b"body").await.expect_status(200);
    assert_eq!(answer.text(), "four", "IPv4 sorts first");
    for origin in [&four, &six] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().text(), "body");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gate = Gate::new();
    let a = origin(0, Script::on_request(|r| Reply::ok(format!("{} {}", r.target, r.text()))));
    let held = gate.clone();
    let b = origin(
        1,
        Script::on_head(move |r| match r.target.as_str() {
            "/1" => Reply::ok("b").hold(&held),
            _ => Reply::ok("b"),
        }),
    );
    let proxy = over(&[&a, &b]).start();
    let one = |n: usize, body: &str| request_bytes("shop", "POST", &format!("/{n}"), &[], body.as_bytes());
    let mut client = proxy.client().await;
    let all: Vec<Vec<u8>> = (1..=5).map(|n| one(n, &"x".repeat(n))).collect();
    client.send(all.concat()).await;
    gate.wait_reached(1).await;
    assert!(client.is_quiet());
    assert_eq!(b.requests().len(), 1, "the next one waits its turn");
    gate.release();
    for n in 1..=5 {
        let answer = client.read_response("POST").await.expect_status(200);
        assert_eq!(answer.text(), format!("/{n} {}", "x".repeat(n)));
    }
    assert_eq!(a.wait_requests(5).await.len(), 5);
}

#[tokio::test]
async fn any_streams_an_answer_as_it_comes() {
    let gates = [Gate::new(), Gate::new()];
    let reply = Reply::new(200)
        .chunked(["one", "two", "three"])
        .hold_at(At::Body(8), &gates[0])
        .hold_at(At::Body(16), &gates[1]);
    let [a, b] = origins([Reply::never(), reply]);
    let proxy = over(&[&a, &b]).require("any").start();
    let mut client = proxy.sent(GET).await;
    let mut answer = client.read_head("GET").await;
    for (n, text) in [(0, "one"), (1, "onetwo")] {
        gates[n].wait_reached(1).await;
        client.read_body(&mut answer, text.len() as u64).await;
        assert_eq!(answer.text(), text, "while the endpoint holds the rest");
        gates[n].release();
    }
    client.read_body(&mut answer, u64::MAX).await;
    assert_eq!(answer.complete().text(), "onetwothree");
}

#[tokio::test]
async fn several_threads_serve_alike() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).config(|c| c.threads = 3).start();
    for _ in 0..20 {
        proxy.post(b"body").await.expect_status(200);
    }
    assert_eq!(a.wait_requests(20).await.iter().filter(|r| r.is_complete()).count(), 20);
    assert!((1..=3).contains(&b.accepted()), "a connection per thread at most: {}", b.accepted());
    proxy.settled().await;
    assert_eq!((proxy.legs(&a, "ok"), proxy.results("ok")), (20, 20));
}
