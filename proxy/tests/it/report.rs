//! The summary of the legs in every answer, and the report on request.

use std::sync::Arc;

use snapshot::{Endpoint, PodRef};
use testkit::origin::{Gate, Reply};

use crate::fixture::{NEVER, Place, REPORT, Setup, bytes, ms, origin, origins, over, refusing, result_of};

#[tokio::test]
async fn every_answer_says_how_it_came_about() {
    let [a, b] = origins([Reply::ok("a"), Reply::new(500).body("b")]);
    let dead = refusing(2);
    for (require, status, result, endpoint) in [
        ("all", 500, "total=3, ok=1, failed=2, pending=0, required=3", Some(b.address().to_string())),
        ("majority", 500, "total=3, ok=1, failed=2, pending=0, required=2", Some(b.address().to_string())),
    ] {
        // The failures come last, so that the majority is not out of reach before the success is counted.
        let gate = Gate::new();
        b.set(Reply::new(500).body("b").hold(&gate));
        let proxy = over(&[&a, &b, &dead]).require(require).start();
        let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        testkit::eventually!("the success", proxy.legs(&a, "ok"), |n| *n == 1);
        gate.release();
        let answer = client.read_response("GET").await.expect_status(status);
        assert_eq!(answer.headers.all("X-Broadcast-Result"), [result], "{require}");
        assert_eq!(answer.header("X-Broadcast-Endpoint"), endpoint.as_deref(), "{require}");
    }
    // The names in their documented case, after the endpoint's own fields.
    let proxy = over(&[&a]).start();
    let head = String::from_utf8(proxy.get("/").await.head).unwrap();
    let want = format!(
        "\r\nX-Broadcast-Result: total=1, ok=1, failed=0, pending=0, required=1\r\nX-Broadcast-Endpoint: {}\r\n",
        a.address()
    );
    assert!(head.contains(&want), "{head}");
}

#[tokio::test]
async fn an_early_answer_says_what_is_pending() {
    let gate = Gate::new();
    let [a, b, c] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate), Reply::ok("c").hold(&gate)]);
    let proxy = over(&[&a, &b, &c]).require("any").start();
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!(answer.header("x-broadcast-result"), Some("total=3, ok=1, failed=0, pending=2, required=1"));
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*a.address().to_string()));
    gate.release();
}

#[tokio::test]
async fn a_made_up_answer_names_the_endpoint_that_it_stands_for() {
    let dead = refusing(0);
    let proxy = over(&[&dead]).start();
    let answer = proxy.get("/").await;
    assert_eq!(answer.header("x-broadcast-result"), Some("total=1, ok=0, failed=1, pending=0, required=1"));
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*dead.place().to_string()));
    let answer = over(&[]).start().get("/").await;
    assert_eq!(answer.header("x-broadcast-result"), Some("total=0, ok=0, failed=0, pending=0, required=0"));
    assert_eq!(answer.header("x-broadcast-endpoint"), None, "there is none");
}

#[tokio::test]
async fn endpoints_cannot_forge_what_is_said_about_them() {
    let forged = Reply::ok("a")
        .header("X-Broadcast-Result", "total=9")
        .header("x-broadcast-endpoint", "me")
        .header("X-Broadcast-More", "1");
    let [a] = origins([forged]);
    let proxy = over(&[&a]).start();
    let answer = proxy.request("GET", "/", &[("X-Broadcast-Result", "any")], b"").await.expect_status(200);
    assert_eq!(answer.headers.all("x-broadcast-result"), ["total=1, ok=1, failed=0, pending=0, required=1"]);
    assert_eq!(answer.headers.all("x-broadcast-endpoint"), [a.address().to_string()]);
    assert_eq!(answer.header("x-broadcast-more"), None);
    assert!(!a.wait_requests(1).await[0].headers.contains("x-broadcast-result"), "nor can clients tell endpoints");
}

#[tokio::test]
async fn endpoints_with_one_name_are_told_apart_by_their_addresses() {
    let named =
        |origin: &dyn Place, name: &str| Endpoint { hostname: Some(name.into()), ..Endpoint::ready(origin.place()) };
    let [a, b, c] = origins([Reply::ok("a"), Reply::new(500), Reply::new(404)]);
    let proxy = Setup::new(vec![named(&a, "cache"), named(&b, "cache"), named(&c, "other")]).start();
    let answer = proxy.request("GET", "/", &[REPORT], b"").await;
    let report: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let nodes = serde_json::json!({a.place().to_string(): 200, b.place().to_string(): 500, "other": 404});
    assert_eq!((&report["nodes"], report["results"].as_array().map(Vec::len)), (&nodes, Some(3)), "{report}");
}

