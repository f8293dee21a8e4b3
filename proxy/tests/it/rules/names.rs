//! Rule: an endpoint that was configured by name is one endpoint, whatever the name resolves to.

use std::{net::SocketAddr, sync::Arc};

use snapshot::{Change, Cluster, ClusterName, Endpoint, Place, Recheck};
use testkit::origin::{Origin, Reply};
use tokio::sync::Notify;

use crate::fixture::{Setup, assert_made_up, origins, result_of};

fn named(name: &str, addresses: &[SocketAddr], recheck: &Recheck) -> Endpoint<Place> {
    Endpoint::at(Place::resolved(name.into(), 80, addresses.to_vec(), recheck.clone()))
}

fn unresolved(name: &str, recheck: &Recheck) -> Endpoint<Place> {
    Endpoint::at(Place::unresolved(name.into(), 80, "no such name (NXDOMAIN)".into(), recheck.clone()))
}

fn recheck() -> (Recheck, Arc<Notify>) {
    let wake = Arc::new(Notify::new());
    (Recheck::waking(wake.clone()), wake)
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_leg_that_failed() {
    let [a] = origins([Reply::ok("a")]);
    let endpoints = || vec![Endpoint::ready(a.address()).into(), unresolved("gone.example", &Recheck::default())];
    let proxy = Setup::new(endpoints()).start();
    let answer = proxy.post(b"x").await;
    assert_eq!((answer.status, result_of(&answer)), (502, [2, 1, 1, 0, 2]), "{answer}");
    assert_made_up(&answer, 502, "dns_error");
    assert_eq!(a.wait_requests(1).await.remove(0).complete().text(), "x", "the others get it all the same");

    let (status, report) = proxy.report("POST", "/", b"x").await;
    let row = &report["results"][1];
    assert_eq!((status, &row["endpoint"], &row["outcome"]), (502, &"gone.example:80".into(), &"connect".into()));
    assert_eq!((&row["attempts"], &row["status"]), (&0.into(), &serde_json::Value::Null));
    assert_eq!(row["error"], "the name does not resolve: no such name (NXDOMAIN)", "{report}");
    assert_eq!((&report["snapshot"]["ready"], &report["snapshot"]["not_ready"]), (&1.into(), &1.into()));
    assert_eq!(proxy.metric("fanfare_legs_total", &[("endpoint", "gone.example:80"), ("outcome", "connect")]), 2.0);
    let shown = proxy.handle.endpoints();
    let shown = &shown["routes"][0]["endpoints"][1];
    assert_eq!(
        (&shown["endpoint"], &shown["ready"], &shown["member"]),
        (&"gone.example:80".into(), &false.into(), &true.into())
    );
    assert_eq!(shown["problem"], "the name does not resolve: no such name (NXDOMAIN)");

    let proxy = Setup::new(endpoints()).require("any").start();
    assert_eq!(result_of(&proxy.get("/").await.expect_status(200)), [2, 1, 1, 0, 1]);
}

#[tokio::test]
async fn a_name_with_several_addresses_gets_each_request_once() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let endpoint = named("dual.example.", &[a.address(), b.address()], &Recheck::default());
    let proxy = Setup::new(vec![endpoint]).start();
    for _ in 0..3 {
        assert_eq!(result_of(&proxy.post(b"x").await.expect_status(200)), [1, 1, 0, 0, 1]);
    }
    let (_, report) = proxy.report("GET", "/", b"").await;
    assert_eq!(report["results"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(report["results"][0]["endpoint"], "dual.example:80");
    assert_eq!(a.wait_requests(4).await.len(), 4);
    b.assert_untouched();

    proxy.answer_to("GET /p HTTP/1.0\r\n\r\n", "GET").await.expect_status(200);
    assert_eq!(a.wait_requests(5).await.remove(4).complete().headers.all("host"), ["dual.example:80"]);
}

#[tokio::test]
async fn another_address_of_the_name_is_taken_where_the_first_fails() {
    let six = Origin::builder().address("[::1]:0").start(Reply::ok("six"));
    let refuses = SocketAddr::from(([127, 0, 0, 1], six.address().port()));
    let proxy = Setup::new(vec![named("dual.example", &[refuses, six.address()], &Recheck::default())]).start();
    let answer = proxy.post(b"x").await.expect_status(200);
    assert_eq!((answer.text(), result_of(&answer)), ("six".to_owned(), [1, 1, 0, 0, 1]));
    assert_eq!(six.wait_requests(1).await.remove(0).complete().text(), "x");

    let proxy = Setup::new(vec![named("dual.example", &[refuses, ([127, 0, 0, 9], 1).into()], &Recheck::default())]);
    let (status, report) = proxy.start().report("GET", "/", b"").await;
    let row = &report["results"][0];
    assert_eq!((status, &row["outcome"]), (502, &"connect".into()));
    let error = row["error"].as_str().unwrap_or_default();
    assert!(error.contains(&refuses.to_string()) && error.contains("127.0.0.9:1"), "{error}");
}

#[tokio::test]
async fn a_connect_that_fails_and_a_name_that_does_not_resolve_ask_the_source_again() {
    let [a] = origins([Reply::ok("a")]);
    let refuses = SocketAddr::from(([127, 0, 0, 9], 1));
    let ((good, _), (gone, gone_wake), (stale, stale_wake)) = (recheck(), recheck(), recheck());
    let each = Endpoint::at(Place::found(refuses, stale.clone()));
    let proxy = Setup::new(vec![named("a", &[a.address()], &good), unresolved("gone", &gone), each]).start();
    proxy.get("/").await.expect_status(502);
    tokio::join!(gone_wake.notified(), stale_wake.notified());
    assert!(gone.is_asked() && stale.is_asked() && !good.is_asked());
}

#[tokio::test]
async fn an_empty_cluster_says_why() {
    let proxy = Setup::new(Vec::<Endpoint>::new()).start();
    let name = ClusterName::new(crate::fixture::CLUSTER).unwrap();
    proxy.publisher.apply([Change::Set(Arc::new(Cluster::empty(name, "cache.example has no address")))]);
    testkit::eventually!("the reason", proxy.get("/").await, |answer| {
        answer.status == 503 && answer.text().contains("cache.example has no address")
    });
    let state = &proxy.handle.routes()[0];
    assert_eq!((state.has_endpoint, &*state.why_none), (false, "cache.example has no address"));
}
