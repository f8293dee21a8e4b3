//! Bad input from clients and endpoints gets a clear error, and affects nobody else.

use testkit::eventually;
use testkit::http::Cut;
use testkit::origin::{At, Gate, Origin, Reply, Welcome};

use crate::fixture::{NEVER, Proxy, assert_made_up, bytes, ms, origins, over, result_of};

/// Sends bytes that are not a request, and asserts the refusal: the status, the close, and that no endpoint got anything.
async fn refused(proxy: &Proxy, untouched: &[&Origin], bytes: impl AsRef<[u8]>, status: u16) {
    let shown = bytes.as_ref().escape_ascii().to_string();
    let mut client = proxy.sent(bytes).await;
    let answer = client.read_response("GET").await;
    assert_eq!(answer.status, status, "{shown:.200}: {answer}");
    assert_made_up(&answer, status, "http_request_error");
    assert_eq!(answer.header("connection"), Some("close"), "{shown:.200}: {answer}");
    client.half_close();
    client.wait_end().await;
    assert!(client.unread().is_empty(), "{shown:.200}: something follows the refusal");
    untouched.iter().for_each(|origin| origin.assert_untouched());
}

#[tokio::test]
async fn malformed_heads() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    for head in [
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nna me: v\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nname: v\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nname: v\x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n(name): v\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/x.1\r\nHost: x\r\n\r\n",
        "GET / HTCPCP/1.0\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    ] {
        refused(&proxy, &[&a, &b], head, 400).await;
    }
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9"] {
        refused(&proxy, &[&a, &b], format!("GET / {version}\r\nHost: x\r\n\r\n"), 505).await;
    }
}

#[tokio::test]
async fn bare_cr_lf_and_nul() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for bad in ["\r", "\n", "\0"] {
        for head in [
            "GET /a@b HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x@y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b@c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA@b: c\r\n\r\n",
            "GE@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            refused(&proxy, &[&a], head.replace('@', bad), 400).await;
        }
    }
    refused(&proxy, &[&a], "GET / HTTP/1.1\n", 400).await;
}

#[tokio::test]
async fn obsolete_folding() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for fold in ["\r\n folded", "\r\n\tfolded", "\r\n "] {
        refused(&proxy, &[&a], format!("GET / HTTP/1.1\r\nHost: x\r\nA: b{fold}\r\nC: d\r\n\r\n"), 400).await;
    }
}

#[tokio::test]
async fn characters_that_no_target_may_hold() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for target in [
        "/a b",
        "/a\tb",
        "/a\"b",
        "/a<b",
        "/a>b",
        "/a\\b",
        "/a^b",
        "/a`b",
        "/a{b",
        "/a|b",
        "/a}b",
        "/a#b",
        "/caf\u{e9}",
        "a",
        "/\x7f",
    ] {
        refused(&proxy, &[&a], format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), 400).await;
    }
}

#[tokio::test]
async fn lengths_that_differ_and_a_length_beside_chunks() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\ncontent-length: 5",
    ] {
        refused(&proxy, &[&a], format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\nhello!"), 400).await;
    }
    // Two equal Content-Lengths count as one.
    for fields in ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5"] {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\nhello");
        proxy.answer_to(head, "POST").await.expect_status(200);
    }
    for seen in a.wait_requests(2).await {
        assert_eq!(seen.headers.all("content-length"), ["5"]);
        assert_eq!(seen.complete().text(), "hello");
    }
}

#[tokio::test]
async fn heads_and_targets_that_are_too_large_by_default() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    refused(&proxy, &[&a], format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(16 << 10)), 414).await;
    refused(&proxy, &[&a], format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(64 << 10)), 431).await;
    refused(&proxy, &[&a], format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(128)), 431).await;
    // Without an end as well: memory is bounded.
    refused(&proxy, &[&a], format!("GET /{}", "a".repeat(200 << 10)), 414).await;
    refused(&proxy, &[&a], format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(200 << 10)), 431).await;
    proxy.get(&format!("/{}", "a".repeat(15 << 10))).await.expect_status(200);
    let value = "v".repeat(40 << 10);
    proxy.request("GET", "/", &[("A", &value)], b"").await.expect_status(200);
    assert_eq!(a.wait_requests(2).await[1].headers.get("a"), Some(value.as_str()));
}

