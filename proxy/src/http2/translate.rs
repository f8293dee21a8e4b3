//! Heads from HTTP/2 into the form of HTTP/1.1 and back (RFC 9113 section 8).
//!
//! A head that comes in is written as one of HTTP/1.1 and read by the same strict parser as any other, so that there is one
//! set of checks. What goes out was written by this proxy.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use h2client::block;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use parking_lot::Mutex;

use crate::{
    buffers,
    config::HeadLimits,
    http::{
        Class, Fields, Framing, Version,
        request::{BadRequest, RequestHead, TargetRules},
    },
};

/// Fields that concern one connection of HTTP/1.1 and mean nothing in HTTP/2 (RFC 9113 section 8.2.2), and those that are said
/// otherwise there.
const NOT_IN_HTTP2: [&str; 6] =
    ["host", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];

/// Names up to this length need no memory of their own to be put into lower case.
const USUAL_NAME: usize = 64;

/// Fields of which every request has another value. They are kept out of the table of fields that a connection has seen: there each
/// value would push out others, and be looked for among all former ones.
const UNIQUE: [&str; 5] = ["x-request-id", "traceparent", "idempotency-key", "grpc-timeout", "x-broadcast-job"];

/// The block of fields that all legs of a request send, once one of them has encoded it.
#[derive(Debug, Default)]
pub struct SharedHead {
    block: OnceLock<Result<Vec<u8>, NotInHttp2>>,
    /// The memory of the block before.
    spare: Mutex<Vec<u8>>,
}

/// A head that this proxy has written has no form in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} cannot be expressed in HTTP/2")]
pub struct NotInHttp2(&'static str);

// === impl SharedHead ===

impl SharedHead {
    /// The block that a leg sends, from the head that all would write in HTTP/1.1.
    ///
    /// # Errors
    /// As [`put_request`].
    pub fn block(&self, head: &[u8]) -> Result<&[u8], NotInHttp2> {
        let encode = || {
            let mut block = std::mem::take(&mut *self.spare.lock());
            put_request(&mut block, head).map(|()| block)
        };
        self.block.get_or_init(encode).as_deref().map_err(|error| *error)
    }

    /// Forgets it, but keeps usual memory.
    pub fn clear(&mut self) {
        if let Some(Ok(mut block)) = self.block.take()
            && block.capacity() <= buffers::READ_BUFFER_BYTES
        {
            block.clear();
            *self.spare.get_mut() = block;
        }
    }
}

// === requests ===

/// The head of a request that has come, within these bounds, which the scanner sees to in HTTP/1.1; `ends` says that nothing
/// follows it, `lenient` that its target may hold what [`TargetRules`] says.
///
/// # Errors
/// [`BadRequest`], as for a head of HTTP/1.1.
pub fn request_head(
    parts: &request::Parts,
    ends: bool,
    bounds: &HeadLimits,
    lenient: bool,
) -> Result<RequestHead, BadRequest> {
    let bytes = request_bytes(parts)?;
    let rules = TargetRules { longest: bounds.target, lenient };
    let mut head = RequestHead::parse(bytes, rules, Fields::default())?;
    if head.fields.bytes().len() > bounds.bytes {
        return Err(BadRequest::HeadTooLong);
    }
    if head.fields.len() > bounds.fields {
        return Err(BadRequest::TooManyFields);
    }
    head.version = Version::Http2;
    head.keepalive = true;
    if head.framing == Framing::Unspecified && !ends {
        // Its end is said by a frame, as it is by the last chunk of HTTP/1.1.
        head.framing = Framing::Chunked;
    }
    Ok(head)
}

fn request_bytes(parts: &request::Parts) -> Result<Bytes, BadRequest> {
    if parts.method == Method::CONNECT {
        return Err(BadRequest::Connect);
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let host = host(parts)?;
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(parts.method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\nHost: ");
    out.put_slice(host);
    out.put_slice(b"\r\n");
    let mut cookies = parts.headers.get_all(header::COOKIE).iter().peekable();
    if cookies.peek().is_some() {
        // They may come as several fields, which is for HTTP/2 alone (RFC 9113 section 8.2.3).
        let cookies: Vec<&[u8]> = cookies.map(HeaderValue::as_bytes).collect();
        put(&mut out, header::COOKIE.as_str(), &cookies.join(b"; ".as_slice()))?;
    }
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" | "cookie" => {}
            // RFC 9113 section 8.2.2: such a request is malformed.
            "connection" | "proxy-connection" | "keep-alive" | "transfer-encoding" | "upgrade" | "http2-settings" => {
                return Err(BadRequest::ConnectionField);
            }
            name => put(&mut out, name, value.as_bytes())?,
        }
    }
    out.put_slice(b"\r\n");
    Ok(out.freeze())
}

/// The one host that the request names: `:authority`, `Host`, or both where they agree (RFC 9113 section 8.3.1).
fn host(parts: &request::Parts) -> Result<&[u8], BadRequest> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadRequest::Host);
    }
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(BadRequest::HostDiffers),
        (Some(host), _) | (None, Some(host)) if !host.is_empty() => Ok(host),
        _ => Err(BadRequest::Host),
    }
}

