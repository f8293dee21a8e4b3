//! Rule: a caller with control decides for one request which endpoints get it, how many must be ok and the time-out; without
//! control such a request is refused, never ignored.

use std::sync::Arc;

use serde_json::{Value, json};
use snapshot::{Conditions, Endpoint, PodRef};
use testkit::{
    client::Response,
    eventually,
    origin::{Gate, Origin, Reply},
};

use crate::{
    fixture::{Place, Proxy, REPORT, ROUTE, Setup, assert_head, assert_made_up, origin, origins, over},
    http2::{self, Client},
};

/// Three endpoints, `cache-0` and `cache-1` in zone a and `cache-2` in zone b, on a node each.
struct Three {
    origins: [Origin; 3],
}

impl Three {
    fn new() -> Self {
        Self { origins: origins([Reply::ok("0"), Reply::ok("1"), Reply::ok("2")]) }
    }

    fn setup(&self) -> Setup {
        Setup::new(self.origins.iter().enumerate().map(|(n, origin)| endpoint(n, origin)).collect())
    }

    /// Every caller may decide.
    fn controlled(&self) -> Proxy {
        controlled(self.setup()).start()
    }

    /// The number of requests at each endpoint.
    fn requests(&self) -> [usize; 3] {
        self.origins.each_ref().map(|origin| origin.requests().len())
    }
}

fn endpoint(n: usize, place: &dyn Place) -> Endpoint {
    Endpoint {
        pod: Some(PodRef { namespace: "shop".into(), name: format!("cache-{n}").into(), uid: "u".into() }),
        node: Some(format!("node-{n}").into()),
        zone: Some(Arc::from(if n < 2 { "a" } else { "b" })),
        ..Endpoint::ready(place.place())
    }
}

fn controlled(setup: Setup) -> Setup {
    setup.listener(|listener| listener.control_from = vec!["127.0.0.0/8".parse().expect("a network")])
}

async fn purge(proxy: &Proxy, fields: &[(&str, &str)]) -> Response {
    let fields: Vec<_> = std::iter::once(("Host", "shop")).chain(fields.iter().copied()).collect();
    proxy.request("PURGE", "/a", &fields, b"").await
}

fn detail(answer: &Response, status: u16) -> String {
    let kind = if status == 403 { "http_request_denied" } else { "http_request_error" };
    assert_made_up(answer, status, kind)["detail"].as_str().expect("a text").to_owned()
}

fn json(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("no JSON ({error}): {answer}"))
}

#[tokio::test]
async fn from_whoever_may_not_every_field_is_403_and_reaches_no_endpoint() {
    let three = Three::new();
    let rule = |text: &str| vec![text.parse().expect("a rule")];
    for proxy in [
        three.setup().start(),
        three.setup().listener(|l| l.control_from = vec!["10.0.0.0/8".parse().expect("a network")]).start(),
        three.setup().listener(|l| l.allow = rule("/* by cidr:127.0.0.0/8")).start(),
    ] {
        for field in [
            ("X-Broadcast-To", "pod=cache-0"),
            ("x-broadcast-require", "any"),
            ("X-BROADCAST-TIMEOUT", "1s"),
            ("X-Broadcast-Dry-Run", "true"),
            ("X-Broadcast-Dry-Run", "false"),
            ("X-Broadcast-To", "nonsense"),
            ("X-Broadcast-Unknown", "1"),
        ] {
            let detail = detail(&purge(&proxy, &[field]).await, 403);
            assert!(detail.contains(field.0) && detail.contains("--control-from"), "{field:?}: {detail}");
        }
        assert_eq!(proxy.metric("fanfare_refused_requests_total", &[("status", "403")]), 0.0);
        assert_eq!(proxy.metric("fanfare_requests_total", &[("route", ROUTE), ("result", "rejected")]), 7.0);
        assert_eq!(three.requests(), [0; 3]);
    }
    let granted = three.setup().listener(|l| l.allow = rule("PURGE /* by cidr:127.0.0.0/8 control")).start();
    purge(&granted, &[("X-Broadcast-To", "pod=cache-0")]).await.expect_status(200);
    assert_eq!(three.requests(), [1, 0, 0]);
}

#[tokio::test]
async fn what_this_proxy_writes_itself_may_come_from_anybody_and_goes_no_further() {
    let three = Three::new();
    let proxy = three.setup().start();
    purge(&proxy, &[("X-Broadcast-Result", "total=9"), ("X-Broadcast-Attempt", "2")]).await.expect_status(200);
    assert_eq!(three.requests(), [1; 3]);
    assert_head(&three.origins[0].requests()[0], "PURGE /a HTTP/1.1\r\nHost: shop\r\n", "shop");
}

