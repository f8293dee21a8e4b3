//! Tests of the header rules.

use bytes::Bytes;
use proptest::prelude::*;
use spans::{RemoteParent, RequestTrace};

use super::*;
use crate::{
    config::FieldEdits,
    http::{Class, Fields, request::RequestHead, response::ResponseHead},
};

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
    let want =
        "HTTP/1.1 200 OK\r\nServer: x\r\nX-A: new\r\nX-Forwarded-Proto: https\r\nX-B: more\r\nContent-Length: 3\r\n";
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
