//! The driver with its queues and its journal, and simulated endpoints.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

mod endpoints;
mod journal;

use endpoints::{Endpoints, missed_at};

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use redeliver::{
    JobId, Redelivery, Request, Whom,
    core::{Leg, Refused, RouteId, Verdict, Why},
    metrics,
    rules::{Limits, Order, Rules},
    view::Query,
};
use testkit::eventually;

fn limits() -> Limits {
    Limits { backoff: (Duration::from_millis(20), Duration::from_millis(100)), ..Limits::default() }
}

fn memory() -> (Redelivery, RouteId) {
    let redelivery = Redelivery::start(limits(), None, 1).unwrap();
    let route = redelivery.route("purges", Rules::default());
    (redelivery, route)
}

fn request(target: &str) -> Request {
    Request {
        method: "PUT".into(),
        host: "cache.test".into(),
        target: target.into(),
        head: "X-Request-Id: 7\r\n".into(),
        body: "value".into(),
        trailers: Default::default(),
    }
}

fn whom(name: &str) -> Whom {
    Whom { key: name.into(), endpoint: format!("{name}:80").into(), pod: None }
}

/// A request whose legs to these endpoints are held back behind owed deliveries, or else fail.
async fn miss(redelivery: &Redelivery, route: RouteId, target: &str, names: &[&str]) -> Result<JobId, Refused> {
    let mut arrival = redelivery.arrival(route, Instant::now());
    let legs = names.iter().map(|name| {
        let waits = arrival.waits_at(&(*name).into());
        (whom(name), if waits { Leg::Behind } else { missed_at(0) })
    });
    let legs = legs.collect();
    arrival.defer(request(target), legs).await
}

/// Whether a live request to an endpoint would wait.
fn waits(redelivery: &Redelivery, route: RouteId, name: &str) -> bool {
    redelivery.arrival(route, Instant::now()).waits_at(&name.into())
}

