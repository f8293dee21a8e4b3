//! Heads from HTTP/2 into the form of HTTP/1.1 and back (RFC 9113 section 8).
//!
//! A head that comes in is written as one of HTTP/1.1 and read by the same strict parser as any other, so that there is one
//! set of checks. What goes out was written by this proxy.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request, response};

use crate::{
    config::HeadLimits,
    http::{
        Class, Fields, Framing, Version,
        request::{BadRequest, RequestHead, TargetRules},
        response::{BadResponse, ResponseHead},
    },
};

/// Fields that concern one connection of HTTP/1.1 and mean nothing in HTTP/2 (RFC 9113 section 8.2.2), and those that are said
/// otherwise there.
const NOT_IN_HTTP2: [&str; 6] =
    ["host", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];

/// Fields of which every request has another value. They are kept out of the table of fields that a connection has seen: there each
/// value would push out others, and be looked for among all former ones.
const UNIQUE: [&str; 5] = ["x-request-id", "traceparent", "idempotency-key", "grpc-timeout", "x-broadcast-job"];

/// The head that all legs of a request send, once one of them has translated it.
#[derive(Debug, Default)]
pub struct SharedHead(OnceLock<Request<()>>);

/// A head that this proxy has written cannot be said in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} cannot be said in HTTP/2")]
pub struct NotInHttp2(&'static str);

// === impl SharedHead ===

impl SharedHead {
    /// The request that a leg sends, from the head that all would write in HTTP/1.1.
    ///
    /// # Errors
    /// As [`request()`].
    pub fn request(&self, head: &[u8], scheme: &str) -> Result<Request<()>, NotInHttp2> {
        if let Some(request) = self.0.get().filter(|request| request.uri().scheme_str() == Some(scheme)) {
            // Names and values are shared.
            return Ok(request.clone());
        }
        let request = request(head, scheme)?;
        // Where another one is there it has the other scheme.
        let _ = self.0.set(request.clone());
        Ok(request)
    }

    /// Forgets it.
    pub fn clear(&mut self) {
        self.0.take();
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
    if head.framing == Framing::Unsaid && !ends {
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

/// The request that a leg sends, from the head that it would write in HTTP/1.1.
///
/// # Errors
/// [`NotInHttp2`], where the target or the host has a form that HTTP/2 does not know.
pub fn request(head: &[u8], scheme: &str) -> Result<Request<()>, NotInHttp2> {
    let (line, lines) = split_line(head);
    let mut words = line.split(|b| *b == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut host, mut fields) = (&b""[..], HeaderMap::with_capacity(16));
    put_fields(lines, &mut fields, |name, value| {
        if name == "host" {
            host = value;
        }
    });
    // Trailers are read whoever asked for them, and some servers send none otherwise.
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
    let uri = Uri::builder().scheme(scheme).path_and_query(target);
    let uri = if host.is_empty() { uri } else { uri.authority(host) };
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().map_err(|_| NotInHttp2("target or host"))?;
    *request.method_mut() = Method::from_bytes(method).map_err(|_| NotInHttp2("method"))?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok(request)
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
    put_fields(lines, response.headers_mut(), |_, _| {});
    Ok(response)
}

/// The head of an endpoint's response.
///
/// # Errors
/// [`BadResponse`], as for a head of HTTP/1.1.
pub fn response_head(parts: &response::Parts, fields: Fields) -> Result<ResponseHead, BadResponse> {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(parts.status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(crate::http::reason(parts.status.as_u16()).as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in &parts.headers {
        if NOT_IN_HTTP2.contains(&name.as_str()) {
            return Err(BadResponse::Head);
        }
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
    ResponseHead::parse_into(out.freeze(), fields)
}

// === trailers ===

/// Trailers for HTTP/2, from their lines; none where there are none.
#[must_use]
pub fn trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    put_fields(lines, &mut fields, |_, _| {});
    (!fields.is_empty()).then_some(fields)
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

/// Takes over the fields that HTTP/2 knows; `other` is told of the rest.
fn put_fields<'a>(mut lines: &'a [u8], fields: &mut HeaderMap, mut other: impl FnMut(&str, &'a [u8])) {
    loop {
        let (line, rest) = split_line(lines);
        let Some(colon) = memchr::memchr(b':', line) else { return };
        lines = rest;
        let value = line[colon + 1..].trim_ascii();
        // Both were checked when they came in, or were written here.
        let (Ok(name), Ok(mut whole)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value)) else {
            continue;
        };
        whole.set_sensitive(UNIQUE.contains(&name.as_str()));
        if NOT_IN_HTTP2.contains(&name.as_str()) {
            other(name.as_str(), value);
        } else {
            fields.append(name, whole);
        }
    }
}

#[cfg(test)]
mod tests {
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
    #[test]
    fn legs_share_the_head_of_their_scheme() {
        let shared = SharedHead::default();
        let head = b"GET /a HTTP/1.1\r\nHost: b\r\nX-C: d\r\n\r\n";
        let seen = |request: Request<()>| {
            let (parts, ()) = request.into_parts();
            (parts.method, parts.uri.to_string(), parts.version, parts.headers)
        };
        for scheme in ["http", "http", "https", "http"] {
            let alone = seen(request(head, scheme).unwrap());
            assert_eq!(seen(shared.request(head, scheme).unwrap()), alone, "{scheme}");
        }
        assert_eq!(shared.0.get().and_then(|request| request.uri().scheme_str()), Some("http"));
    }

    #[test]
    fn what_is_new_in_every_request_is_kept_out_of_tables() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nX-Other: 1\r\n\r\n";
        let request = request(head, "http").unwrap();
        let is_kept_out = |name: &str| request.headers()[name].is_sensitive();
        assert_eq!(["x-request-id", "x-other", "te"].map(is_kept_out), [true, false, false]);
    }
}
