//! Rule: which endpoints are members, and the minimum below which nothing is sent.

use proxy::config::Members;
use snapshot::{Conditions, Endpoint};
use testkit::origin::{Origin, Reply};

use crate::fixture::{Place, Setup, assert_made_up, origins, over, result_of};

const TERMINATING: Conditions = Conditions { ready: false, serving: true, terminating: true };

fn endpoint(origin: &Origin, conditions: Conditions) -> Endpoint {
    Endpoint { conditions, ..Endpoint::ready(origin.place()) }
}

#[tokio::test]
async fn ready_members_are_what_kubernetes_calls_ready() {
    let [a, b, c] = origins([Reply::ok("a"), Reply::ok("b"), Reply::ok("c")]);
    let endpoints =
        vec![endpoint(&a, Conditions::READY), endpoint(&b, Conditions::NOT_READY), endpoint(&c, TERMINATING)];
    let proxy = Setup::new(endpoints).start();
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!(result_of(&answer), [1, 1, 0, 0, 1]);
    b.assert_untouched();
    c.assert_untouched();
}

#[tokio::test]
async fn known_members_that_are_not_ready_count_as_failed_and_get_nothing() {
    let [a, b, c] = origins([Reply::ok("a"), Reply::ok("b"), Reply::ok("c")]);
    let endpoints =
        || vec![endpoint(&a, Conditions::READY), endpoint(&b, Conditions::NOT_READY), endpoint(&c, TERMINATING)];
    let proxy = Setup::new(endpoints()).policy(|p| p.members = Members::Known).start();
    let answer = proxy.post(b"x").await;
    assert_eq!((answer.status, result_of(&answer)), (503, [2, 1, 1, 0, 2]), "{answer}");
    assert_eq!(proxy.legs(&b, "rejected"), 1);
    // The others still get it; `all` fails because of the missing one.
    assert_eq!(a.wait_requests(1).await.remove(0).complete().text(), "x");
    let proxy = Setup::new(endpoints()).policy(|p| p.members = Members::Known).require("any").start();
    assert_eq!(result_of(&proxy.get("/").await.expect_status(200)), [2, 1, 1, 0, 1]);
    b.assert_untouched();
    c.assert_untouched();
}

#[tokio::test]
async fn fewer_endpoints_than_the_floor_are_503_and_no_leg_starts() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).policy(|p| p.min_endpoints = 3).require("any").start();
    let answer = proxy.post(b"x").await;
    assert_made_up(&answer, 503, "destination_unavailable");
    a.assert_untouched();
    b.assert_untouched();
    let proxy = over(&[&a, &b]).policy(|p| p.min_endpoints = 2).start();
    proxy.post(b"x").await.expect_status(200);
}

#[tokio::test]
async fn a_quorum_above_the_number_of_endpoints_is_503_and_no_leg_starts() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).require("3").start();
    let answer = proxy.post(b"x").await;
    assert_made_up(&answer, 503, "destination_unavailable");
    assert_eq!(proxy.results("empty"), 1);
    a.assert_untouched();
    b.assert_untouched();
}
