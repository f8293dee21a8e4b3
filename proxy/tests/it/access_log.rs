//! The access log: one entry per request, written when its last leg has ended.

use serde_json::Value;
use testkit::client::{RawClient, request};
use testkit::origin::{Gate, Reply};

use crate::fixture::{REPORT, ROUTE, origins};
use crate::process::Process;

#[tokio::test]
async fn an_entry_is_written_when_the_last_leg_has_ended() {
    let gate = Gate::new();
    let [a, b] = origins([vec![Reply::ok("a")], vec![Reply::new(503).hold(&gate), Reply::ok("b")]]);
    let mut process = Process::start(&[a.address(), b.address()], "any", None).await;
    let first = request(process.address, "PURGE", "/first", &[("X-Request-Id", "id-1")], b"body").await;
    assert_eq!(first.expect_status(200).text(), "a");
    gate.wait_reached(1).await;
    request(process.address, "GET", "/second", &[], b"").await.expect_status(200);
    // The first request was answered, but a leg of it still runs, so the second one's entry comes first.
    let entry = |line: String| -> Value { serde_json::from_str(&line).expect("JSON") };
    let second = entry(process.line_with("\"/").await);
    assert_eq!(second["target"], "/second", "{second}");
    gate.release();
    let first = entry(process.line_with("\"/").await);
    assert_eq!((&first["id"], &first["method"], &first["target"]), (&"id-1".into(), &"PURGE".into(), &"/first".into()));
    assert_eq!((&first["route"], &first["status"], &first["received"]), (&ROUTE.into(), &200.into(), &4.into()));
    let legs = first["legs"].as_array().expect("the legs");
    let told: Vec<_> = legs.iter().map(|leg| (&leg["endpoint"], &leg["outcome"], &leg["status"])).collect();
    let (a, b) = (a.address().to_string().into(), b.address().to_string().into());
    assert_eq!(told, [(&a, &"ok".into(), &200.into()), (&b, &"server_error".into(), &503.into())], "{first}");
}

#[tokio::test]
async fn what_a_client_sends_cannot_break_an_entry() {
    let [a] = origins([Reply::ok("a")]);
    let mut process = Process::start(&[a.address()], "all", None).await;
    request(process.address, "X'`|~", "/%0a%22?\u{27}$(x)", &[], b"").await.expect_status(200);
    let line = process.line_with("/%0a").await;
    let entry: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["method"], &entry["target"]), (&"X'`|~".into(), &"/%0a%22?'$(x)".into()));
}

#[tokio::test]
async fn what_is_answered_before_it_has_a_route_is_logged_with_the_reason() {
    let [a] = origins([Reply::ok("a")]);
    let mut process = Process::start(&[a.address()], "all", None).await;
    let long = "a".repeat(17 << 10);
    let table = [
        ("GET /bad HTTP/1.1\r\n\r\n".to_owned(), 400, "GET", "/bad", "Host"),
        ("GET /bad^ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400, "GET", "/bad^", "target"),
        ("GET /bad HTTP/1.1\nHost: x\r\n\r\n".to_owned(), 400, "GET", "/bad", "line feed"),
        ("\x16\x03\x01\r\n\r\n".to_owned(), 400, "...", "-", "request line"),
        ("TRACE /t HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 405, "TRACE", "/t", "TRACE"),
        ("GET /slow HTTP/1.1\r\nHost".to_owned(), 408, "GET", "/slow", "longer than 3s"),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            414,
            "GET",
            &format!("/{}", &long[..2047]),
            "target is longer",
        ),
        ("GET /e HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n".to_owned(), 417, "GET", "/e", "expectation"),
        (format!("GET /h HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(200)), 431, "GET", "/h", "fields"),
        ("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n".to_owned(), 501, "CONNECT", "x:80", "CONNECT"),
        ("GET /v HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), 505, "GET", "/v", "HTTP/1.1"),
    ];
    for (bytes, status, method, target, reason) in table {
        let mut client = RawClient::connect(process.address).await;
        client.send(&bytes).await;
        let answer = client.read_response("GET").await.expect_status(status);
        let entry: Value = serde_json::from_str(&process.line_with("{").await).expect("JSON");
        assert_eq!((&entry["status"], &entry["route"]), (&status.into(), &"-".into()), "{entry}");
        assert_eq!((&entry["method"], &entry["target"]), (&method.into(), &target.into()), "{entry}");
        assert!(entry["reason"].as_str().is_some_and(|text| text.contains(reason)), "{reason}: {entry}");
        assert_eq!(entry["sent"], answer.body.len(), "{entry}");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(entry["id"], body["request_id"], "{entry}");
    }
    a.assert_untouched();
}

#[tokio::test]
async fn a_request_id_that_is_not_taken_over_is_replaced_everywhere_by_the_same_new_one() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let mut process = Process::start(&[a.address(), b.address()], "all", None).await;
    let long = "x".repeat(129);
    let cases: [&[(&str, &str)]; 5] = [
        &[("X-Request-Id", "has space")],
        &[("X-Request-Id", &long)],
        &[("x-request-id", "")],
        &[("X-Request-Id", "one"), ("X-Request-Id", "two")],
        &[],
    ];
    for (n, fields) in cases.iter().enumerate() {
        let fields: Vec<_> = fields.iter().copied().chain([REPORT]).collect();
        let answer = request(process.address, "GET", "/", &fields, b"").await.complete().expect_status(200);
        let report: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let entry: Value = serde_json::from_str(&process.line_with("{").await).expect("JSON");
        let id = entry["id"].as_str().expect("a text");
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{entry}");
        assert_eq!(report["id"], id);
        for origin in [&a, &b] {
            let seen = origin.wait_requests(n + 1).await.pop().expect("a request");
            assert_eq!(seen.headers.all("x-request-id"), [id], "{seen}");
        }
    }
    // A request id of a trusted client stays unchanged.
    let fields = [("x-rEQUEST-iD", "mine-1"), REPORT];
    let answer = request(process.address, "GET", "/", &fields, b"").await.complete();
    let report: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let entry: Value = serde_json::from_str(&process.line_with("{").await).expect("JSON");
    assert_eq!((&report["id"], &entry["id"]), (&"mine-1".into(), &"mine-1".into()));
    let seen = a.wait_requests(cases.len() + 1).await.pop().expect("a request");
    assert!(String::from_utf8_lossy(&seen.head).contains("\r\nx-rEQUEST-iD: mine-1\r\n"), "{seen}");
}

#[tokio::test]
async fn queued_lines_are_written_at_the_end() {
    let [a] = origins([Reply::ok("a")]);
    let process = Process::start(&[a.address()], "all", None).await;
    let mut client = RawClient::connect(process.address).await;
    for n in 0..500 {
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.read_response("GET").await.expect_status(200);
    }
    let lines = process.finish().await;
    let targets: Vec<String> = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|entry| Some(entry["target"].as_str()?.to_owned()))
        .collect();
    assert_eq!(targets, (0..500).map(|n| format!("/{n}")).collect::<Vec<_>>());
}
