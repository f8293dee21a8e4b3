//! Snapshots and configurations change while requests run: each sees one of them, and none is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::client::RawClient;
use testkit::eventually;
use testkit::origin::{Gate, Reply};

use crate::fixture::{NEVER, Proxy, ROUTE, origin, origins, over, result_of, route};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Waits until requests are served from the snapshot with that number.
async fn in_force(proxy: &Proxy, sequence: u64) {
    eventually!("the snapshot", proxy.metric("fanfare_snapshot_version", &[]), |v| *v == sequence as f64);
}

#[tokio::test]
async fn a_removed_endpoint_gets_no_new_leg_and_its_idle_connections_are_closed() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    assert_eq!(result_of(&proxy.get("/").await.expect_status(200))[0], 2);
    proxy.settled().await;
    assert_eq!(b.open(), 1);
    proxy.publish(&[&a]);
    in_force(&proxy, 2).await;
    b.wait_closed().await;
    for _ in 0..5 {
        assert_eq!(result_of(&proxy.get("/").await.expect_status(200))[0], 1);
    }
    assert_eq!(b.requests().len(), 1);
    assert_eq!(a.accepted(), 1, "who stays keeps its connections");
    assert_eq!(
        crate::fixture::series(
            &proxy.handle.metrics(),
            "fanfare_legs_total",
            &[("endpoint", &b.address().to_string())]
        ),
        [],
        "churn leaves no series behind"
    );
}

#[tokio::test]
async fn a_request_keeps_the_snapshot_it_began_with() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate)]);
    let proxy = over(&[&a, &b]).start();
    let mut client = proxy.sent(GET).await;
    gate.wait_reached(1).await;
    proxy.publish(&[&a]);
    in_force(&proxy, 2).await;
    assert!(client.is_quiet(), "all means the endpoints of the snapshot the request began with");
    gate.release();
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!(result_of(&answer), [2, 2, 0, 0, 2]);
    eventually!("its connection not to be kept", b.open(), |open| *open == 0);
}

#[tokio::test]
async fn a_new_endpoint_gets_the_next_request() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&b]).start();
    let mut client = proxy.sent(GET).await;
    assert_eq!(client.read_response("GET").await.expect_status(200).text(), "b");
    proxy.publish(&[&a, &b]);
    in_force(&proxy, 2).await;
    client.send(GET).await;
    let answer = client.read_response("GET").await.expect_status(200);
    assert_eq!((answer.text().as_str(), result_of(&answer)[0]), ("a", 2), "also on a connection from before");
}

#[tokio::test]
async fn the_last_endpoint_can_go_and_come_back() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    proxy.publish(&[]);
    in_force(&proxy, 2).await;
    assert_eq!(proxy.get("/").await.status, 503);
    assert_eq!(proxy.empty_routes(), [Arc::from(ROUTE)]);
    proxy.publish(&[&a]);
    in_force(&proxy, 3).await;
    proxy.get("/").await.expect_status(200);
    assert!(proxy.empty_routes().is_empty());
}

#[tokio::test]
async fn a_reload_changes_policies_and_routes_for_the_requests_to_come() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::new(500).hold(&gate)]);
    let mut proxy = over(&[&a, &b]).total(NEVER).start();
    let mut client = proxy.sent(GET).await;
    gate.wait_reached(1).await;
    // Its connection is idle from then on.
    proxy.wait_leg(&a, "ok").await;
    proxy.reload(|config| {
        Arc::make_mut(&mut config.listeners[0].routes[0]).policy.require = "any".parse().unwrap();
        let mut other = route("other", "nowhere");
        other.matches = "/other/*".parse().unwrap();
        config.listeners[0].routes.insert(0, other.into());
    });
    assert_eq!(proxy.get("/").await.expect_status(200).text(), "a", "any, while b still holds");
    assert_eq!(proxy.get("/other/x").await.status, 503, "a route that has no endpoint yet");
    assert!(client.is_quiet());
    gate.release();
    client.read_response("GET").await.expect_status(500);
    assert_eq!(a.accepted(), 1, "idle connections outlive a reload");
    assert_eq!(*proxy.handle.config(), proxy.given());
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    let given = proxy.given();
    let changes: [fn(&mut proxy::Config); 6] = [
        |c| c.listeners[0].routes.clear(),
        |c| Arc::make_mut(&mut c.listeners[0].routes[0]).policy.window = 1,
        |c| c.threads = 7,
        |c| c.listeners[0].address = "127.0.0.1:1".parse().unwrap(),
        |c| c.limits.connections = 1,
        |c| c.listeners.clear(),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut config = given.clone();
        change(&mut config);
        let refused = proxy.handle.reload(config).expect_err("nothing to be taken");
        assert!(!refused.to_string().is_empty(), "change {n}");
        assert_eq!(*proxy.handle.config(), given, "change {n}");
    }
    proxy.get("/").await.expect_status(200);
}

#[tokio::test]
async fn no_request_is_dropped_by_reloads_and_snapshots() {
    let [a, b, c] = origins([Reply::ok("same"), Reply::ok("same"), Reply::ok("same")]);
    let mut proxy = over(&[&a, &b]).config(|c| c.threads = 2).start();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (address, stop, served) = (proxy.address, stop.clone(), served.clone());
            tokio::spawn(async move {
                let mut client = RawClient::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody").await;
                    let answer = client.read_response("POST").await.expect_status(200);
                    let [total, ok, failed, ..] = result_of(&answer);
                    assert!((1..=3).contains(&total) && ok >= 1 && failed == 0, "{answer}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..60_usize {
        match round % 3 {
            0 => proxy.publish(&[&a]),
            1 => proxy.publish(&[&a, &b, &c]),
            _ => proxy.publish(&[&b, &c]),
        }
        proxy.reload(|config| {
            let require = ["all", "any", "majority"][round % 3];
            Arc::make_mut(&mut config.listeners[0].routes[0]).policy.require = require.parse().unwrap();
        });
        let target = served.load(Ordering::Relaxed) + 3;
        eventually!("requests to go on", served.load(Ordering::Relaxed), |n| *n >= target);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    proxy.settled().await;
    for origin in [&a, &b, &c] {
        assert!(origin.requests().iter().all(|r| r.is_complete() && r.text() == "body"));
    }
}