#[tokio::test]
async fn a_client_that_asks_gets_the_complete_report() {
    let pod = |origin: &dyn Place, name: &str| Endpoint {
        pod: Some(PodRef { namespace: "shop".into(), name: name.into(), uid: "u".into() }),
        node: Some("node-1".into()),
        zone: Some(Arc::from("zone-a")),
        ..Endpoint::ready(origin.place())
    };
    let [a, b] = origins([Reply::ok(bytes(1000)), Reply::new(404).body("nothing")]);
    let dead = refusing(2);
    let proxy = Setup::new(vec![pod(&a, "cache-0"), pod(&b, "cache-1"), pod(&dead, "cache-2")]).require("1").start();
    let answer = proxy.request("PURGE", "/x?y", &[("X-Request-Id", "id-1"), REPORT], b"").await.expect_status(200);
    assert_eq!(answer.header("content-type"), Some("application/vnd.broadcast+json"));
    assert_eq!(answer.header("x-broadcast-result"), Some("total=3, ok=1, failed=2, pending=0, required=1"));
    let report: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();

    // What the Varnish broadcaster answers.
    assert_eq!((&report["method"], &report["uri"]), (&"PURGE".into(), &"/x?y".into()), "{report}");
    assert!(report["ts"].as_u64().is_some_and(|ts| ts > 1_700_000_000), "{report}");
    assert_eq!(report["nodes"], serde_json::json!({"cache-0": 200, "cache-1": 404, "cache-2": 502}));
    assert_eq!((&report["rate"], &report["done"]), (&33.into(), &true.into()), "{report}");

    // And more.
    assert_eq!(
        (&report["id"], &report["require"], &report["result"]),
        (&"id-1".into(), &"1".into(), &"partial".into())
    );
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    let of = |n: usize, name: &str| results[n][name].clone();
    for (n, (place, outcome, status, bytes)) in [
        (a.place(), "ok", 200.into(), 1000),
        (b.place(), "client_error", 404.into(), 7),
        (dead.place(), "connect", serde_json::Value::Null, 0),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            (of(n, "endpoint"), of(n, "outcome"), of(n, "status")),
            (place.to_string().into(), outcome.into(), status)
        );
        assert_eq!(
            (of(n, "pod"), of(n, "node"), of(n, "zone")),
            (format!("cache-{n}").into(), "node-1".into(), "zone-a".into())
        );
        assert_eq!((of(n, "attempts"), of(n, "bytes")), (1.into(), bytes.into()), "{report}");
        assert!(of(n, "ms").as_f64().is_some_and(|ms| (0.0..60_000.0).contains(&ms)), "{report}");
    }
    assert!(of(0, "error").is_null() && of(2, "error").as_str().is_some_and(|e| e.contains("connect")), "{report}");
    assert_eq!((&report["snapshot"]["ready"], &report["snapshot"]["not_ready"]), (&3.into(), &0.into()));
    assert!(report["snapshot"]["version"].as_str().is_some_and(|v| !v.is_empty()), "{report}");

    let seen = a.wait_requests(1).await.remove(0);
    assert!(!seen.headers.contains("accept"), "asking for it is between the client and the proxy: {seen}");
}

#[tokio::test]
async fn the_report_comes_with_the_decisions_status_when_every_leg_has_ended() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::new(503), Reply::ok("b").hold(&gate)]);
    for (require, status, result) in [("any", 200, "partial"), ("all", 503, "failed"), ("2", 503, "failed")] {
        let gate = Gate::new();
        b.set(Reply::ok("b").hold(&gate));
        let proxy = over(&[&a, &b]).require(require).total(NEVER).start();
        let mut client = proxy
            .sent("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html, application/vnd.broadcast+json;q=0.9\r\n\r\n")
            .await;
        proxy.wait_leg(&a, "server_error").await;
        gate.wait_reached(1).await;
        assert!(client.is_quiet(), "{require}: one leg has not ended");
        gate.release();
        let answer = client.read_response("GET").await.expect_status(status);
        let report: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&report["result"], &report["rate"]), (&result.into(), &50.into()), "{require}: {report}");
        assert_eq!(b.requests().last().unwrap().headers.all("accept"), ["text/html"]);
    }
    gate.release();
}

