//! Request smuggling: bytes that two parsers could read differently reach no endpoint.

use testkit::origin::Reply;

use crate::fixture::{origins, over};

/// What is smuggled in; must never arrive as a request.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

/// Payloads by name, and the expected status. `@` stands for the hidden request, `#` for its length and
/// four more as for a `0` chunk before it.
const PAYLOADS: [(&str, &str, u16); 42] = [
    ("CL.TE", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@", 400),
    ("TE.CL", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2a\r\n@", 400),
    ("CL.TE in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n@", 400),
    ("TE in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@", 400),
    ("TE.TE, space before colon", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n@", 400),
    ("TE.TE, tab before colon", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n@", 400),
    ("TE.TE, leading space", "POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\n\r\n0\r\n\r\n@", 400),
    ("TE.TE, folded", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n@", 400),
    (
        "TE.TE, folded elsewhere",
        "POST / HTTP/1.1\r\nHost: x\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
        400,
    ),
    (
        "TE.TE, bare LF in the value",
        "POST / HTTP/1.1\r\nHost: x\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
        400,
    ),
    (
        "TE.TE, bare CR in the value",
        "POST / HTTP/1.1\r\nHost: x\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
        400,
    ),
    ("TE.TE, NUL in the value", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n@", 400),
    ("TE.TE, vertical tab", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n@", 400),
    (
        "TE.TE, two, one unknown",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n@",
        501,
    ),
    (
        "TE.TE, two, one empty",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
        501,
    ),
    ("TE.TE, quoted", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n@", 501),
    ("TE.TE, comma", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n@", 501),
    ("TE.TE, parameter", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n@", 501),
    ("CL.CL", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 42\r\n\r\n@", 400),
    ("CL.CL in one", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 42\r\n\r\n@", 400),
    ("CL with a plus", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n@", 400),
    ("CL with a minus", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n@", 400),
    ("CL in hexadecimal", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n@", 400),
    ("CL empty", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n@", 400),
    ("CL with a space in it", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0 42\r\n\r\n@", 400),
    ("CL too large for anything", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n@", 400),
    ("CL, space before colon", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 42\r\n\r\n@", 400),
    (
        "CL, underscore in TE's name is another name, both stay apart",
        "POST / HTTP/1.1\r\nHost: x\r\nContent Length: 42\r\n\r\n@",
        400,
    ),
    ("bare LF everywhere", "GET / HTTP/1.1\nHost: x\n\n@", 400),
    ("bare LF at the end", "GET / HTTP/1.1\r\nHost: x\r\n\n@", 400),
    ("bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: x\r\n\r\n@", 400),
    ("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n@", 400),
    ("a whole request in the target", "GET / HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n@", 400),
    ("a name with a line end", "GET / HTTP/1.1\r\nHost: x\r\nA\r\nB: c\r\n\r\n@", 400),
    ("an empty name", "GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n@", 400),
    ("HTTP/0.9", "GET /\r\n\r\n@", 400),
    ("HTTP/1.10", "GET / HTTP/1.10\r\nHost: x\r\n\r\n@", 400),
    ("HTTP/1.1 in lower case", "GET / http/1.1\r\nHost: x\r\n\r\n@", 400),
    ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n@", 505),
    ("two spaces in the request line", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n@", 400),
    ("a tab in the request line", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n@", 400),
    ("a space before the method", " GET / HTTP/1.1\r\nHost: x\r\n\r\n@", 400),
];

#[tokio::test]
async fn no_payload_reaches_an_endpoint() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    // Without HTTP/2, because its preface would be accepted otherwise.
    let proxy = over(&[&a, &b]).listener(|listener| listener.http2 = false).start();
    for (name, payload, status) in PAYLOADS {
        let mut client = proxy.sent(payload.replace('@', HIDDEN)).await;
        let answer = client.read_response("POST").await;
        assert_eq!(answer.status, status, "{name}: {answer}");
        assert_eq!(answer.header("connection"), Some("close"), "{name}: {answer}");
        client.half_close();
        client.wait_end().await;
        assert!(client.unread().is_empty(), "{name}: a second answer: {:?}", String::from_utf8_lossy(client.unread()));
    }
    a.assert_untouched();
    b.assert_untouched();
    assert_eq!(proxy.metric("fanfare_refused_requests_total", &[]) as usize, PAYLOADS.len());
}

/// Chunked bodies that two parsers could end in different places.
const CHUNK_TRICKS: [(&str, &str); 24] = [
    ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
    ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("a size with an underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    ("a space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
    ("a size that overflows 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a size that overflows by zeros", "00000000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("no size but an extension", ";a=b\r\nhello\r\n0\r\n\r\n"),
    ("a size in decimal words", "five\r\nhello\r\n0\r\n\r\n"),
    ("a size of two numbers", "5 5\r\nhello\r\n0\r\n\r\n"),
    ("a size line that ends in LF", "5\nhello\r\n0\r\n\r\n"),
    ("a size line that ends in CR", "5\rhello\r\n0\r\n\r\n"),
    ("a size line that ends in CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
    ("an LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("a CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("a NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
    ("data shorter than its size", "5\r\nhell\r\n0\r\n\r\n"),
    ("data that ends in LF", "5\r\nhello\n0\r\n\r\n"),
    ("data that ends in nothing", "5\r\nhello0\r\n\r\n"),
    ("a trailer that is not a field", "5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
    ("a trailer with a space before its colon", "5\r\nhello\r\n0\r\nA : b\r\n\r\n"),
    ("a trailer that ends in LF", "5\r\nhello\r\n0\r\nA: b\n\r\n"),
];

#[tokio::test]
async fn no_chunk_trick_makes_a_copy_look_complete() {
    for (name, body) in CHUNK_TRICKS {
        let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
        let proxy = over(&[&a, &b]).start();
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = proxy.sent([head, body, HIDDEN].concat()).await;
        let answer = client.read_response("POST").await;
        assert_eq!(answer.status, 400, "{name}: {answer}");
        assert_eq!(answer.header("connection"), Some("close"), "{name}: {answer}");
        client.half_close();
        client.wait_end().await;
        proxy.settled().await;
        for origin in [&a, &b] {
            // The copy may not even have begun.
            origin.wait_until("all connections to be closed", |j| j.open() == 0).await;
            let journal = origin.journal();
            assert!(journal.requests.iter().all(|r| !r.is_complete()), "{name}: {journal}");
            assert!(journal.requests.iter().all(|r| r.target == "/"), "{name}: {journal}");
        }
    }
}

#[tokio::test]
async fn a_second_request_on_the_connection_is_a_request_of_its_own() {
    // Bytes after a complete body are the next request, never part of the last one.
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let first = "POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let second = "POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let mut client = proxy.sent([first, second, "junk\r\n\r\n"].concat()).await;
    assert_eq!(client.read_response("POST").await.status, 200);
    assert_eq!(client.read_response("POST").await.status, 200);
    assert_eq!(client.read_response("POST").await.status, 400);
    client.wait_end().await;
    let seen = a.wait_requests(2).await;
    let told: Vec<_> = seen.iter().map(|r| (r.target.as_str(), r.text())).collect();
    assert_eq!(told, [("/first", "hello".to_owned()), ("/second", "abc".to_owned())]);
}
