//! gRPC: a copy counts by the gRPC status in its trailers, and the caller gets a valid gRPC answer.

use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, Request};
use proxy::config::Success;
use testkit::{
    eventually,
    origin::{Gate, Reply},
};

use crate::{
    fixture::{NEVER, Place, REPORT, ROUTE, ms, origin, over, series},
    http2::{Answer, Client, request},
    http2_endpoints::{Does, Endpoint, over_h2},
    process::Process,
};

pub(crate) fn message(text: &str) -> Vec<u8> {
    [&[0], (text.len() as u32).to_be_bytes().as_slice(), text.as_bytes()].concat()
}

fn answers(text: &str, code: u8) -> Does {
    Does::Grpc(message(text), code)
}

pub(crate) fn call(fields: &[(&str, &str)]) -> Request<()> {
    let own = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    request("POST", "/shop.Cache/Purge", &[&own, fields].concat())
}

/// The gRPC status that the caller receives.
fn code(answer: &Answer) -> &str {
    let of = |fields: &HeaderMap| fields.get("grpc-status").map(|code| code.to_str().expect("a number").to_owned());
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    let code = answer.trailers.as_ref().and_then(of).or_else(|| of(answer.head.headers())).expect("a status");
    Box::leak(code.into_boxed_str())
}

#[tokio::test]
async fn a_copy_counts_when_its_trailers_say_that_all_is_well() {
    let (a, b) = (Endpoint::start(0, [answers("a", 0)]).await, Endpoint::start(1, [answers("b", 0)]).await);
    let proxy = over_h2(&[&a, &b]).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!((code(&answer), &answer.body), ("0", &message("a")));
    assert_eq!(answer.head.headers()["x-broadcast-result"], "total=2, ok=2, failed=0, pending=0, required=2");
    for endpoint in [&a, &b] {
        let seen = endpoint.wait(1).await.remove(0);
        assert_eq!((seen.body, &seen.head.headers()["te"]), (message("ask"), &"trailers".parse().unwrap()));
    }
}

#[tokio::test]
async fn one_that_failed_by_its_trailers_fails_the_call_and_its_answer_is_passed_on() {
    let (a, b) = (Endpoint::start(0, [answers("a", 0)]).await, Endpoint::start(1, [answers("b", 9)]).await);
    let proxy = over_h2(&[&a, &b]).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!((code(&answer), &answer.body), ("9", &message("b")));
    assert_eq!(answer.head.headers()["x-broadcast-result"], "total=2, ok=1, failed=1, pending=0, required=2");
}

#[tokio::test]
async fn statuses_of_the_application_come_before_transport_failures() {
    let (a, b) = (Endpoint::start(0, [answers("a", 14)]).await, Endpoint::start(1, [Does::Grpc(Vec::new(), 5)]).await);
    let proxy = over_h2(&[&a, &b]).start();
    let client = Client::of(&proxy).await;
    let answer = client.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "5");
    assert_eq!(answer.head.headers()["grpc-message"], "no");
    let lenient =
        over_h2(&[&a, &b]).require("any").policy(|p| p.success = Success::parse(["grpc:0,5"]).unwrap()).start();
    let answer = Client::of(&lenient).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "5");
}

#[tokio::test]
async fn a_quorum_is_met_without_the_one_that_is_broken() {
    let dead = crate::fixture::refusing(0);
    let (b, c) = (Endpoint::start(1, [answers("b", 0)]).await, Endpoint::start(2, [answers("c", 0)]).await);
    let proxy = over_h2(&[&dead, &b, &c]).require("majority").start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!((code(&answer), &answer.body), ("0", &message("b")));
}

#[tokio::test]
async fn an_error_made_up_here_is_one_of_grpc() {
    let dead = crate::fixture::refusing(0);
    let proxy = over_h2(&[&dead]).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!((code(&answer), answer.body.len()), ("14", 0));
    assert_eq!(answer.head.headers()["content-type"], "application/grpc");
    let nobody = over_h2(&[]).start();
    let answer = Client::of(&nobody).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "14");
}

#[tokio::test]
async fn the_end_of_a_stream_is_a_status_and_never_a_false_success() {
    for (reason, want) in [
        (Reason::INTERNAL_ERROR, "13"),
        (Reason::CANCEL, "1"),
        (Reason::ENHANCE_YOUR_CALM, "8"),
        (Reason::INADEQUATE_SECURITY, "7"),
        (Reason::REFUSED_STREAM, "14"),
    ] {
        let a = Endpoint::start(0, [Does::Reset(reason)]).await;
        let proxy = over_h2(&[&a]).start();
        let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
        assert_eq!(code(&answer), want, "{reason}");
    }
    // An HTTP error status with a successful gRPC status.
    let a = Endpoint::start(0, [Does::Refuse(503, "0")]).await;
    let proxy = over_h2(&[&a]).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "14");
}

