//! Header rules: what of a request's fields goes to the endpoints, and what of a response's goes to the client.
//!
//! Hop-by-hop fields and those that `Connection` names stop here, in both directions (RFC 9110 section 7.6.1). Messages
//! are always framed anew. Order, repetition and case of everything else are kept.

use std::net::IpAddr;

use bytes::{BufMut, Bytes};
use spans::RequestTrace;

use crate::{
    config::{self, FieldEdits},
    grpc,
    http::{Class, Field, Fields, Framing, Version, members, request::RequestHead, response::ResponseHead},
};

/// The media type of the report; also how a client asks for it.
pub const REPORT_MEDIA_TYPE: &str = "application/vnd.broadcast+json";

/// What the head of a leg says besides what the client's head says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarding<'a> {
    /// The client's address.
    pub client: &'a str,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// Of the listener: `http` or `https`.
    pub scheme: &'a str,
    /// What this deployment is called in `Via`.
    pub via: &'a str,
    /// The request's id, where the client sent none that is taken over.
    pub id: Option<&'a str>,
    /// The trace of the request, if tracing is configured. The parent in the head is the request's span, which each leg replaces.
    pub trace: Option<RequestTrace>,
    /// Whether `Authorization` was meant for this process, and is nobody else's business.
    pub is_authenticated: bool,
    /// Whether the client asked for the report, which the endpoints need not know.
    pub report: bool,
    /// The value of `Host` where the client sent none.
    pub host: Option<&'a str>,
    /// Whether it takes the place of the client's.
    pub replaces_host: bool,
    /// The target that takes the place of the client's.
    pub target: Option<&'a [u8]>,
    /// The time that endpoints have, where the request is one of gRPC.
    pub grpc_timeout: Option<std::time::Duration>,
    /// What else the route changes.
    pub edits: Option<&'a FieldEdits>,
}

/// How the body of an answer is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFraming {
    /// This many bytes; for an answer without body, what the length would be.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the connection closes.
    Close,
    /// Until a frame says that it ends.
    Frames,
    /// No body and nothing said about its length.
    Bodiless,
}

/// Whether the request has been through a proxy of this name.
#[must_use]
pub fn has_passed(head: &RequestHead, via: &str) -> bool {
    head.fields.list(Class::Via).any(|hop| {
        let mut parts = hop.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
        parts.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(via.as_bytes()))
    })
}

/// Whether the client asks for the report instead of an endpoint's answer.
#[must_use]
pub fn wants_report(head: &RequestHead) -> bool {
    head.fields.list(Class::Accept).any(is_report)
}

/// How many bytes of the start of every answer's body the report is asked to show: `bodies=4096` behind its media type.
#[must_use]
pub fn report_excerpt(head: &RequestHead) -> usize {
    let bodies = |parameter: &[u8]| {
        let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("bodies").then(|| value.parse().ok()).flatten()
    };
    let reports = head.fields.list(Class::Accept).filter(|range| is_report(range));
    reports.flat_map(|range| range.split(|b| *b == b';').skip(1)).find_map(bodies).unwrap_or(0)
}

/// Whether the client asks to be answered before the request is carried out (RFC 7240 section 4.1).
#[must_use]
pub fn prefers_async(head: &RequestHead) -> bool {
    let mut preferences = head.fields.all("prefer").flat_map(members);
    preferences.any(|preference| {
        let name = preference.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"respond-async")
    })
}

fn is_report(range: &[u8]) -> bool {
    let range = range.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    range.eq_ignore_ascii_case(REPORT_MEDIA_TYPE.as_bytes())
}

/// The head that every leg writes. Framed by what the client's head says about its body.
#[must_use]
pub fn leg_head(head: &RequestHead, forwarding: &Forwarding<'_>) -> Bytes {
    let mut out = Vec::new();
    put_leg_head(&mut out, head, forwarding);
    out.into()
}