#[tokio::test]
async fn only_the_chosen_endpoints_get_the_request_and_all_means_them() {
    let three = Three::new();
    let (proxy, mut expected) = (three.controlled(), [0; 3]);
    let second = three.origins[1].address().to_string();
    for (fields, chosen) in [
        (&["zone=a"][..], [1, 1, 0]),
        (&["zone=b"], [0, 0, 1]),
        (&["pod=cache-0,cache-2"], [1, 0, 1]),
        (&["node=node-1"], [0, 1, 0]),
        (&[&*format!("endpoint={second}")], [0, 1, 0]),
        (&["pod=cache-0", "zone=b"], [1, 0, 1]),
        (&["!zone=b"], [1, 1, 0]),
        (&["zone=a", "!pod=cache-0"], [0, 1, 0]),
    ] {
        let fields: Vec<_> = fields.iter().map(|value| ("X-Broadcast-To", *value)).collect();
        let answer = purge(&proxy, &fields).await.expect_status(200);
        let total: usize = chosen.iter().sum();
        let result = format!("total={total}, ok={total}, failed=0, pending=0, required={total}");
        assert_eq!(answer.header("x-broadcast-result"), Some(&*result), "{fields:?}");
        let first = chosen.iter().position(|chosen| *chosen == 1).expect("somebody is chosen");
        assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*format!("cache-{first}")), "{fields:?}");
        expected = std::array::from_fn(|n| expected[n] + chosen[n]);
        assert_eq!(three.requests(), expected, "{fields:?}");
    }
    assert_head(&three.origins[0].requests()[0], "PURGE /a HTTP/1.1\r\nHost: shop\r\n", "shop");
    // Later requests follow the route again.
    purge(&proxy, &[]).await.expect_status(200);
    assert_eq!(three.requests(), expected.map(|n| n + 1));
}

#[tokio::test]
async fn where_none_is_chosen_it_is_404_with_what_there_is() {
    let three = Three::new();
    let proxy = three.controlled();
    for value in ["zone=c", "pod=cache-9", "!zone=a,!zone=b", "endpoint=127.0.0.9:1"] {
        let detail = detail(&purge(&proxy, &[("X-Broadcast-To", value)]).await, 404);
        for (n, origin) in three.origins.iter().enumerate() {
            let zone = if n < 2 { "a" } else { "b" };
            let there = format!("endpoint={} pod=cache-{n} node=node-{n} zone={zone}", origin.address());
            assert!(detail.contains(&there), "{value}: {detail}");
        }
    }
    assert_eq!(three.requests(), [0; 3]);
}

#[tokio::test]
async fn a_request_has_a_quorum_of_its_own() {
    let three = Three::new();
    let proxy = controlled(three.setup()).require("2").start();
    three.origins[0].set(Reply::new(500).body("broken"));
    purge(&proxy, &[("X-Broadcast-Require", "all")]).await.expect_status(500);
    let answer = purge(&proxy, &[("X-Broadcast-Require", "all"), ("X-Broadcast-To", "!pod=cache-0")]).await;
    assert_eq!(answer.status, 200, "{answer}");
    let answer = purge(&proxy, &[("X-Broadcast-Require", "3"), REPORT]).await.expect_status(500);
    assert_eq!(answer.header("x-broadcast-result"), Some("total=3, ok=2, failed=1, pending=0, required=3"));
    let report = json(&answer);
    assert_eq!((&report["require"], &report["result"]), (&"3".into(), &"failed".into()), "{report}");
    let answer = purge(&proxy, &[("X-Broadcast-Require", "any"), ("X-Broadcast-To", "zone=a"), REPORT]).await;
    let report = json(&answer.expect_status(200));
    let pods: Vec<_> = report["results"].as_array().into_iter().flatten().map(|leg| &leg["pod"]).collect();
    assert_eq!(pods, ["cache-0", "cache-1"]);
    assert_eq!((&report["require"], &report["result"]), (&"any".into(), &"partial".into()), "{report}");
    assert_eq!(report["snapshot"]["ready"], 3, "the snapshot is what it is: {report}");
}

#[tokio::test]
async fn what_cannot_be_met_or_read_is_400_with_what_is_allowed() {
    let three = Three::new();
    let proxy = controlled(three.setup()).require("2").start();
    for (fields, part) in [
        (&[("X-Broadcast-Require", "4")][..], "1 to 3"),
        (&[("X-Broadcast-To", "zone=a"), ("X-Broadcast-Require", "3")], "1 to 2"),
        (&[("X-Broadcast-To", "zone=b")], "X-Broadcast-To chooses 1: send X-Broadcast-Require"),
        (&[("X-Broadcast-Require", "most")], "all, any, majority"),
        (&[("X-Broadcast-Timeout", "11s")], "at most 10s"),
        (&[("X-Broadcast-Timeout", "soon")], "500ms or 3s"),
        (&[("X-Broadcast-To", "rack=1")], "zone, pod, node and endpoint"),
        (&[("X-Broadcast-Dry-Run", "maybe")], "neither true nor false"),
        (&[("X-Broadcast-Only", "zone=a")], "X-Broadcast-Only is not known"),
    ] {
        let detail = detail(&purge(&proxy, fields).await, 400);
        assert!(detail.contains(part), "{fields:?}: {detail}");
    }
    assert_eq!(three.requests(), [0; 3]);
    assert_eq!(proxy.metric("fanfare_requests_total", &[("route", ROUTE), ("result", "client")]), 9.0);
}

