//! Rule: messages are reframed on both sides, and a message that cannot be framed safely is refused.

use testkit::http::Framing;
use testkit::origin::{Gate, Reply};

use crate::fixture::{CHUNKED_POST, assert_head, assert_made_up, bytes, chunked, origin, origins, over, sized_post};

#[tokio::test]
async fn a_known_length_stays_one() {
    let [a] = origins([Reply::ok("answer")]);
    let proxy = over(&[&a]).start();
    let answer = proxy.answer_to(sized_post(4) + "body", "POST").await.expect_status(200);
    assert_eq!((answer.framing, answer.header("content-length")), (Framing::Length(6), Some("6")));
    let seen = a.wait_requests(1).await.remove(0).complete();
    assert_head(&seen, "POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n", "shop");
    assert_eq!(seen.raw_body, b"body");
}

#[tokio::test]
async fn an_unknown_length_is_chunked() {
    let [a] = origins([Reply::new(200).chunked(["answer", " in", " pieces"])]);
    let proxy = over(&[&a]).start();
    let wire = [CHUNKED_POST.as_bytes(), &chunked(&[b"hello", b" world"])].concat();
    let answer = proxy.answer_to(wire, "POST").await.expect_status(200);
    assert_eq!((answer.framing, answer.text().as_str()), (Framing::Chunked, "answer in pieces"));
    assert_eq!(answer.header("content-length"), None);
    let seen = a.wait_requests(1).await.remove(0).complete();
    assert_head(&seen, "POST /p HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n", "shop");
    assert_eq!((seen.framing, seen.text().as_str()), (Framing::Chunked, "hello world"));
}

#[tokio::test]
async fn small_chunks_that_came_together_go_on_together() {
    let body = bytes(100_000);
    let endpoints = origins([(); 3].map(|()| Reply::new(200).chunked_by(1, &body)));
    let [a, b, c] = &endpoints;
    let proxy = over(&[a, b, c]).start();
    let wire = [CHUNKED_POST.as_bytes(), &chunked(&body.chunks(1).collect::<Vec<_>>())].concat();
    let answer = proxy.answer_to(wire, "POST").await.expect_status(200);
    // Each chunk adds at least five bytes: with one for each byte that would be five times the body.
    let most = body.len() / 10;
    assert!(answer.body == body && answer.raw_body.len() - body.len() < most, "{}", answer.raw_body.len());
    for endpoint in &endpoints {
        let seen = endpoint.wait_requests(1).await.remove(0).complete();
        assert!(seen.body == body && seen.raw_body.len() - body.len() < most, "{}", seen.raw_body.len());
    }
}