fn put(out: &mut BytesMut, name: &str, value: &[u8]) -> Result<(), BadRequest> {
    // The parser of HTTP/1.1 would take white space around a value for none of it; here it is malformed (section 8.2.1).
    if value.first().or(value.last()).is_some_and(u8::is_ascii_whitespace)
        || value.last().is_some_and(u8::is_ascii_whitespace)
    {
        return Err(BadRequest::FieldValue);
    }
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
    Ok(())
}

/// Appends the block of fields that a leg sends, from the head that it would write in HTTP/1.1. `:scheme` is left out, which stands in
/// front of it: legs to endpoints of either scheme share the block.
///
/// # Errors
/// [`NotInHttp2`], where the target has a form that HTTP/2 does not know.
pub fn put_request(out: &mut Vec<u8>, head: &[u8]) -> Result<(), NotInHttp2> {
    let (line, lines) = split_line(head);
    let mut words = line.split(|b| *b == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method.is_empty() || !method.iter().all(u8::is_ascii_graphic) {
        return Err(NotInHttp2("method"));
    }
    // RFC 9113 section 8.3.1.
    let is_path = target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS");
    if !is_path || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(NotInHttp2("target"));
    }
    block::put_method(out, method);
    block::put_path(out, target);
    let host = each_line(lines).find(|(name, _)| name.eq_ignore_ascii_case(b"host")).map(|(_, value)| value);
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        block::put_authority(out, host);
    }
    put_lines(out, lines);
    // Trailers are read whoever asked for them, and some servers send none otherwise.
    block::put_field(out, b"te", b"trailers");
    Ok(())
}

/// Appends a block of the fields in these lines, without those that HTTP/2 does not know.
fn put_lines(out: &mut Vec<u8>, lines: &[u8]) {
    let mut usual = [0; USUAL_NAME];
    for (name, value) in each_line(lines) {
        let long;
        let lower: &[u8] = match usual.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                lower
            }
            None => {
                long = name.to_ascii_lowercase();
                &long
            }
        };
        let is_said = lower != b"te" && !NOT_IN_HTTP2.iter().any(|other| other.as_bytes() == lower);
        if is_said && is_field(lower, value) {
            block::put_field(out, lower, value);
        }
    }
}

/// Whether this can be a field, as what came in was checked, and what was written here is.
fn is_field(name: &[u8], value: &[u8]) -> bool {
    // All bytes are looked at, whatever is found, which the compiler does several bytes at a time.
    let is_name = name.iter().fold(true, |clean, byte| clean & byte.is_ascii_graphic() & (*byte != b':'));
    let is_value =
        value.iter().fold(true, |clean, byte| clean & ((*byte == b'\t') | ((*byte >= b' ') & (*byte != 0x7f))));
    !name.is_empty() && is_name && is_value
}

// === responses ===

/// The answer for a client, from the head that it would have got in HTTP/1.1.
///
/// # Errors
/// [`NotInHttp2`], where the status is none.
pub fn response(head: &[u8]) -> Result<Response<()>, NotInHttp2> {
    let (line, lines) = split_line(head);
    let status = line.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok()).ok_or(NotInHttp2("status"))?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = http::Version::HTTP_2;
    put_fields(lines, response.headers_mut());
    Ok(response)
}

// === trailers ===

/// Trailers for HTTP/2, from their lines; none where there are none.
#[must_use]
pub fn trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    put_fields(lines, &mut fields);
    (!fields.is_empty()).then_some(fields)
}

/// Appends the block of the trailers in these lines; nothing where there are none.
pub fn put_trailers(out: &mut Vec<u8>, lines: &[u8]) {
    put_lines(out, lines);
}

/// The lines of trailers without what has no place there (RFC 9110 section 6.5.1).
#[must_use]
pub fn kept_trailers(lines: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    for (name, value) in each_line(lines).filter(|(name, _)| Class::of(name) == Class::Other) {
        for part in [name, b": ", value, b"\r\n"] {
            out.put_slice(part);
        }
    }
    out.freeze()
}