#[tokio::test]
async fn a_request_may_have_less_time_than_the_route_gives() {
    let (gate, fast) = (Gate::new(), origins([Reply::ok("0")]));
    let slow = origin(1, Reply::ok("1").hold(&gate));
    let proxy = controlled(over(&[&fast[0], &slow])).start();
    let answer = purge(&proxy, &[("X-Broadcast-Timeout", "100ms")]).await;
    assert_eq!(answer.status, 504, "{answer}");
    let detail = json(&answer)["detail"].as_str().expect("a text").to_owned();
    assert!(detail.contains("no complete answer within 100ms"), "{detail}");
    gate.release();
    purge(&proxy, &[("X-Broadcast-Timeout", "10s")]).await.expect_status(200);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_sent_and_sends_nothing() {
    let three = Three::new();
    let sleeping = Endpoint { conditions: Conditions::NOT_READY, ..endpoint(2, &three.origins[2]) };
    let endpoints = vec![endpoint(0, &three.origins[0]), endpoint(1, &three.origins[1]), sleeping];
    let proxy =
        controlled(Setup::new(endpoints)).policy(|policy| policy.members = proxy::config::Members::Known).start();
    let mut client = proxy.client().await;
    client
        .send(
            "PURGE /x?y HTTP/1.1\r\nHost: a\r\nX-Broadcast-Dry-Run: true\r\nX-Broadcast-To: !pod=cache-0\r\n\
                 X-Broadcast-Require: any\r\nX-Request-Id: id-1\r\n\r\n",
        )
        .await;
    let answer = client.read_response("PURGE").await.expect_status(200);
    assert_eq!(answer.header("content-type"), Some("application/vnd.broadcast+json"));
    assert_eq!(answer.header("x-broadcast-result"), Some("total=2, ok=0, failed=0, pending=2, required=1"));
    let report = json(&answer);
    let expected = json!({"id": "id-1", "method": "PURGE", "uri": "/x?y", "require": "any", "result": "dry_run",
        "done": false, "rate": 0, "nodes": {}});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&report[name], value, "{name} of {report}");
    }
    let leg = |n: usize| {
        json!({"endpoint": three.origins[n].address().to_string(), "pod": format!("cache-{n}"),
        "node": format!("node-{n}"), "zone": if n < 2 { "a" } else { "b" }, "status": null, "outcome": null,
        "attempts": 0, "ms": 0.0, "bytes": 0})
    };
    let mut sleeping = leg(2);
    sleeping["error"] = "the endpoint is not ready".into();
    assert_eq!(report["results"], json!([leg(1), sleeping]));
    let fields = [("X-Broadcast-Dry-Run", "true"), ("X-Broadcast-Waves", "2")];
    let in_waves = json(&purge(&proxy, &fields).await.expect_status(200));
    let waves: Vec<_> = in_waves["results"].as_array().into_iter().flatten().map(|leg| &leg["wave"]).collect();
    assert_eq!(waves, [1, 1, 2]);
    // The connection goes on; a body that is not there yet ends it.
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Broadcast-Dry-Run: false\r\nX-Broadcast-To: pod=cache-0\r\n\r\n").await;
    client.read_response("GET").await.expect_status(200);
    assert_eq!(three.requests(), [1, 0, 0]);
    let waiting = "PUT / HTTP/1.1\r\nHost: a\r\nX-Broadcast-Dry-Run: true\r\nContent-Length: 5\r\n\r\n";
    let answer = proxy.answer_to(waiting, "PUT").await.expect_status(200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(three.requests(), [1, 0, 0]);
    let counted = || proxy.metric("fanfare_requests_total", &[("route", ROUTE), ("result", "dry_run")]);
    eventually!("dry runs to be counted", counted(), |counted| *counted == 3.0);
}

#[tokio::test]
async fn the_same_holds_over_http2() {
    let three = Three::new();
    let proxy = three.controlled();
    let client = Client::of(&proxy).await;
    let send = async |fields: &[(&str, &str)]| {
        let answer = client.send(http2::request("PURGE", "/a", fields), None).await.expect("an answer");
        let result = answer.head.headers().get("x-broadcast-result").and_then(|value| value.to_str().ok());
        (answer.head.status().as_u16(), result.map(str::to_owned))
    };
    let chosen = send(&[("x-broadcast-to", "zone=a"), ("x-broadcast-to", "!pod=cache-1")]).await;
    assert_eq!(chosen, (200, Some("total=1, ok=1, failed=0, pending=0, required=1".to_owned())));
    assert_eq!(send(&[("x-broadcast-to", "zone=c")]).await.0, 404);
    assert_eq!(send(&[("x-broadcast-require", "9")]).await.0, 400);
    assert_eq!(send(&[("x-broadcast-dry-run", "true")]).await.0, 200);
    assert_eq!(three.requests(), [1, 0, 0]);
    assert!(!three.origins[0].requests()[0].headers.contains("x-broadcast-to"));
    let open = three.setup().start();
    let answer = Client::of(&open).await.send(http2::request("GET", "/", &[("x-broadcast-to", "zone=a")]), None).await;
    assert_eq!(answer.expect("an answer").head.status(), 403);
    assert_eq!(three.requests(), [1, 0, 0]);
}
