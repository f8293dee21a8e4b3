//! Rule: gRPC calls are redelivered if POST is named, by their gRPC status.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

use proxy::config::Redeliver;
use testkit::eventually;

use super::{jobs, redelivering};
use crate::{
    fixture::{Proxy, Setup},
    grpc::{call, message},
    http2::{Answer, Client},
    http2_endpoints::{Does, Endpoint, over_h2},
};

fn says(code: u8) -> Does {
    Does::Grpc(message("said"), code)
}

fn setup(a: &Endpoint, b: &Endpoint, change: impl FnOnce(&mut Redeliver)) -> Setup {
    over_h2(&[a, b]).policy(|policy| redelivering(policy, change))
}

fn with_post(it: &mut Redeliver) {
    (it.methods, it.on_deferred, it.respond_async) = (vec!["POST".into()], Some(202), true);
}

async fn asked(proxy: &Proxy) -> Answer {
    let client = Client::of(proxy).await;
    client.send(call(&[("prefer", "respond-async")]), Some(&message("ask"))).await.expect("an answer")
}

fn code(answer: &Answer) -> String {
    let trailers = answer.trailers.as_ref().unwrap_or(answer.head.headers());
    trailers["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_that_was_missed_is_made_again_until_its_status_is_ok() {
    let (a, b) = (Endpoint::start(0, [says(0)]).await, Endpoint::start(1, [says(14), says(13), says(0)]).await);
    let proxy = setup(&a, &b, with_post).start();
    let answer = asked(&proxy).await;
    assert_eq!((answer.head.status().as_u16(), code(&answer)), (200, "14".into()), "no status of HTTP takes its place");
    assert!(answer.head.headers().contains_key("x-broadcast-job"), "{answer:?}");
    eventually!("the job is done", jobs(&proxy)[0]["state"].clone(), |state| state == "done");
    assert_eq!(jobs(&proxy)[0]["deliveries"][0]["state"], "delivered");
    let seen = b.wait(3).await;
    assert_eq!((seen.len(), a.wait(1).await.len()), (3, 1));
    let again = seen[2].head.headers();
    assert!(
        seen[2].body == message("ask") && again["te"] == "trailers" && again["x-broadcast-attempt"] == "3",
        "{again:?}"
    );
}

#[tokio::test]
async fn under_any_the_answer_of_one_is_passed_on_and_the_others_are_owed() {
    let (a, b) = (Endpoint::start(0, [says(0)]).await, Endpoint::start(1, [says(14), says(0)]).await);
    let proxy = setup(&a, &b, |it| {
        with_post(it);
        it.grace = crate::fixture::NEVER;
    })
    .require("any")
    .start();
    let answer = asked(&proxy).await;
    assert_eq!((code(&answer), answer.body.clone()), ("0".into(), message("said")));
    assert!(answer.head.headers()["x-broadcast-result"].to_str().unwrap().ends_with("deferred=1"), "{answer:?}");
    eventually!("the job is done", jobs(&proxy)[0]["state"].clone(), |state| state == "done");
    assert_eq!(b.wait(2).await[1].body, message("ask"));
}

#[tokio::test]
async fn application_statuses_and_calls_without_post_are_not_redelivered() {
    for (code, change) in [(5, with_post as fn(&mut Redeliver)), (14, |_| {})] {
        let (a, b) = (Endpoint::start(0, [says(0)]).await, Endpoint::start(1, [says(code)]).await);
        let proxy = setup(&a, &b, change).start();
        let answer = asked(&proxy).await;
        assert!(!answer.head.headers().contains_key("x-broadcast-job"), "{answer:?}");
        assert_eq!(jobs(&proxy), serde_json::json!([]));
    }
}