/// The lines of trailers that came over HTTP/2, without what has no place there (RFC 9110 section 6.5.1).
#[must_use]
pub fn trailer_lines(trailers: &HeaderMap) -> Bytes {
    let mut out = BytesMut::new();
    for (name, value) in trailers {
        if Class::of(name.as_str().as_bytes()) == Class::Other {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
    out.freeze()
}

// === both ===

/// The first line, and the rest.
fn split_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    (&head[..end], head.get(end + 2..).unwrap_or_default())
}

/// Name and value of each line, up to one that is none.
fn each_line(mut lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (line, rest) = split_line(lines);
        let colon = memchr::memchr(b':', line)?;
        lines = rest;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// Takes over the fields that HTTP/2 knows.
fn put_fields(lines: &[u8], fields: &mut HeaderMap) {
    for (name, value) in each_line(lines) {
        // Both were checked when they came in, or were written here.
        let (Ok(name), Ok(mut whole)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        whole.set_sensitive(UNIQUE.contains(&name.as_str()));
        if !NOT_IN_HTTP2.contains(&name.as_str()) {
            fields.append(name, whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// What becomes of a request for this target with so many fields of so many bytes.
    fn read(target: &str, fields: usize, bytes: usize) -> Result<RequestHead, BadRequest> {
        let mut request = Request::get(format!("http://a{target}"));
        for n in 0..fields {
            request = request.header(format!("f{n:02}"), "a".repeat(bytes));
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        request_head(&parts, true, &HeadLimits { target: 100, bytes: 1_000, fields: 20 }, false)
    }

    #[test]
    fn the_bounds_of_a_head_are_those_of_http1() {
        // With the field that names the host.
        assert_eq!(read(&format!("/{}", "a".repeat(99)), 19, 1).unwrap().fields.len(), 20);
        assert_eq!(read(&format!("/{}", "a".repeat(100)), 0, 0).unwrap_err(), BadRequest::TargetTooLong);
        assert_eq!(read(&format!("/{}", "a".repeat(2_000)), 0, 0).unwrap_err(), BadRequest::TargetTooLong);
        assert_eq!(read("/", 20, 1).unwrap_err(), BadRequest::TooManyFields);
        assert_eq!(read("/", 10, 100).unwrap_err(), BadRequest::HeadTooLong);
    }

    /// The fields of a block.
    fn decoded(block: &[u8]) -> Vec<(String, String)> {
        let (mut fields, text) = (Vec::new(), |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap());
        let mut decoder = h2client::hpack::Decoder::default();
        decoder.decode(block, |name, value| fields.push((text(name), text(value)))).unwrap();
        fields
    }

    fn fields(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn legs_share_one_block_which_has_everything_but_the_scheme() {
        let mut shared = SharedHead::default();
        let head = b"PUT /a?b HTTP/1.1\r\nX-C: d\r\nHost: e:80\r\nTE: gzip\r\nTransfer-Encoding: chunked\r\nf:\r\n\r\n";
        let block = shared.block(head).unwrap();
        let want = [
            (":method", "PUT"),
            (":path", "/a?b"),
            (":authority", "e:80"),
            ("x-c", "d"),
            ("f", ""),
            ("te", "trailers"),
        ];
        assert_eq!(decoded(block), fields(&want));
        let place = block.as_ptr();
        assert_eq!(shared.block(b"not looked at").unwrap().as_ptr(), place);
        shared.clear();
        assert_eq!(shared.block(head).unwrap().as_ptr(), place, "its memory is used again");
    }

    #[test]
    fn what_has_no_form_in_http2_is_refused() {
        let mut out = Vec::new();
        for head in
            ["GET a HTTP/1.1\r\n\r\n", "GET * HTTP/1.1\r\n\r\n", "GET /a#b HTTP/1.1\r\n\r\n", "GET  HTTP/1.1\r\n\r\n"]
        {
            assert_eq!(put_request(&mut out, head.as_bytes()), Err(NotInHttp2("target")), "{head}");
        }
        assert!(put_request(&mut out, b"OPTIONS * HTTP/1.1\r\n\r\n").is_ok());
    }

    #[test]
    fn trailers_lose_what_has_no_place_there() {
        assert_eq!(kept_trailers(b"a: b\r\nhost: c\r\ncontent-length: 1\r\nd: e f\r\n"), "a: b\r\nd: e f\r\n");
        let mut block = Vec::new();
        put_trailers(&mut block, b"Grpc-Status: 0\r\nConnection: x\r\n");
        assert_eq!(decoded(&block), fields(&[("grpc-status", "0")]));
    }

    #[test]
    fn what_is_new_in_every_answer_is_kept_out_of_tables() {
        let response = response(b"HTTP/1.1 200 OK\r\nX-Request-Id: 1\r\nX-Other: 1\r\n\r\n").unwrap();
        let is_kept_out = |name: &str| response.headers()[name].is_sensitive();
        assert_eq!(["x-request-id", "x-other"].map(is_kept_out), [true, false]);
    }
}