/// Writes that head.
pub fn put_leg_head(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    // What is added here is short, but for a host that is said twice.
    out.reserve(head.fields.bytes().len() + head.host().map_or(0, <[u8]>::len) + 512);
    out.put_slice(head.method());
    match forwarding.target {
        Some(target) => {
            out.put_slice(b" ");
            out.put_slice(target);
        }
        None => {
            out.put_slice(if head.target_lacks_slash() { b" /" } else { b" " });
            out.put_slice(head.target());
        }
    }
    out.put_slice(b" HTTP/1.1\r\n");
    let nominated = Nominated::of(&head.fields);
    let mut has_host = false;
    let mut kept = Kept::of(&head.fields);
    let edits = forwarding.edits;
    for field in head.fields.fields() {
        match field.class {
            Class::Host if forwarding.replaces_host => {}
            Class::Host => {
                has_host = true;
                kept.keep(out, field);
            }
            Class::Connection
            | Class::ProxyConnection
            | Class::HopByHop
            | Class::Upgrade
            | Class::ContentLength
            | Class::TransferEncoding
            | Class::Broadcast
            | Class::Expect
            // Said anew below, with this hop.
            | Class::ForwardedFor => {}
            Class::ForwardedProto | Class::ForwardedHost | Class::Forwarded if !forwarding.trusted => {}
            Class::RequestId if forwarding.id.is_some() => {}
            Class::TraceParent if forwarding.trace.is_some() => {}
            // It belongs to a `traceparent` that is missing or invalid.
            Class::TraceState if forwarding.trace.is_some_and(|trace| trace.parent.is_none()) => {}
            Class::Authorization if forwarding.is_authenticated => {}
            _ if edits.is_some_and(|edits| edits.drops(kept.parts(field).0)) => {}
            Class::Other
                if forwarding.grpc_timeout.is_some()
                    && kept.parts(field).0.eq_ignore_ascii_case(b"grpc-timeout") => {}
            Class::Accept if forwarding.report => {
                let (name, value) = kept.parts(field);
                kept.flush(out);
                put_without_report(out, name, value);
            }
            _ if nominated.has(kept.parts(field).0) => {}
            _ => kept.keep(out, field),
        }
    }
    kept.flush(out);
    if !has_host {
        let own = forwarding.host.map(str::as_bytes);
        let host = if forwarding.replaces_host { own } else { head.host().or(own) };
        put(out, b"Host", host.unwrap_or_default());
    }
    match head.framing {
        Framing::Length(length) => put_length(out, length),
        Framing::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Unsaid => {}
    }
    put_forwarding(out, head, forwarding);
    out.put_slice(b"\r\n");
}

fn put_forwarding(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    out.put_slice(match head.version {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
        Version::Http2 => b"Via: 2.0 ",
    });
    out.put_slice(forwarding.via.as_bytes());
    out.put_slice(b"\r\n");
    // What the route sets or removes is not said here.
    let said = |name: &str| forwarding.edits.is_none_or(|edits| !edits.drops(name.as_bytes()));
    if said("X-Forwarded-For") {
        out.put_slice(b"X-Forwarded-For: ");
        if forwarding.trusted {
            for hop in head.fields.list(Class::ForwardedFor) {
                out.put_slice(hop);
                out.put_slice(b", ");
            }
        }
        out.put_slice(forwarding.client.as_bytes());
        out.put_slice(b"\r\n");
    }
    let kept = |class| forwarding.trusted && head.fields.of(class).next().is_some();
    if !kept(Class::ForwardedProto) && said("X-Forwarded-Proto") {
        put(out, b"X-Forwarded-Proto", forwarding.scheme.as_bytes());
    }
    if let Some(host) = head.host()
        && !kept(Class::ForwardedHost)
        && said("X-Forwarded-Host")
    {
        put(out, b"X-Forwarded-Host", host);
    }
    if let Some(time) = forwarding.grpc_timeout {
        put(out, b"Grpc-Timeout", grpc::timeout_value(time).as_bytes());
    }
    if let Some(id) = forwarding.id {
        put(out, b"X-Request-Id", id.as_bytes());
    }
    if let Some(trace) = forwarding.trace
        && said("traceparent")
    {
        put(out, b"traceparent", &trace.traceparent(trace.request_span()));
    }
    if let Some(edits) = forwarding.edits {
        out.put_slice(edits.lines());
    }
}

/// Writes the status line and the fields of an endpoint's response, as the route changes them and framed for the client.
pub fn put_answer(out: &mut impl BufMut, head: &ResponseHead, framing: AnswerFraming, edits: &FieldEdits) {
    put_status(out, head.status, head.reason());
    let nominated = Nominated::of(&head.fields);
    let mut kept = Kept::of(&head.fields);
    for field in head.fields.fields() {
        match field.class {
            Class::Connection
            | Class::ProxyConnection
            | Class::HopByHop
            | Class::Upgrade
            | Class::ContentLength
            | Class::TransferEncoding
            | Class::Broadcast => {}
            _ if nominated.has(kept.parts(field).0) => {}
            _ if edits.drops(kept.parts(field).0) => {}
            _ => kept.keep(out, field),
        }
    }
    kept.flush(out);
    out.put_slice(edits.lines());
    put_framing(out, framing);
}

