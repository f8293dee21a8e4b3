//! Heads of requests: what is taken, what is refused, and with which status.

use super::*;

fn parse(text: &str) -> Result<RequestHead, BadRequest> {
    RequestHead::parse(Bytes::copy_from_slice(text.as_bytes()), 100, Fields::default())
}

fn status(text: &str) -> u16 {
    parse(text).map_or_else(BadRequest::status, |_| 0)
}

#[test]
fn a_plain_request() {
    let head = parse("PURGE /a?b=%20c HTTP/1.1\r\nHoSt: x:1\r\nX-A:  1 \r\nx-a: 2\r\n\r\n").unwrap();
    assert_eq!((head.method(), head.target()), (b"PURGE".as_slice(), b"/a?b=%20c".as_slice()));
    assert_eq!(head.host(), Some(b"x:1".as_slice()));
    assert_eq!(head.fields.all("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.fields.iter().next().unwrap().0, b"HoSt", "case is kept");
    assert_eq!((head.framing, head.keepalive, head.expects_continue), (Framing::Unspecified, true, false));
}

#[test]
fn request_lines_that_are_refused() {
    for (line, want) in [
        ("GET  / HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        (" GET / HTTP/1.1", 400),
        ("GET /", 400),
        ("GET", 400),
        ("GET /\u{e9} HTTP/1.1", 400),
        ("GET /#a HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET /\t HTTP/1.1", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET a HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET ftp://x/ HTTP/1.1", 400),
        ("GET http:/// HTTP/1.1", 400),
        ("GET http://u@x/ HTTP/1.1", 400),
        ("GET http://y/ HTTP/1.1", 400),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / http/1.1", 400),
        ("GET / HTTP/11", 400),
        ("CONNECT x:443 HTTP/1.1", 501),
        ("TRACE / HTTP/1.1", 405),
        (&format!("GET /{} HTTP/1.1", "a".repeat(100)), 414),
    ] {
        assert_eq!(status(&format!("{line}\r\nHost: x\r\n\r\n")), want, "{line:?}");
    }
}

#[test]
fn absolute_form_becomes_origin_form() {
    for (target, want, slash) in
        [("http://x/a?b", "/a?b", false), ("HTTP://X", "/", false), ("https://x?q", "?q", true)]
    {
        let head = parse(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
        assert_eq!((head.target(), head.target_lacks_slash()), (want.as_bytes(), slash), "{target}");
    }
    let options = parse("OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(options.target(), b"*");
    assert_eq!(parse("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().target(), b"*");
    assert_eq!(parse("GET http://x/ HTTP/1.0\r\n\r\n").unwrap().host(), Some(b"x".as_slice()));
}

#[test]
fn hosts() {
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400, "none in HTTP/1.1");
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), 400, "two");
    assert_eq!(status("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n"), 400, "two in HTTP/1.0");
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"), 0);
    assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 0, "empty is a valid Host");
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().host(), None);
}

#[test]
fn framing_that_is_refused() {
    let with = |fields: &str| parse(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
    let framing = |fields| with(fields).map(|head| head.framing).map_err(BadRequest::status);
    assert_eq!(framing("Content-Length: 5"), Ok(Framing::Length(5)));
    assert_eq!(framing("Content-Length: 5, 5\r\nContent-Length: 5"), Ok(Framing::Length(5)));
    assert_eq!(framing("Transfer-Encoding: Chunked"), Ok(Framing::Chunked));
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5,6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 5,",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        assert_eq!(framing(fields), Err(400), "{fields:?}");
    }
    for fields in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
    ] {
        assert_eq!(framing(fields), Err(501), "{fields:?}");
    }
    assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn fields_that_are_refused() {
    let with = |field: &str| status(&format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n"));
    for field in ["a : b", " a: b", "a: b\r\n c", "a: b\r\n\tc", "a", ": b", "a: \0", "a: b\rc", "a\0: b", "a: \u{7f}"]
    {
        assert_eq!(with(field), 400, "{field:?}");
    }
    assert_eq!(with("a: caf\u{e9}"), 0, "obs-text is passed on");
    assert_eq!(with("a:"), 0);
}

#[test]
fn connection_and_expectation() {
    let keepalive = |text| parse(text).unwrap().keepalive;
    assert!(keepalive("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(!keepalive("GET / HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n\r\n"));
    assert!(!keepalive("GET / HTTP/1.0\r\n\r\n"));
    assert!(keepalive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    let expects = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n";
    assert!(parse(expects).unwrap().expects_continue);
    assert_eq!(status(&expects.replace("100-Continue", "magic")), 417);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), 501);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"), 0, "ignored");
}
