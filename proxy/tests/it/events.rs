//! What those are told who watch: every request while there are few, a bounded number of many, and what was left out.

use std::time::Duration;

use proxy::events::{Event, MAX_WATCHERS, Watcher};
use serde_json::Value;
use snapshot::{Conditions, Endpoint};
use testkit::{
    client::{RawClient, request_bytes},
    eventually::within,
    origin::{Gate, Reply},
};

use crate::fixture::{Place, Proxy, ROUTE, origins, over};

async fn next(watcher: &mut Watcher) -> Event {
    within("an event", watcher.next()).await.expect("the drain has not begun")
}

/// The next event of this kind.
async fn of_kind(watcher: &mut Watcher, name: &str) -> Value {
    loop {
        let event = next(watcher).await;
        if event.name == name {
            return serde_json::from_str(&event.data).expect("JSON");
        }
    }
}

/// Sends so many requests on one connection, one after the other.
async fn send(proxy: &Proxy, count: usize) {
    let mut client = RawClient::connect(proxy.address).await;
    for _ in 0..count {
        client.send(request_bytes("x", "PURGE", "/a?b", &[("Authorization", "Bearer secret")], b"")).await;
        client.read_response("PURGE").await.expect_status(200);
    }
}

#[tokio::test]
async fn two_watchers_are_told_of_each_request_when_its_last_leg_has_ended() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::new(503).hold(&gate)]);
    let proxy = over(&[&a, &b]).require("any").start();
    let mut watchers = [proxy.handle.watch().expect("room"), proxy.handle.watch().expect("room")];
    let sent = [("X-Request-Id", "id-1"), ("Authorization", "Bearer secret")];
    proxy.request("PURGE", "/a?b", &sent, b"").await.expect_status(200);
    proxy.answer_to("nonsense\r\n\r\n", "GET").await.expect_status(400);
    let events = [of_kind(&mut watchers[0], "request").await, of_kind(&mut watchers[1], "request").await];
    assert_eq!((&events[0]["status"], &events[0]["route"]), (&400.into(), &"-".into()), "the other one still runs");
    assert_eq!(events[0], events[1]);
    gate.release();
    for watcher in &mut watchers {
        let event = of_kind(watcher, "request").await;
        assert_eq!(
            (&event["id"], &event["method"], &event["target"]),
            (&"id-1".into(), &"PURGE".into(), &"/a?b".into())
        );
        assert_eq!((&event["route"], &event["status"], &event["result"]), (&ROUTE.into(), &200.into(), &"ok".into()));
        assert_eq!(event["completed"], "partial", "{event}");
        // What is not ok comes first.
        let legs: Vec<_> = event["legs"].as_array().expect("legs").iter().collect();
        let told: Vec<_> = legs.iter().map(|leg| (&leg["endpoint"], &leg["outcome"], &leg["status"])).collect();
        let (a, b) = (a.place().to_string().into(), b.place().to_string().into());
        assert_eq!(told, [(&b, &"server_error".into(), &503.into()), (&a, &"ok".into(), &200.into())], "{event}");
        assert!(legs.iter().all(|leg| leg["ms"].is_number()) && !event.to_string().contains("secret"), "{event}");
    }
}

