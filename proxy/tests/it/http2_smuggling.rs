//! Request smuggling through HTTP/2: nothing that an HTTP/1.1 endpoint could read as another request, or as another end of one,
//! reaches it, and requests are framed unambiguously.

use testkit::{
    http2::{Answer, Frame, Http2Client, StreamEnd, block, flag, kind, request},
    origin::{Origin, Reply},
};

use crate::fixture::{Proxy, assert_head_over, bytes, origins, over};

/// What is smuggled in; must never arrive as a request.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

/// The same after the end of a chunked body.
const HIDDEN_BEHIND_CHUNKS: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

/// Fields of a POST whose body is [`HIDDEN_BEHIND_CHUNKS`]: none of them may reach an endpoint.
const FIELDS: [(&str, &[(&str, &str)]); 38] = [
    ("H2.TE", &[("transfer-encoding", "chunked")]),
    ("H2.TE and CL", &[("transfer-encoding", "chunked"), ("content-length", "43")]),
    ("TE, identity", &[("transfer-encoding", "identity")]),
    ("TE, empty", &[("transfer-encoding", "")]),
    ("TE, quoted", &[("transfer-encoding", "\"chunked\"")]),
    ("TE, comma", &[("transfer-encoding", ",chunked")]),
    ("TE, parameter", &[("transfer-encoding", "chunked;a=b")]),
    ("TE, two, one unknown", &[("transfer-encoding", "chunked"), ("transfer-encoding", "x")]),
    ("TE, upper case", &[("Transfer-Encoding", "chunked")]),
    ("TE, space behind its name", &[("transfer-encoding ", "chunked")]),
    ("TE, tab behind its name", &[("transfer-encoding\t", "chunked")]),
    ("TE, space before its name", &[(" transfer-encoding", "chunked")]),
    ("TE, colon in its name", &[("transfer-encoding: chunked\r\nx", "y")]),
    ("TE, another field in its name", &[("x: y\r\ntransfer-encoding", "chunked")]),
    ("TE, CR LF in a value", &[("x", "y\r\nTransfer-Encoding: chunked")]),
    ("TE, LF in a value", &[("x", "y\nTransfer-Encoding: chunked")]),
    ("TE, CR in a value", &[("x", "y\rTransfer-Encoding: chunked")]),
    ("TE, folded", &[("x", "y\r\n transfer-encoding: chunked")]),
    ("TE, NUL in the value", &[("transfer-encoding", "chunked\0")]),
    ("TE, vertical tab in the value", &[("transfer-encoding", "\x0bchunked")]),
    ("NUL in another value", &[("x", "y\0")]),
    ("a whole request in a value", &[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n")]),
    ("a field in a cookie", &[("cookie", "a=b\r\nTransfer-Encoding: chunked")]),
    ("CL.CL", &[("content-length", "0"), ("content-length", "43")]),
    ("CL.CL in one", &[("content-length", "0, 43")]),
    ("CL with a plus", &[("content-length", "+43")]),
    ("CL with a minus", &[("content-length", "-1")]),
    ("CL in hexadecimal", &[("content-length", "0x2b")]),
    ("CL empty", &[("content-length", "")]),
    ("CL with a space in it", &[("content-length", "4 3")]),
    ("CL too large for anything", &[("content-length", "18446744073709551616")]),
    ("CL, line end behind it", &[("content-length", "43\r\n")]),
    ("a field named by Connection", &[("connection", "content-length"), ("content-length", "43")]),
    ("keep-alive", &[("keep-alive", "timeout=5")]),
    ("proxy-connection", &[("proxy-connection", "keep-alive")]),
    ("an upgrade to HTTP/2", &[("upgrade", "h2c"), ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA")]),
    ("settings of HTTP/2", &[("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA")]),
    ("TE that asks for chunks", &[("te", "chunked")]),
];

/// Pseudo-fields that would be read as lines of a head: none may reach an endpoint.
const LINES: [(&str, [&str; 4]); 22] = [
    ("a request in the method", ["GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET", "http", "shop", "/"]),
    ("a space in the method", ["GET /smuggled", "http", "shop", "/"]),
    ("a tab in the method", ["GET\t", "http", "shop", "/"]),
    ("a space before the method", [" GET", "http", "shop", "/"]),
    ("a line end before the method", ["\r\nGET", "http", "shop", "/"]),
    ("a request in the path", ["GET", "http", "shop", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"]),
    ("a version in the path", ["GET", "http", "shop", "/ HTTP/1.1"]),
    ("a tab in the path", ["GET", "http", "shop", "/\tHTTP/1.1"]),
    ("CR in the path", ["GET", "http", "shop", "/\r"]),
    ("LF in the path", ["GET", "http", "shop", "/\n"]),
    ("NUL in the path", ["GET", "http", "shop", "/\0"]),
    ("a URL as path", ["GET", "http", "shop", "http://other/smuggled"]),
    ("an authority as path", ["GET", "http", "shop", "other:80"]),
    ("a field in the authority", ["GET", "http", "shop\r\nTransfer-Encoding: chunked", "/"]),
    ("a request in the authority", ["GET", "http", "shop\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x", "/"]),
    ("LF in the authority", ["GET", "http", "shop\n", "/"]),
    ("a space in the authority", ["GET", "http", "shop other", "/"]),
    ("userinfo in the authority", ["GET", "http", "shop@other", "/"]),
    ("a path in the authority", ["GET", "http", "shop/smuggled", "/"]),
    ("a query in the authority", ["GET", "http", "shop?", "/"]),
    ("a URL in the scheme", ["GET", "http://other/smuggled?", "shop", "/"]),
    ("a line end in the scheme", ["GET", "http\r\nx", "shop", "/"]),
];

/// Sends a request on a connection of its own, and another one after it if the connection continues.
async fn outcome(proxy: &Proxy, block: &[u8], body: Option<&[u8]>) -> Answer {
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    let answer = client.exchange(block, body).await;
    if !matches!(answer.end, Some(StreamEnd::Connection(_))) {
        let next = client.exchange(&request("GET", "/next", &[]), None).await;
        assert!(next.is_whole(200), "the request behind it: {next:?}");
    }
    answer
}

/// Asserts that an endpoint received only whole requests for `/next`, with nothing in between.
#[track_caller]
fn assert_only_next(name: &str, endpoint: &Origin) {
    let journal = endpoint.journal();
    assert!(journal.connections.iter().all(|connection| connection.stray.is_empty()), "{name}: {journal}");
    for seen in &journal.requests {
        assert_eq!(seen.target, "/next", "{name}: {journal}");
        assert_head_over("2.0", seen, "GET /next HTTP/1.1\r\nHost: shop\r\n", "shop");
        assert_eq!(seen.raw_body, b"", "{name}: {journal}");
    }
}

#[tokio::test]
async fn no_field_reaches_an_endpoint_that_could_frame_another_request() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    for (name, fields) in FIELDS {
        let answer = outcome(&proxy, &request("POST", "/", fields), Some(HIDDEN_BEHIND_CHUNKS.as_bytes())).await;
        assert!(answer.is_refusal(), "{name}: {answer:?}");
        proxy.settled().await;
        for endpoint in [&a, &b] {
            assert_only_next(name, endpoint);
        }
    }
}

#[tokio::test]
async fn no_pseudo_field_reaches_an_endpoint_that_could_be_read_as_several_lines() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    for (name, [method, scheme, authority, path]) in LINES {
        let fields = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)];
        let answer = outcome(&proxy, &block(&fields), None).await;
        assert!(answer.is_refusal(), "{name}: {answer:?}");
        proxy.settled().await;
        for endpoint in [&a, &b] {
            assert_only_next(name, endpoint);
        }
    }
}

#[tokio::test]
async fn a_host_that_is_said_twice_is_said_once_to_endpoints_or_not_at_all() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/next")];
    let unclear: [(&str, &[(&str, &str)]); 8] = [
        ("Host differs from the authority", &[(":authority", "shop"), ("host", "other")]),
        ("Host has a port, the authority none", &[(":authority", "shop"), ("host", "shop:81")]),
        ("two Hosts that agree", &[("host", "shop"), ("host", "shop")]),
        ("two Hosts beside the authority", &[(":authority", "shop"), ("host", "shop"), ("host", "other")]),
        ("Host with a line end", &[("host", "shop\r\nX: y")]),
        ("Host with userinfo", &[("host", "user@shop")]),
        ("an empty Host", &[("host", "")]),
        ("an empty authority and a Host", &[(":authority", ""), ("host", "other")]),
    ];
    for (name, more) in unclear {
        let answer = outcome(&proxy, &block(&[&pseudo[..], more].concat()), None).await;
        assert!(answer.is_refusal(), "{name}: {answer:?}");
        proxy.settled().await;
        assert_only_next(name, &a);
    }
    for more in [&[(":authority", "shop"), ("host", "shop")][..], &[("host", "shop")], &[(":authority", "shop")]] {
        let answer = outcome(&proxy, &block(&[&pseudo[..], more].concat()), None).await;
        assert!(answer.is_whole(200), "{more:?}: {answer:?}");
        assert_only_next("a Host that is clear", &a);
    }
}

#[tokio::test]
async fn a_length_that_disagrees_with_the_body_never_looks_whole() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    for streams in [false, true] {
        let mut setup = over(&[&a, &b]);
        if streams {
            setup = setup.streaming();
        }
        let proxy = setup.start();
        for (name, length, body) in [
            ("more than was said", 4, Some("0123456789")),
            ("nothing was said to come", 0, Some(HIDDEN)),
            ("less than was said", 400, Some("0123456789")),
            ("a byte less than was said", 11, Some("0123456789")),
            ("nothing, and not in a frame", 40, None),
        ] {
            let head = request("POST", "/disagrees", &[("content-length", &length.to_string())]);
            let mut client = Http2Client::connect(proxy.address, &[]).await;
            let answer = client.exchange(&head, body.map(str::as_bytes)).await;
            assert!(answer.is_refusal(), "{name}: {answer:?}");
            proxy.settled().await;
            for endpoint in [&a, &b] {
                let journal = endpoint.journal();
                assert!(journal.requests.iter().all(|seen| !seen.is_complete()), "{name}: {journal}");
                assert!(journal.requests.iter().all(|seen| seen.target == "/disagrees"), "{name}: {journal}");
            }
        }
    }
}