/// The names that the `Connection` fields of a head nominate, besides the well-known ones. None where there is nothing but
/// `close` and `keep-alive`, as usual.
struct Nominated<'a>(Option<&'a Fields>);

impl<'a> Nominated<'a> {
    fn of(fields: &'a Fields) -> Self {
        let is_usual = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
        Self(fields.of(Class::Connection).any(|value| !is_usual(value)).then_some(fields))
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0
            .is_some_and(|fields| fields.list(Class::Connection).any(|nominated| nominated.eq_ignore_ascii_case(name)))
    }
}

/// Fields that go on as they came. Neighbours that are written the way they are written here are copied in one piece:
/// most heads have only such fields.
struct Kept<'a> {
    head: &'a [u8],
    /// The piece that has been found so far.
    from: usize,
    to: usize,
}

impl<'a> Kept<'a> {
    fn of(fields: &'a Fields) -> Self {
        Self { head: fields.bytes(), from: 0, to: 0 }
    }

    fn parts(&self, field: &Field) -> (&'a [u8], &'a [u8]) {
        (field.name.get(self.head), field.value.get(self.head))
    }

    fn keep(&mut self, out: &mut impl BufMut, field: &Field) {
        let Some(line) = field.plain_line(self.head) else {
            self.flush(out);
            let (name, value) = self.parts(field);
            return put(out, name, value);
        };
        if line.start != self.to {
            self.flush(out);
            self.from = line.start;
        }
        self.to = line.end;
    }

    fn flush(&mut self, out: &mut impl BufMut) {
        if self.from < self.to {
            out.put_slice(&self.head[self.from..self.to]);
        }
        (self.from, self.to) = (0, 0);
    }
}

/// Writes a status line.
pub fn put_status(out: &mut impl BufMut, status: u16, reason: &[u8]) {
    out.put_slice(b"HTTP/1.1 ");
    // Always three digits, whatever made the number.
    out.put_slice(&[status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8));
    out.put_slice(b" ");
    out.put_slice(reason);
    out.put_slice(b"\r\n");
}

/// Writes the fields that frame a body.
pub fn put_framing(out: &mut impl BufMut, framing: AnswerFraming) {
    match framing {
        AnswerFraming::Length(length) => put_length(out, length),
        AnswerFraming::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        AnswerFraming::Close | AnswerFraming::Frames | AnswerFraming::Bodiless => {}
    }
}

/// Writes one field. Its parts must be free of line ends.
pub fn put_text(out: &mut impl BufMut, name: &str, value: &[&str]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    value.iter().for_each(|part| out.put_slice(part.as_bytes()));
    out.put_slice(b"\r\n");
}

/// Writes a number in decimal.
pub fn put_number(out: &mut impl BufMut, mut number: u64) {
    if number < 10 {
        return out.put_u8(b'0' + number as u8);
    }
    let (mut digits, mut first) = ([0; 20], 20);
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[first..]);
        }
    }
}