#[tokio::test]
async fn of_many_requests_a_bounded_number_a_second_is_told_and_how_many_were_not() {
    const SENT: usize = 10_000;
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let (mut quick, mut slow) = (proxy.handle.watch().expect("room"), proxy.handle.watch().expect("room"));
    // Nobody reads for the slow one while all of this happens, and nobody waits for that.
    let mut told = async || {
        let (mut shown, mut left_out) = (0, 0);
        while shown + left_out < SENT {
            let event = next(&mut quick).await;
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            match event.name {
                "request" => shown += 1,
                "sampled" => left_out += data["left_out"].as_u64().expect("a number") as usize,
                _ => {}
            }
        }
        (shown, left_out)
    };
    let began = tokio::time::Instant::now();
    let ((shown, left_out), ..) = tokio::join!(told(), async {
        futures::future::join_all((0..10).map(|_| send(&proxy, SENT / 10))).await;
    });
    // A second more at either end.
    let seconds = began.elapsed().as_secs() as usize + 2;
    assert_eq!(shown + left_out, SENT);
    assert!(shown >= 100 && shown <= 100 * seconds, "{shown} shown in {seconds} s");
    assert_eq!(proxy.results("ok"), SENT as u64);
    drop(quick);
    // The slow one still gets what its ring holds, and the number of those that it has missed.
    let (mut shown_late, mut missed) = (0, 0);
    while shown_late + missed < shown {
        let event = next(&mut slow).await;
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        match event.name {
            "request" => shown_late += 1,
            "dropped" => missed += data["missed"].as_u64().expect("a number") as usize,
            _ => {}
        }
    }
    assert_eq!(shown_late + missed, shown);
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_how_much_it_has_missed() {
    const MANY: usize = 1200;
    let dead = crate::fixture::refusing(0);
    let proxy = over(&[&dead]).start();
    let mut watcher = proxy.handle.watch().expect("room");
    // One change of the table at a time, each of which is told: requests are too few in a second.
    for n in 0..MANY {
        proxy.publish_endpoints(vec![Endpoint {
            conditions: if n % 2 == 0 { Conditions::NOT_READY } else { Conditions::READY },
            ..Endpoint::ready(dead.place())
        }]);
        let version = n as u64 + 2;
        let mut in_service = proxy.handle.in_service();
        let served = in_service.wait_for(|served| served.sequence >= version);
        within("the table", served).await.expect("a server");
    }
    let (mut shown, mut missed) = (0, 0);
    while shown + missed < MANY {
        let event = next(&mut watcher).await;
        match event.name {
            "dropped" => {
                let data: Value = serde_json::from_str(&event.data).expect("JSON");
                missed += data["missed"].as_u64().expect("a number") as usize;
            }
            "endpoint" => shown += 1,
            _ => {}
        }
    }
    assert!(missed > 0 && shown > 0 && shown + missed == MANY, "{shown} shown, {missed} missed");
}

#[tokio::test]
async fn endpoints_that_come_change_and_go_are_told() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a]).start();
    let mut watcher = proxy.handle.watch().expect("room");
    let told = async |watcher: &mut Watcher| {
        let event = of_kind(watcher, "endpoint").await;
        assert_eq!(event["route"], ROUTE);
        (event["endpoint"].as_str().expect("an address").to_owned(), event["state"].clone())
    };
    proxy.publish(&[&a, &b]);
    assert_eq!(told(&mut watcher).await, (b.place().to_string(), "ready".into()));
    let not_ready = Endpoint { conditions: Conditions::NOT_READY, ..Endpoint::ready(b.place()) };
    proxy.publish_endpoints(vec![Endpoint::ready(a.place()), not_ready]);
    assert_eq!(told(&mut watcher).await, (b.place().to_string(), "not_ready".into()));
    proxy.publish(&[&b]);
    let mut both = [told(&mut watcher).await, told(&mut watcher).await];
    both.sort_by_key(|(_, state)| state.to_string());
    assert_eq!(both, [(a.place().to_string(), "gone".into()), (b.place().to_string(), "ready".into())]);
}

#[tokio::test]
async fn so_many_may_watch_and_each_that_leaves_makes_room() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let mut watchers: Vec<Watcher> = (0..MAX_WATCHERS).map(|_| proxy.handle.watch().expect("room")).collect();
    assert!(
        proxy.handle.watch().expect_err("no more may").to_string().contains("16 clients follow the events already")
    );
    watchers.pop();
    watchers.push(proxy.handle.watch().expect("room again"));
}

#[tokio::test]
async fn watching_ends_with_the_drain_when_all_before_it_is_told() {
    let [a] = origins([Reply::ok("a")]);
    let mut proxy = over(&[&a]).start();
    let mut watcher = proxy.handle.watch().expect("room");
    send(&proxy, 3).await;
    proxy.settled().await;
    proxy.drain(Duration::from_secs(1)).await;
    let mut told = Vec::new();
    while let Some(event) = within("the end", watcher.next()).await {
        told.push(event.name);
    }
    assert_eq!(told, ["request"; 3]);
    let mut late = proxy.handle.watch().expect("room");
    assert!(within("the end", late.next()).await.is_none());
}