#[tokio::test]
async fn more_bytes_than_were_said_do_not_look_whole_however_they_are_cut() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    // The announced length is above the threshold at which the legs begin.
    let body = bytes(100_000);
    for length in [10, body.len()] {
        let proxy = over(&[&a, &b]).streaming().start();
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        let stream = client.new_stream();
        let length_said = length.to_string();
        client.send(&[Frame::headers(stream, 0, &request("POST", "/more", &[("content-length", &length_said)]))]).await;
        // Within the size of the windows.
        for piece in body[..length].chunks(10_000) {
            client.send(&[Frame::data(stream, 0, piece)]).await;
            client.credit(stream, piece.len()).await;
        }
        client.send(&[Frame::data(stream, flag::END_STREAM, HIDDEN.as_bytes())]).await;
        let answer = client.answer(stream).await;
        assert!(answer.is_refusal(), "{length}: {answer:?}");
        proxy.settled().await;
        for endpoint in [&a, &b] {
            let journal = endpoint.journal();
            assert!(journal.requests.iter().all(|seen| !seen.is_complete()), "{length}: {journal}");
        }
    }
}

#[tokio::test]
async fn what_looks_like_another_request_stays_within_the_body() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    for (number, body) in [HIDDEN_BEHIND_CHUNKS, HIDDEN, "5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n"].into_iter().enumerate()
    {
        let length = body.len().to_string();
        for (second, fields) in [&[("content-length", &*length)][..], &[]].into_iter().enumerate() {
            let answer = outcome(&proxy, &request("POST", "/body", fields), Some(body.as_bytes())).await;
            assert!(answer.is_whole(200), "{body:?}: {answer:?}");
            let (framing, wire) = match fields {
                [] => ("transfer-encoding: chunked\r\n", format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
                _ => ("", body.to_owned()),
            };
            for endpoint in [&a, &b] {
                // Each is followed by one for `/next`.
                let place = 2 * (2 * number + second);
                let seen = endpoint.wait_requests(place + 2).await;
                assert_eq!(seen[place].raw_body, wire.as_bytes(), "{}", seen[place]);
                let head = String::from_utf8_lossy(&seen[place].head).to_ascii_lowercase();
                assert_eq!(head.matches("content-length:").count(), fields.len(), "{head}");
                assert_eq!(head.matches("transfer-encoding:").count(), 1 - fields.len(), "{head}");
                assert!(head.contains(framing), "{head}");
                assert_eq!((&*seen[place].target, &*seen[place + 1].target), ("/body", "/next"));
                let journal = endpoint.journal();
                assert!(journal.connections.iter().all(|connection| connection.stray.is_empty()), "{journal}");
            }
        }
    }
}