#[tokio::test]
async fn the_report_tells_the_status_of_every_leg_and_of_the_answer() {
    let dead = crate::fixture::refusing(2);
    let (a, b) = (Endpoint::start(0, [answers("a", 0)]).await, Endpoint::start(1, [answers("b", 9)]).await);
    let proxy = over_h2(&[&a, &b, &dead]).start();
    let asks = call(&[("accept", REPORT.1)]);
    let answer = Client::of(&proxy).await.send(asks, Some(&message("ask"))).await.expect("an answer");
    let report: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let told = |leg: usize| (&report["results"][leg]["grpc_status"], &report["results"][leg]["outcome"]);
    assert_eq!(told(0), (&0.into(), &"ok".into()), "{report}");
    assert_eq!(told(1), (&9.into(), &"client_error".into()), "{report}");
    assert_eq!(told(2), (&14.into(), &"connect".into()), "{report}");
    assert_eq!((&report["grpc_status"], &report["result"]), (&9.into(), &"failed".into()), "{report}");
    // Its HTTP status is that of the decision, as for any request.
    assert_eq!(answer.head.status(), 502, "{report}");
    // Other requests get no gRPC status.
    let c = origin(0, Reply::ok("c"));
    let (_, plain) = over(&[&c]).start().report("GET", "/", b"").await;
    assert!(plain.get("grpc_status").is_none() && plain["results"][0].get("grpc_status").is_none(), "{plain}");
}

#[tokio::test]
async fn statuses_are_counted_by_route_by_who_has_said_them_and_by_their_names() {
    let script = [answers("a", 0), answers("a", 5), Does::Reset(Reason::CANCEL), answers("a", 0)];
    let a = Endpoint::start(0, script).await;
    let proxy = over_h2(&[&a]).start();
    let count = |source: &str, status: &str| {
        proxy.metric("fanfare_grpc_requests_total", &[("route", ROUTE), ("source", source), ("grpc_status", status)])
    };
    assert_eq!(series(&proxy.handle.metrics(), "fanfare_grpc_requests_total", &[]).len(), 34, "all are there at once");
    let client = Client::of(&proxy).await;
    for _ in 0..4 {
        client.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    }
    proxy.settled().await;
    assert_eq!((count("endpoint", "OK"), count("endpoint", "NOT_FOUND"), count("proxy", "CANCELLED")), (2.0, 1.0, 1.0));
    let legs = |status: &str| proxy.metric("fanfare_grpc_legs_total", &[("route", ROUTE), ("grpc_status", status)]);
    assert_eq!((legs("OK"), legs("NOT_FOUND"), legs("CANCELLED")), (2.0, 1.0, 1.0));
    // An unknown gRPC status of an endpoint does not create a series.
    assert_eq!(series(&proxy.handle.metrics(), "fanfare_grpc_legs_total", &[]).len(), 17);
    // Refused before any leg: the proxy's own answer has a gRPC status, too.
    proxy.publish(&[]);
    let refused = eventually!(
        "no endpoints",
        client.send(call(&[]), Some(&message("ask"))).await.expect("an answer"),
        |answer| code(answer) == "14"
    );
    assert_eq!(refused.body, b"");
    assert!(count("proxy", "UNAVAILABLE") >= 1.0);
    let b = origin(0, Reply::ok("b"));
    let http1 = over(&[&b]).start();
    http1.get("/").await.expect_status(200);
    assert!(!http1.handle.metrics().contains("fanfare_grpc"), "no series where nobody speaks gRPC");
}

#[tokio::test]
async fn the_access_log_names_the_status_of_the_answer_and_of_every_leg() {
    let a = Endpoint::start(0, [answers("a", 0), answers("a", 7)]).await;
    let mut process = Process::over_h2(&[a.place()], "all").await;
    let client = Client::at(process.address).await;
    for want in [0, 7] {
        client.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
        let entry: serde_json::Value =
            serde_json::from_str(&process.line_with("/shop.Cache/Purge").await).expect("JSON");
        assert_eq!((&entry["grpc_status"], &entry["status"]), (&want.into(), &200.into()), "{entry}");
        assert_eq!(entry["legs"][0]["grpc_status"], want, "{entry}");
    }
}

#[tokio::test]
async fn a_deadline_is_the_smaller_one_and_the_rest_of_it_goes_on() {
    let gate = Gate::new();
    let a = Endpoint::start(0, [Does::Hold(gate.clone())]).await;
    let proxy = over_h2(&[&a]).total(NEVER).start();
    let late = call(&[("grpc-timeout", "300m")]);
    let answer = Client::of(&proxy).await.send(late, Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "4");
    let seen = a.wait(1).await.remove(0);
    let told = seen.head.headers()["grpc-timeout"].to_str().unwrap().trim_end_matches('u').parse::<u64>().unwrap();
    assert!(Duration::from_micros(told) <= ms(300), "{told} us");
    gate.release();
}

#[tokio::test]
async fn an_answer_longer_than_what_is_held_fails() {
    let a = Endpoint::start(0, [answers(&"x".repeat(200_000), 0)]).await;
    let proxy = over_h2(&[&a]).policy(|policy| policy.grpc_max_message = 100_000).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "8");
    let held = over_h2(&[&a]).start();
    let answer = Client::of(&held).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!((code(&answer), answer.body.len()), ("0", 200_005));
}

#[tokio::test]
async fn any_streams_from_the_first_message_on() {
    let a = Endpoint::start(0, [answers(&"x".repeat(500_000), 0)]).await;
    let proxy = over_h2(&[&a]).require("any").policy(|policy| policy.grpc_max_message = 600_000).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!((code(&answer), answer.body.len()), ("0", 500_005));
}

#[tokio::test]
async fn endpoints_that_speak_http1_only_get_no_grpc() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(code(&answer), "12");
    a.assert_untouched();
}