fn put(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn put_length(out: &mut impl BufMut, length: u64) {
    out.put_slice(b"Content-Length: ");
    put_number(out, length);
    out.put_slice(b"\r\n");
}

/// Writes an `Accept` without the report's media type; not at all where nothing else is in it.
fn put_without_report(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    let rest: Vec<&[u8]> = members(value).filter(|range| !is_report(range)).collect();
    if !rest.is_empty() {
        put(out, name, &rest.join(b", ".as_slice()));
    }
}

/// Whether a client is one whose fields are believed.
#[must_use]
pub fn is_trusted(listener: &config::Listener, client: IpAddr) -> bool {
    access::network::is_in(client, &listener.trust_forwarded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spans::RemoteParent;

    use super::*;
    use crate::http::Fields;

    fn request(fields: &str) -> RequestHead {
        let text = format!("POST /p HTTP/1.1\r\nHost: shop\r\n{fields}\r\n");
        RequestHead::parse(Bytes::from(text), 999, Fields::default()).unwrap()
    }

    fn forwarding() -> Forwarding<'static> {
        Forwarding { client: "192.0.2.9", scheme: "http", via: "me", id: Some("id1"), ..Forwarding::default() }
    }

    fn leg(fields: &str, forwarding: &Forwarding<'_>) -> String {
        String::from_utf8(leg_head(&request(fields), forwarding).to_vec()).unwrap()
    }

    const ADDED: &str = "Via: 1.1 me\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop\r\nX-Request-Id: id1\r\n\r\n";

    #[test]
    fn order_case_and_repetition_are_kept() {
        let head = leg("x-B: 2\r\nX-a: 1\r\nX-B: 3\r\ncookie: a=b\r\n", &forwarding());
        let want = "POST /p HTTP/1.1\r\nHost: shop\r\nx-B: 2\r\nX-a: 1\r\nX-B: 3\r\ncookie: a=b\r\n";
        assert_eq!(head, format!("{want}{ADDED}"));
    }

    #[test]
    fn hop_by_hop_and_nominated_fields_stop_here_and_framing_is_new() {
        let head = leg(
            "Connection: close, X-Secret, Host\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: x\r\n\
             Upgrade: h2c\r\nProxy-Authorization: p\r\nExpect: 100-continue\r\nX-Broadcast-Require: any\r\n\
             content-length: 5, 5\r\nProxy-Connection: keep-alive\r\n",
            &forwarding(),
        );
        assert_eq!(head, format!("POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n{ADDED}"));
    }

    #[test]
    fn forwarded_fields_count_only_from_trusted_clients() {
        let fields =
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Host: h\r\n";
        assert_eq!(leg(fields, &forwarding()), format!("POST /p HTTP/1.1\r\nHost: shop\r\n{ADDED}"));
        let trusted = leg(fields, &Forwarding { trusted: true, id: None, ..forwarding() });
        assert!(trusted.contains("\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Host: h\r\n"));
        assert!(trusted.ends_with("Via: 1.1 me\r\nX-Forwarded-For: 1.1.1.1, 192.0.2.9\r\n\r\n"), "{trusted}");
    }

    #[test]
    fn the_context_of_a_trace_is_passed_on_as_it_came_unless_requests_are_traced() {
        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let fields = format!("traceparent: {PARENT}\r\ntracestate: a=b\r\nTraceState: c=d\r\n");
        assert!(leg(&fields, &forwarding()).contains(&format!("\r\n{fields}")));
        let traced = |fields: &str| {
            let trace = match RemoteParent::of(request(fields).fields.of(Class::TraceParent)) {
                Some(parent) => RequestTrace::continued(parent),
                None => RequestTrace::begun(|_| false),
            };
            let text = trace.traceparent(trace.request_span());
            let line = format!("\r\ntraceparent: {}\r\n", std::str::from_utf8(&text).unwrap());
            let head = leg(fields, &Forwarding { trace: Some(trace), ..forwarding() });
            assert!(head.contains(&line) && head.to_lowercase().matches("traceparent").count() == 1, "{head}");
            head
        };
        let continued = traced(&fields);
        assert!(continued.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-") && !continued.contains(PARENT));
        assert!(continued.contains("tracestate: a=b\r\nTraceState: c=d\r\n"));
        // The state of a trace is removed with an invalid parent.
        let begun = traced(&fields.replace("-01", "-0x"));
        assert!(!begun.contains("0af7651916cd43dd8448eb211c80319c") && !begun.to_lowercase().contains("tracestate"));
    }

    #[test]
    fn asking_for_the_report_stays_here() {
        let asked = Forwarding { report: true, ..forwarding() };
        assert!(wants_report(&request("Accept: text/html, application/vnd.Broadcast+json;q=1\r\n")));
        assert!(!wants_report(&request("Accept: application/json\r\n")));
        for (accept, excerpt) in [
            ("application/vnd.broadcast+json", 0),
            ("application/vnd.broadcast+json; bodies=4096", 4096),
            ("text/html;bodies=1, application/vnd.broadcast+json;q=0.9; Bodies = \"17\"", 17),
            ("application/vnd.broadcast+json; bodies=-1", 0),
            ("application/vnd.broadcast+json; bodies=99999999999999999999999", 0),
            ("application/vnd.broadcast+json; bodies", 0),
        ] {
            let asked = request(&format!("Accept: {accept}\r\n"));
            assert!(wants_report(&asked));
            assert_eq!(report_excerpt(&asked), excerpt, "{accept}");
        }
        assert!(!leg("Accept: application/vnd.broadcast+json\r\n", &asked).to_lowercase().contains("accept"));
        let rest = leg("Accept: text/html, application/vnd.broadcast+json, */*;q=0.1\r\n", &asked);
        assert!(rest.contains("Accept: text/html, */*;q=0.1\r\n"));
    }

    #[test]
    fn loops_are_seen_by_name_whatever_else_is_in_via() {
        let name = "fanfare-shop-cache";
        assert!(has_passed(&request(&format!("Via: 1.0 fred, 1.1 {name} (x)\r\n")), name));
        assert!(has_passed(&request(&format!("Via: 1.0 fred\r\nvia: HTTP/1.1 {name}\r\n")), name));
        assert!(!has_passed(&request("Via: 1.1 other\r\n"), name));
    }

    #[test]
    fn an_answer_loses_what_concerns_the_endpoints_connection() {
        let response = "HTTP/1.1 201 Made\r\nSet-Cookie: a\r\nset-cookie: b\r\nConnection: x-own\r\nX-Own: 1\r\n\
                        Transfer-Encoding: chunked\r\nX-Broadcast-Result: forged\r\n\r\n";
        let mut out = Vec::new();
        let head = ResponseHead::parse(Bytes::from(response)).unwrap();
        put_answer(&mut out, &head, AnswerFraming::Length(3), &FieldEdits::default());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 201 Made\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 3\r\n"
        );
    }

    #[test]
    fn a_route_sets_adds_and_removes_fields_and_chooses_target_and_host() {
        let line = |text: &str| text.parse().unwrap();
        let edits = FieldEdits::new(
            vec![line("X-A: new"), line("X-Forwarded-Proto: https")],
            vec![line("X-B: more")],
            vec!["Cookie".parse().unwrap(), "X-Forwarded-For".parse().unwrap()],
        );
        let changed = Forwarding {
            edits: Some(&edits),
            target: Some(b"/new?q"),
            host: Some("other:80"),
            replaces_host: true,
            ..forwarding()
        };
        // A client cannot keep a field out that the route sets.
        let head = leg("x-a: 1\r\nX-B: 1\r\ncookie: c\r\nX-A: 2\r\nX-C: 1\r\nConnection: X-A\r\n", &changed);
        let want = "POST /new?q HTTP/1.1\r\nX-B: 1\r\nX-C: 1\r\nHost: other:80\r\nVia: 1.1 me\r\nX-Forwarded-Host: shop\r\n\
                    X-Request-Id: id1\r\nX-A: new\r\nX-Forwarded-Proto: https\r\nX-B: more\r\n\r\n";
        assert_eq!(head, want);

        let response = "HTTP/1.1 200 OK\r\nServer: x\r\nX-A: 1\r\nCookie: c\r\n\r\n";
        let mut out = Vec::new();
        let head = ResponseHead::parse(Bytes::from(response)).unwrap();
        put_answer(&mut out, &head, AnswerFraming::Length(3), &edits);
        let want = "HTTP/1.1 200 OK\r\nServer: x\r\nX-A: new\r\nX-Forwarded-Proto: https\r\nX-B: more\r\nContent-Length: 3\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    proptest! {
        /// Whatever the client's fields: the leg's head parses again, is framed the same, and holds none of what must
        /// stop here.
        #[test]
        fn every_leg_head_is_a_strict_head(
            names in prop::collection::vec("[A-Za-z-]{1,12}|Connection|Keep-Alive|TE|X-Forwarded-For|X-Broadcast-A|Accept", 0..12),
            values in prop::collection::vec("[ -~]{0,20}|close, x-a|application/vnd\\.broadcast\\+json", 12),
            chunked: bool,
        ) {
            let fields: String = names.iter().zip(&values).map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            let framing = if chunked { "Transfer-Encoding: chunked\r\n" } else { "Content-Length: 7\r\n" };
            let text = format!("POST /p HTTP/1.1\r\nHost: shop\r\n{framing}{fields}\r\n");
            if let Ok(head) = RequestHead::parse(Bytes::from(text), 999, Fields::default()) {
                let out = leg_head(&head, &Forwarding { report: true, ..forwarding() });
                let again = RequestHead::parse(out, 999, Fields::default()).unwrap();
                prop_assert_eq!(again.framing, head.framing);
                prop_assert_eq!(again.host(), head.host());
                prop_assert!(again.keepalive && !again.expects_continue && !wants_report(&again));
                for (name, _) in again.fields.iter() {
                    let stops = matches!(Class::of(name), Class::Connection | Class::HopByHop | Class::Broadcast | Class::Expect);
                    prop_assert!(!stops);
                }
                prop_assert_eq!(again.fields.all("x-forwarded-for").collect::<Vec<_>>(), [b"192.0.2.9"]);
            }
        }
    }
}