#[tokio::test]
async fn the_report_names_every_kind_of_outcome() {
    let [ok, client, server, reset, protocol, never] = origins([
        Reply::ok("a"),
        Reply::new(404),
        Reply::new(500),
        Reply::ok("").reset_at(testkit::origin::At::Start),
        Reply::raw("nonsense\r\n\r\n"),
        Reply::never(),
    ]);
    let dead = refusing(6);
    let places: [&dyn Place; 7] = [&ok, &client, &server, &reset, &protocol, &never, &dead];
    let proxy = over(&places).total(ms(1000)).start();
    let (status, report) = proxy.report("GET", "/", b"").await;
    assert_eq!(status, 500, "{report}");
    let outcomes: Vec<&str> =
        report["results"].as_array().unwrap().iter().map(|leg| leg["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ok", "client_error", "server_error", "reset", "protocol", "timeout", "connect"]);
    let codes: Vec<u64> = places.iter().map(|p| report["nodes"][p.place().to_string()].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 404, 500, 502, 502, 504, 502]);
}

#[tokio::test]
async fn the_report_on_a_body_that_streams_through() {
    let [a, b] = origins([Reply::ok(bytes(300_000)), Reply::ok(bytes(200_000))]);
    let proxy = over(&[&a, &b]).start();
    let (status, report) = proxy.report("POST", "/", &bytes(1 << 20)).await;
    assert_eq!(
        (status, &report["results"][0]["bytes"], &report["results"][1]["bytes"]),
        (200, &300_000.into(), &200_000.into())
    );
    for origin in [&a, &b] {
        assert_eq!(origin.wait_requests(1).await.remove(0).complete().body, bytes(1 << 20));
    }
}

#[tokio::test]
async fn the_report_can_be_turned_off() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).policy(|p| p.report = false).start();
    let answer = proxy.request("GET", "/", &[REPORT], b"").await.expect_status(200);
    assert_eq!(answer.text(), "a");
    assert!(answer.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("x-broadcast")), "{answer}");
    // Then it is a media type like any other.
    assert_eq!(a.wait_requests(1).await[0].headers.all("accept"), [REPORT.1]);
    let answer = over(&[&refusing(3)]).policy(|p| p.report = false).start().get("/").await;
    assert!(answer.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("x-broadcast")), "{answer}");
}

#[tokio::test]
async fn every_answer_says_what_the_legs_did_whoever_made_it() {
    let [a] = origins([Reply::ok("a")]);
    let dead = refusing(3);
    let setup = || {
        over(&[&a, &dead]).policy(|p| p.max_body = Some(10)).listener(|l| {
            l.allow = vec!["GET,POST /*".parse().unwrap()];
            Arc::make_mut(&mut l.routes[0]).matches = "/known/*".parse().unwrap();
            l.timeouts.body = ms(200);
            (l.head.bytes, l.head.target) = (2000, 1000);
        })
    };
    let via = "Via: 1.1 me\r\n";
    let cases = [
        ("GET /known/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 502, [2, 1, 1, 0, 2]),
        ("BAN /known/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 403, [0; 5]),
        ("GET /other HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 404, [0; 5]),
        ("POST /known/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nbod".to_owned(), 408, [2, 0, 0, 2, 2]),
        ("POST /known/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n".to_owned(), 413, [2, 0, 0, 2, 2]),
        ("GET /known/ HTTP/1.1\r\n\r\n".to_owned(), 400, [0; 5]),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1500)), 414, [0; 5]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2500)), 431, [0; 5]),
        (format!("TRACE /known/ HTTP/1.1\r\nHost: x\r\n{via}\r\n"), 405, [0; 5]),
    ];
    for report in [true, false] {
        let proxy = setup().policy(|p| p.report = report).start();
        for (request, status, counts) in &cases {
            let answer = proxy.answer_to(request, "GET").await;
            assert_eq!(answer.status, *status, "{answer}");
            if !report {
                let silent = answer.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("x-broadcast"));
                assert!(silent, "{answer}");
                continue;
            }
            assert_eq!(result_of(&answer), *counts, "{answer}");
            let stands_for = (*status == 502).then(|| dead.place().to_string());
            assert_eq!(answer.header("x-broadcast-endpoint"), stands_for.as_deref(), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_report_says_which_endpoint_its_status_is_of() {
    let [a, b] = origins([Reply::ok("a"), Reply::new(500)]);
    let proxy = over(&[&a, &b]).start();
    let answer = proxy.request("GET", "/", &[REPORT], b"").await.expect_status(500);
    assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*b.place().to_string()));
    // A truncated answer does not count, whatever its head says.
    b.set(Reply::ok(bytes(1000)).reset_at(testkit::origin::At::Body(500)));
    let (status, report) = proxy.report("GET", "/", b"").await;
    assert_eq!((status, &report["nodes"][b.place().to_string()]), (502, &502.into()), "{report}");
}