#[tokio::test]
async fn a_client_that_goes_away_within_its_head_leaves_nothing() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for reset in [false, true] {
        let client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n").await;
        eventually!("the connection", proxy.metric("fanfare_client_connections", &[]), |n| *n == 1.0);
        if reset {
            client.reset();
        } else {
            client.close();
        }
        eventually!("the connection to be gone", proxy.metric("fanfare_client_connections", &[]), |n| *n == 0.0);
    }
    a.assert_untouched();
}

#[tokio::test]
async fn one_bad_client_disturbs_no_other() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("a").hold(&gate)]);
    let proxy = over(&[&a]).start();
    let mut good = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    gate.wait_reached(1).await;
    assert_eq!(proxy.answer_to("nonsense\r\n\r\n", "GET").await.status, 400);
    proxy.sent("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf").await.reset();
    gate.release();
    good.read_response("GET").await.expect_status(200);
}

#[tokio::test]
async fn responses_that_are_malformed() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let cases: [&[u8]; 20] = [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 999 Beyond\r\n\r\n",
        b"HTTP/1.1 000 None\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ];
    for bytes in cases {
        a.set(Reply::raw(bytes).then_close());
        let answer = proxy.get("/").await;
        assert_eq!((answer.status, result_of(&answer)), (502, [2, 1, 1, 0, 2]), "{}: {answer}", bytes.escape_ascii());
        proxy.settled().await;
    }
    assert_eq!((proxy.legs(&a, "protocol"), proxy.legs(&a, "reset")), (20, 0));
    eventually!("every such connection to be closed", a.open(), |open| *open == 0);
}

#[tokio::test]
async fn a_response_head_that_is_too_large_or_never_ends() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).total(NEVER).start();
    for head in [
        format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(1 << 20)),
        format!("HTTP/1.1 200 {}", "a".repeat(1 << 20)),
        format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(10_000)),
    ] {
        a.set(Reply::raw(head).hang_at(At::End));
        assert_made_up(&proxy.get("/").await, 502, "http_protocol_error");
    }
    eventually!("every such connection to be closed", a.open(), |open| *open == 0);
}

#[tokio::test]
async fn a_response_that_is_cut_short() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let whole = || Reply::new(200).header("A", "b").chunked(["hello"]);
    let length = "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".len() as u64;
    for at in 0..length {
        for reply in [whole().close_at(At::Byte(at)), whole().reset_at(At::Byte(at))] {
            a.set(reply);
            let answer = proxy.post(b"body").await;
            assert_eq!((answer.status, result_of(&answer)), (502, [2, 1, 1, 0, 2]), "cut at {at}: {answer}");
        }
    }
    assert_eq!(proxy.legs(&a, "reset"), 2 * length);
}

#[tokio::test]
async fn a_response_that_never_ends_is_dropped_at_its_deadline() {
    let [a, b] = origins([Reply::ok("a"), Reply::new(200).endless("endless ")]);
    let proxy = over(&[&a, &b]).total(ms(1000)).start();
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, result_of(&answer)), (504, [2, 1, 1, 0, 2]), "{answer}");
    b.wait_closed().await;
    proxy.settled().await;
}

#[tokio::test]
async fn bytes_behind_a_response_end_the_connection() {
    let [a] = origins([Reply::raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    )]);
    let proxy = over(&[&a]).start();
    for _ in 0..3 {
        assert_eq!(proxy.get("/").await.expect_status(200).text(), "ok");
        proxy.settled().await;
    }
    assert_eq!(a.accepted(), 3, "never one connection twice");
}

#[tokio::test]
async fn an_endpoint_that_talks_before_it_is_asked() {
    let [a] = origins([Reply::ok("a")]);
    a.set_welcome(Welcome::Banner(b"220 mail ESMTP\r\n".to_vec()));
    let proxy = over(&[&a]).start();
    assert_eq!(proxy.get("/").await.status, 502);
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_can_read_why() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).policy(|p| p.max_body = Some(1000)).start();
    let body = bytes(1 << 20);
    let mut client = proxy.sent(crate::fixture::sized_post(body.len())).await;
    // It does not look for an answer before it is done, or can send no more.
    let _ = client.try_send(&body).await;
    let answer = client.read_response("POST").await;
    assert_made_up(&answer, 413, "http_request_error");
    assert!(matches!(client.wait_end().await, Cut::Eof | Cut::Reset));
    a.assert_untouched();
}