#[tokio::test]
async fn trailers_never_reach_the_head_nor_the_framing() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for (name, trailers, is_taken) in [
        ("fields of framing", block(&[("content-length", "0"), ("x-trailer", "1")]), true),
        ("a field of connections", block(&[("transfer-encoding", "chunked")]), false),
        // `h2` leaves it out.
        ("a pseudo-field", block(&[(":path", "/smuggled")]), true),
        ("a request", block(&[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n")]), false),
    ] {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        let stream = client.new_stream();
        let head = Frame::headers(stream, 0, &request("POST", "/trailers", &[]));
        let end = Frame::headers(stream, flag::END_STREAM, &trailers);
        client.send(&[head, Frame::data(stream, 0, b"hello"), end]).await;
        let answer = client.answer(stream).await;
        assert!(if is_taken { answer.is_whole(200) } else { answer.is_refusal() }, "{name}: {answer:?}");
        proxy.settled().await;
        for seen in a.requests() {
            assert_eq!(seen.target, "/trailers", "{name}");
            let body: &[u8] = if seen.is_complete() { b"5\r\nhello\r\n0\r\n\r\n" } else { b"5\r\nhello\r\n" };
            assert!(body.starts_with(&seen.raw_body) && !seen.headers.contains("content-length"), "{name}: {seen}");
        }
    }
    assert_eq!(a.requests().iter().filter(|seen| seen.is_complete()).count(), 2, "{}", a.journal());
}

#[tokio::test]
async fn where_a_header_block_is_cut_into_frames_makes_nothing_of_it_pass() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let tricks: [&[(&str, &str)]; 3] = [
        &[("transfer-encoding", "chunked")],
        &[(":path", "/smuggled"), ("connection", "x-kept")],
        &[("x", "y\r\nTransfer-Encoding: chunked")],
    ];
    for fields in tricks {
        let whole = request("POST", "/cut", &[fields, &[("x-kept", "1")]].concat());
        for cut in (1..whole.len()).step_by(3) {
            let mut client = Http2Client::connect(proxy.address, &[]).await;
            let stream = client.new_stream();
            let begin = Frame::new(kind::HEADERS, 0, stream, &whole[..cut]);
            let rest = Frame::new(kind::CONTINUATION, flag::END_HEADERS, stream, &whole[cut..]);
            client.send(&[begin, rest, Frame::data(stream, flag::END_STREAM, HIDDEN_BEHIND_CHUNKS.as_bytes())]).await;
            client.answer(stream).await;
        }
    }
    proxy.settled().await;
    // `h2` forgets that a field was malformed if the frame ends within the next one. It drops that field, which is safe: the
    // request arrives without it, and its body has one end.
    let journal = a.journal();
    assert!(journal.connections.iter().all(|connection| connection.stray.is_empty()), "{journal}");
    let wire = format!("{:x}\r\n{HIDDEN_BEHIND_CHUNKS}\r\n0\r\n\r\n", HIDDEN_BEHIND_CHUNKS.len());
    for seen in &journal.requests {
        assert_eq!((&*seen.target, &seen.raw_body[..]), ("/cut", wire.as_bytes()), "{seen}");
        let (codings, kept) = (seen.headers.all("transfer-encoding"), seen.headers.get("x-kept"));
        assert_eq!((codings, kept), (vec!["chunked"], Some("1")), "{seen}");
        assert!(!seen.headers.contains("connection"), "{seen}");
    }
}