#[tokio::test]
async fn chunk_extensions_stop_here() {
    let [a] =
        origins([Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0;last\r\n\r\n")]);
    let proxy = over(&[&a]).start();
    let wire = [CHUNKED_POST, "5;name=\"value\"\r\nhello\r\n0;a\r\n\r\n"].concat();
    let answer = proxy.answer_to(wire, "POST").await.expect_status(200);
    assert_eq!(answer.raw_body, b"2\r\nok\r\n0\r\n\r\n");
    assert_eq!(a.wait_requests(1).await.remove(0).complete().raw_body, b"5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_answer_until_the_close_is_chunked_for_http_1_1_and_until_the_close_for_http_1_0() {
    let body = bytes(100_000);
    let [a] = origins([Reply::new(200).until_close(&body)]);
    for require in ["all", "any"] {
        let proxy = over(&[&a]).require(require).start();
        let answer = proxy.get("/").await.expect_status(200);
        assert!(answer.framing != Framing::Close && answer.keeps_alive, "{answer}");
        assert_eq!(answer.body, body);
        let answer =
            proxy.answer_to("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET").await.expect_status(200);
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.body, body);
    }
}

#[tokio::test]
async fn a_chunked_answer_of_any_size_reaches_an_http_1_0_client_without_chunks() {
    let body = bytes(300_000);
    let [a] = origins([Reply::new(200).chunked_by(7000, &body)]);
    let proxy = over(&[&a]).start();
    let mut client = proxy.sent("GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!((answer.framing, answer.header("transfer-encoding")), (Framing::Close, None));
    assert_eq!(answer.raw_body, body);
}

#[tokio::test]
async fn any_coding_but_exactly_chunked_is_501() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for coding in [
        "gzip, chunked",
        "identity",
        "chunked, chunked",
        "chunked, identity",
        "gzip",
        "x-chunked",
        "\"chunked\"",
        "chunked;q=1",
        "",
    ] {
        let head = format!("POST /p HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let mut client = proxy.sent(head + "5\r\nhello\r\n0\r\n\r\n").await;
        let answer = client.read_response("POST").await;
        assert_eq!(answer.status, 501, "{coding:?}: {answer}");
        assert_made_up(&answer, 501, "http_request_error");
        client.wait_end().await;
    }
    let twice =
        "POST /p HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(proxy.answer_to(twice, "POST").await.status, 501);
    a.assert_untouched();
    let any_case = "POST /p HTTP/1.1\r\nHost: shop\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n";
    proxy.answer_to(any_case, "POST").await.expect_status(200);
}

#[tokio::test]
async fn an_answer_in_any_coding_but_chunked_is_no_answer() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for fields in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 5 5",
        "Content-Length: -1",
    ] {
        a.set(Reply::raw(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")));
        let answer = proxy.get("/").await;
        assert_made_up(&answer, 502, "http_protocol_error");
    }
    assert_eq!(proxy.legs(&a, "protocol"), 7);
}

#[tokio::test]
async fn trailers_of_a_request_end_here_and_those_of_the_answer_reach_who_takes_them() {
    let [a] = origins([Reply::new(200)
        .header("Trailer", "X-Sum")
        .chunked(["ok"])
        .trailer("X-Sum", "1")
        .trailer("X-More", "2")]);
    let proxy = over(&[&a]).start();
    let wire = "POST /p HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\nX-T: 1\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n";
    let answer = proxy.answer_to(wire, "POST").await.expect_status(200);
    assert_eq!((answer.header("trailer"), answer.text().as_str()), (None, "ok"));
    assert_eq!((answer.trailers.all("x-sum"), answer.trailers.all("x-more")), (vec!["1"], vec!["2"]));
    let unasked = proxy.answer_to(wire.replace("TE: trailers\r\n", ""), "POST").await.expect_status(200);
    assert_eq!(unasked.trailers.len(), 0);
    let seen = a.wait_requests(1).await.remove(0).complete();
    assert_head(&seen, "POST /p HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n", "shop");
    assert_eq!(seen.raw_body, b"5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn interim_answers_are_dropped_and_eight_are_the_most() {
    let early_hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let [a] = origins([Reply::ok("a").interims(7, 102).interim_raw(early_hints)]);
    let proxy = over(&[&a]).start();
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!((answer.text().as_str(), answer.interim.len(), answer.header("link")), ("a", 0, None));
    a.set(Reply::ok("a").interims(9, 102));
    assert_made_up(&proxy.get("/").await, 502, "http_protocol_error");
    a.set(Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"));
    assert_made_up(&proxy.get("/").await, 502, "http_protocol_error");
}

#[tokio::test]
async fn an_expectation_is_answered_here() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a").interim(100), Reply::ok("b").hold(&gate)]);
    let proxy = over(&[&a, &b]).start();
    let mut client =
        proxy.sent("PUT /p HTTP/1.1\r\nHost: shop\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n").await;
    let interim = client.try_read_any_head("PUT").await.unwrap();
    assert_eq!((interim.status, interim.headers.len()), (100, 0));
    client.send("body").await;
    gate.release();
    let answer = client.read_response("PUT").await.expect_status(200);
    assert_eq!(answer.interim.len(), 0, "only one 100");
    for origin in [&a, &b] {
        let seen = origin.wait_requests(1).await.remove(0).complete();
        assert_head(&seen, "PUT /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n", "shop");
        assert_eq!(seen.text(), "body");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_is_not_continued() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).policy(|p| p.max_body = Some(10)).start();
    let mut client =
        proxy.sent("PUT /p HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n").await;
    let answer = client.read_response("PUT").await;
    assert_eq!((answer.status, answer.interim.len()), (413, 0));
    let answer =
        proxy.answer_to("PUT /p HTTP/1.1\r\nHost: shop\r\nExpect: a-miracle\r\nContent-Length: 1\r\n\r\n", "PUT").await;
    assert_made_up(&answer, 417, "http_request_error");
    a.assert_untouched();
}

#[tokio::test]
async fn an_http_1_0_client_is_never_told_to_continue() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    let mut client =
        proxy.sent("PUT /p HTTP/1.0\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody").await;
    let answer = client.read_response("PUT").await.expect_status(200);
    assert_eq!(answer.interim.len(), 0);
    assert_eq!(a.wait_requests(1).await.remove(0).complete().text(), "body");
}