fn text(redelivery: &Redelivery) -> String {
    let mut text = String::new();
    metrics::render(std::slice::from_ref(redelivery), &mut text);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_requests_arrive_in_order_and_live_requests_wait_until_then() {
    let (redelivery, route) = memory();
    let endpoints = Endpoints::new(&["a", "b"]);
    endpoints.set_up("a", false);
    let running = endpoints.run(&redelivery);
    for target in ["/1", "/2", "/3"] {
        miss(&redelivery, route, target, &["a"]).await.unwrap();
        assert!(waits(&redelivery, route, "a"));
        assert!(!waits(&redelivery, route, "b"));
    }
    eventually!("a few tries", endpoints.tries("a"), |tries| *tries > 2);
    assert!(text(&redelivery).contains("fanfare_deliveries_owed{endpoint=\"a:80\"} 3\n"));
    endpoints.set_up("a", true);
    eventually!("all of it", endpoints.received("a"), |received| received.len() == 3);
    let received = endpoints.received("a");
    assert_eq!(received.iter().map(|copy| &*copy.request.target).collect::<Vec<_>>(), ["/1", "/2", "/3"]);
    assert!(received[0].number > 2 && received[1].number == 1, "rule 3: {received:?}");
    assert_eq!(received[0].request.body, "value");
    eventually!("live requests", waits(&redelivery, route, "a"), |waits| !*waits);
    assert!(endpoints.received("b").is_empty(), "nobody else gets it");
    let shown = text(&redelivery);
    assert!(shown.contains("fanfare_deliveries_total{route=\"purges\",result=\"delivered\"} 3\n"), "{shown}");
    assert!(shown.contains("fanfare_delivery_age_seconds_count 3\n") && !shown.contains("fanfare_deliveries_owed{"));
    assert!(!shown.contains("fanfare_journal"), "there is none");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_ready_again_is_tried_at_once() {
    let slow = Limits { backoff: (Duration::from_secs(3600), Duration::from_secs(3600)), ..limits() };
    let redelivery = Redelivery::start(slow, None, 1).unwrap();
    let route = redelivery.route("purges", Rules::default());
    let endpoints = Endpoints::new(&["a"]);
    let running = endpoints.run(&redelivery);
    miss(&redelivery, route, "/1", &["a"]).await.unwrap();
    endpoints.announce(&[]);
    endpoints.announce(&[("a", "10.0.0.9:80")]);
    eventually!("it arrives", endpoints.received("a"), |received| received.len() == 1);
    assert_eq!(&*endpoints.received("a")[0].address, "10.0.0.9:80", "where it is now");
    miss(&redelivery, route, "/2", &["a"]).await.unwrap();
    let id = redelivery.jobs(&Query::default()).jobs[0].id().parse().unwrap();
    let _ = redelivery.retry(id);
    eventually!("and after a retry", endpoints.received("a"), |received| received.len() == 2);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_so_many_copies_are_on_their_way_at_most_and_a_panic_of_the_sender_is_a_miss() {
    let redelivery = Redelivery::start(Limits { concurrency: 3, ..limits() }, None, 1).unwrap();
    let route = redelivery.route("purges", Rules { order: Order::None, ..Rules::default() });
    let names: Vec<String> = (0..10).map(|number| format!("e{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let endpoints = Endpoints::new(&names);
    for target in ["/1", "/2", "/panic", "/4"] {
        miss(&redelivery, route, target, &names).await.unwrap();
    }
    let gate = endpoints.hold();
    let running = endpoints.run(&redelivery);
    eventually!("as many as may be on their way", endpoints.most_at_once(), |most| *most == 3);
    gate.open();
    for name in &names {
        eventually!("all of it", endpoints.received(name), |received| received.len() == 4);
    }
    assert_eq!(endpoints.most_at_once(), 3);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_a_bound_that_is_reached_is_said_and_counted() {
    let redelivery = Redelivery::start(Limits { max_jobs: 1, ..limits() }, None, 1).unwrap();
    let route = redelivery.route("purges", Rules::default());
    miss(&redelivery, route, "/1", &["a"]).await.unwrap();
    assert_eq!(miss(&redelivery, route, "/2", &["a", "b"]).await, Err(Refused(Why::Jobs)));
    let shown = text(&redelivery);
    assert!(shown.contains("fanfare_deliveries_total{route=\"purges\",result=\"refused\"} 2\n"), "{shown}");
    assert!(shown.contains("fanfare_deliveries_refused_total{route=\"purges\",reason=\"max_jobs\"} 2\n"), "{shown}");
    assert!(shown.contains("fanfare_deliveries_refused_total{route=\"purges\",reason=\"answer\"} 0\n"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrival_that_is_dropped_holds_nobody_up() {
    let (redelivery, route) = memory();
    let endpoints = Endpoints::new(&["a"]);
    miss(&redelivery, route, "/1", &["a"]).await.unwrap();
    let mut arrival = redelivery.arrival(route, Instant::now());
    assert!(arrival.waits_at(&"a".into()));
    miss(&redelivery, route, "/3", &["a"]).await.unwrap();
    let running = endpoints.run(&redelivery);
    eventually!("what was before it", endpoints.received("a"), |received| received.len() == 1);
    drop(arrival);
    eventually!("what was behind it", endpoints.received("a"), |received| received.len() == 2);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_any_a_leg_that_was_pending_is_sent_again_only_if_it_missed() {
    let (redelivery, route) = memory();
    let endpoints = Endpoints::new(&["a", "b"]);
    let running = endpoints.run(&redelivery);
    let legs = vec![(whom("a"), Leg::Pending), (whom("b"), Leg::Pending)];
    let job = redelivery.arrival(route, Instant::now()).defer(request("/1"), legs).await.unwrap();
    let Leg::Missed { last, .. } = missed_at(0) else { panic!("it missed") };
    redelivery.ended(job, "a", 1, Verdict::Delivered(last.clone()));
    redelivery.ended(job, "b", 3, Verdict::Missed(last));
    eventually!("it arrives", endpoints.received("b"), |received| received.len() == 1);
    assert_eq!(endpoints.received("b")[0].number, 4, "rule 3: the tries of the live leg count");
    assert!(endpoints.received("a").is_empty());
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_drain_waits_for_copies_on_their_way_and_begins_none() {
    let (redelivery, route) = memory();
    let endpoints = Endpoints::new(&["a"]);
    let gate = endpoints.hold();
    let running = endpoints.run(&redelivery);
    for target in ["/1", "/2"] {
        miss(&redelivery, route, target, &["a"]).await.unwrap();
    }
    eventually!("the first is on its way", endpoints.tries("a"), |tries| *tries == 1);
    let draining = running.begin_drain();
    gate.open();
    draining.await.unwrap();
    assert_eq!(endpoints.received("a").len(), 1);
    assert_eq!(redelivery.owed(), 1);
}

#[tokio::test]
async fn rule_7_a_copy_that_is_due_in_the_moment_of_the_drain_does_not_begin() {
    let (redelivery, route) = memory();
    let endpoints = Endpoints::new(&["a"]);
    miss(&redelivery, route, "/1", &["a"]).await.unwrap();
    // In the first turn the endpoints are told, so that the second one has a copy to send, and then the drain begins.
    let mut turns = 0;
    let drain = poll_fn(|_| {
        turns += 1;
        if turns > 1 { Poll::Ready(()) } else { Poll::Pending }
    });
    redelivery.run(&endpoints, endpoints.members(), drain).await;
    assert_eq!((turns, endpoints.tries("a"), redelivery.owed()), (2, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_8_what_an_endpoint_refuses_and_what_cannot_be_kept_are_told_apart() {
    let (redelivery, route) = memory();
    let legs = vec![(whom("a"), Leg::Pending)];
    let job = redelivery.arrival(route, Instant::now()).defer(request("/1"), legs).await.unwrap();
    let Leg::Missed { last, .. } = missed_at(0) else { panic!("it missed") };
    redelivery.ended(job, "a", 1, Verdict::Refused(last));
    redelivery.arrival(route, Instant::now()).refuse(3, Why::Incomplete);
    let shown = text(&redelivery);
    assert!(shown.contains("fanfare_deliveries_total{route=\"purges\",result=\"refused\"} 4\n"), "{shown}");
    for (reason, count) in [("answer", 1), ("incomplete", 3), ("max_body", 0), ("journal", 0)] {
        let line = format!("fanfare_deliveries_refused_total{{route=\"purges\",reason=\"{reason}\"}} {count}\n");
        assert!(shown.contains(&line), "{line} in {shown}");
    }
}
