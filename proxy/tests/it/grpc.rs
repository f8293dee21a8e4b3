//! gRPC: a copy counts by its status, which comes last, and the caller gets an answer that it understands.

use std::time::Duration;

use http::{HeaderMap, Request};
use proxy::config::Success;
use testkit::origin::{Gate, Reply};

use crate::{
    fixture::{NEVER, ms, origin, over},
    http2::{Answer, Client, request},
    http2_endpoints::{Does, Endpoint, over_h2},
};

fn message(text: &str) -> Vec<u8> {
    [&[0], (text.len() as u32).to_be_bytes().as_slice(), text.as_bytes()].concat()
}

fn answers(text: &str, code: u8) -> Does {
    Does::Grpc(message(text), code)
}

fn call(fields: &[(&str, &str)]) -> Request<()> {
    let own = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    request("POST", "/shop.Cache/Purge", &[&own, fields].concat())
}

/// The status that the caller is told.
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
async fn what_an_application_says_comes_before_what_is_broken_on_the_way() {
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
