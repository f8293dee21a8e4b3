//! The metrics, with their names and labels.

use proxy::config::{EndpointMetrics, Members};
use snapshot::{Conditions, Endpoint};
use testkit::origin::{Gate, Reply};

use crate::fixture::{NEVER, Place, ROUTE, Setup, ms, origin, origins, over, refusing, route, series};

#[tokio::test]
async fn the_names_that_are_kept() {
    let [a, b] = origins([Reply::ok("a").delay(ms(30)), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    for n in 0..3 {
        proxy.post(format!("{n}").as_bytes()).await.expect_status(200);
    }
    b.set(Reply::new(503));
    proxy.get("/").await.expect_status(503);
    proxy.settled().await;
    let text = proxy.handle.metrics();
    let counts = series(&text, "service_endpoint_count", &[]);
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!(counts[0].1, 2.0);
    assert!(counts[0].0.starts_with("service=\""), "{counts:?}");

    let of = |name: &str, status: &str| series(&text, name, &[("endpoint", ROUTE), ("status_code", status)]);
    let counts = of("request_duration_seconds_count", "200");
    assert!(counts.len() == 1 && counts[0].1 == 3.0 && counts[0].0.contains("type=\""), "{counts:?}");
    assert_eq!(of("request_duration_seconds_count", "503")[0].1, 1.0);
    let sum = of("request_duration_seconds_sum", "200")[0].1;
    assert!((0.09..60.0).contains(&sum), "three times 30 ms and more, in seconds: {sum}");
    let buckets = of("request_duration_seconds_bucket", "200");
    assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "cumulative: {buckets:?}");
    assert!(
        buckets.iter().any(|(labels, n)| labels.contains("le=\"0.025\"") && *n == 0.0),
        "none below the delay: {buckets:?}"
    );
    assert!(buckets.last().is_some_and(|(labels, n)| labels.contains("le=\"+Inf\"") && *n == 3.0), "{buckets:?}");
}

#[tokio::test]
async fn requests_by_route_and_result() {
    let a = origin(0, Reply::ok("a"));
    let b = origin(1, Reply::ok("b"));
    let proxy = over(&[&a, &b]).require("any").start();
    let result = |name: &str| proxy.metric("fanfare_requests_total", &[("route", ROUTE), ("result", name)]);
    proxy.report("GET", "/", b"").await;
    b.set(Reply::new(500));
    proxy.report("GET", "/", b"").await;
    a.set(Reply::new(500));
    proxy.report("GET", "/", b"").await;
    proxy.request("POST", "/", &[("Transfer-Encoding", "chunked")], b"xyz\r\n").await;
    proxy.publish(&[]);
    testkit::eventually!("no endpoints", proxy.get("/").await.status, |s| *s == 503);
    proxy.settled().await;
    assert_eq!((result("ok"), result("partial"), result("client")), (1.0, 1.0, 1.0), "{}", proxy.handle.metrics());
    assert!(result("failed") >= 1.0 && result("empty") >= 1.0);
}

#[tokio::test]
async fn what_is_refused_before_it_has_a_route_is_counted_by_status() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    for (head, status) in
        [("x\r\n\r\n", "400"), ("GET / HTTP/3.0\r\n\r\n", "505"), ("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", "405")]
    {
        proxy.answer_to(head, "GET").await;
        assert_eq!(proxy.metric("fanfare_refused_requests_total", &[("status", status)]), 1.0);
    }
    assert_eq!(proxy.metric("fanfare_requests_total", &[]), 0.0);
}

#[tokio::test]
async fn legs_by_endpoint_and_outcome_with_durations_in_seconds() {
    let [a, b] = origins([Reply::ok("a").delay(ms(30)), Reply::new(404)]);
    let dead = refusing(2);
    let proxy = over(&[&a, &b, &dead]).start();
    for _ in 0..4 {
        proxy.get("/").await;
    }
    proxy.settled().await;
    let places: [(&dyn Place, &str); 3] = [(&a, "ok"), (&b, "client_error"), (&dead, "connect")];
    for (place, outcome) in places {
        assert_eq!(proxy.legs(place, outcome), 4, "{outcome}");
    }
    assert_eq!(proxy.metric("fanfare_legs_total", &[]), 12.0);
    assert_eq!(proxy.metric("fanfare_leg_duration_seconds_count", &[("route", ROUTE)]), 12.0);
    let sum = proxy.metric("fanfare_leg_duration_seconds_sum", &[]);
    assert!((0.12..60.0).contains(&sum), "four times 30 ms and more, in seconds: {sum}");
}

#[tokio::test]
async fn endpoints_by_condition_and_requests_in_flight() {
    let gate = Gate::new();
    let [a, b, c] = origins([Reply::ok("a").hold(&gate), Reply::ok("b"), Reply::ok("c")]);
    let with = |place: &dyn Place, conditions| Endpoint { conditions, ..Endpoint::ready(place.place()) };
    let terminating = Conditions { ready: false, serving: true, terminating: true };
    let endpoints = vec![with(&a, Conditions::READY), with(&b, Conditions::NOT_READY), with(&c, terminating)];
    let proxy = Setup::new(endpoints).total(NEVER).policy(|p| p.members = Members::Ready).start();
    let of = |condition: &str| proxy.metric("fanfare_endpoints", &[("route", ROUTE), ("condition", condition)]);
    assert_eq!((of("ready"), of("not_ready"), of("terminating")), (1.0, 1.0, 1.0), "{}", proxy.handle.metrics());
    let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    gate.wait_reached(1).await;
    assert_eq!(proxy.metric("fanfare_requests_in_flight", &[]), 1.0);
    assert_eq!(proxy.metric("fanfare_legs_in_flight", &[("endpoint", &a.address().to_string())]), 1.0);
    assert_eq!(proxy.metric("fanfare_client_connections", &[]), 1.0);
    gate.release();
    client.read_response("GET").await.expect_status(200);
    proxy.settled().await;
    assert_eq!(proxy.metric("fanfare_snapshot_version", &[]), 1.0);
    assert!((0.0..600.0).contains(&proxy.metric("fanfare_snapshot_age_seconds", &[])));
}

#[tokio::test]
async fn the_text_is_what_prometheus_reads() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    proxy.get("/a\"b").await;
    proxy.get("/%22").await.expect_status(200);
    let text = proxy.handle.metrics();
    let mut family = "";
    let mut seen = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(seen.insert(name), "{name} comes twice");
            family = name;
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            assert!(name == family || bare == family, "{line} stands under {family}");
            line.rsplit(' ').next().unwrap_or_default().parse::<f64>().unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
    assert!(text.ends_with('\n') && seen.len() > 10);
}

#[tokio::test]
async fn known_endpoints_can_be_listed() {
    let [a, b] = origins([Reply::ok("a"), Reply::new(503)]);
    let proxy = over(&[&a, &b]).start();
    proxy.get("/").await.expect_status(503);
    proxy.settled().await;
    let shown = proxy.handle.endpoints();
    let endpoints = &shown["routes"][0]["endpoints"];
    assert_eq!(shown["routes"][0]["route"], ROUTE, "{shown}");
    assert_eq!(endpoints[0]["endpoint"], a.address().to_string(), "{shown}");
    assert_eq!((&endpoints[0]["in_flight"], &endpoints[0]["idle_connections"]), (&0.into(), &1.into()), "{shown}");
    for (n, outcome, status) in [(0, "ok", 200), (1, "server_error", 503)] {
        let recent = &endpoints[n]["recent"][0];
        assert_eq!((&recent["outcome"], &recent["status"]), (&outcome.into(), &status.into()), "{shown}");
    }
}

#[tokio::test]
async fn the_final_result_is_counted_when_the_last_leg_has_ended() {
    let gates = [Gate::new(), Gate::new()];
    let held = |n: usize, status| Reply::new(status).hold(&gates[n]);
    let [a, b, c] = origins([Reply::ok("a"), Reply::ok("b"), held(0, 500)]);
    let proxy = over(&[&a, &b, &c]).require("majority").total(NEVER).start();
    proxy.get("/").await.expect_status(200);
    testkit::eventually!("the answer to be counted", proxy.results("ok"), |n| *n == 1);
    assert_eq!((proxy.completed("ok"), proxy.completed("partial")), (0, 0), "one leg still runs");
    gates[0].release();
    proxy.settled().await;
    assert_eq!((proxy.results("ok"), proxy.completed("ok"), proxy.completed("partial")), (1, 0, 1));
    // Conversely, a failure stays one, and `all` succeeds only if all legs do.
    c.set(Reply::ok("c"));
    proxy.get("/").await.expect_status(200);
    proxy.settled().await;
    a.set(Reply::new(500));
    b.set(Reply::new(500));
    c.set(held(1, 200));
    proxy.get("/").await.expect_status(500);
    gates[1].release();
    proxy.settled().await;
    assert_eq!((proxy.completed("ok"), proxy.completed("partial"), proxy.completed("failed")), (1, 1, 1));
}

#[tokio::test]
async fn a_replica_that_always_times_out_does_not_look_well() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let silent = testkit::origin::BlackHole::silent();
    let proxy = over(&[&a, &b, &silent]).require("majority").total(ms(1000)).start();
    for _ in 0..3 {
        proxy.get("/").await.expect_status(200);
    }
    proxy.settled().await;
    assert_eq!((proxy.results("ok"), proxy.completed("ok"), proxy.completed("partial")), (3, 0, 3));
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_it_began_is_a_failure_in_the_end() {
    let (gate, half) = (Gate::new(), testkit::origin::At::Body(500));
    let a = origin(0, Reply::ok("x".repeat(1000)).hold_at(half, &gate).reset_at(half));
    let proxy = over(&[&a]).require("any").start();
    let mut client = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = client.read_head("GET").await;
    gate.release();
    client.read_body(&mut answer, u64::MAX).await;
    assert!(answer.end.is_cut(), "{answer}");
    proxy.settled().await;
    assert_eq!((proxy.completed("ok"), proxy.completed("failed")), (0, 1));
}

#[tokio::test]
async fn every_request_with_a_route_is_completed_once() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a").hold(&gate), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).require("any").limits(|l| l.inflight = 1).policy(|p| p.max_body = Some(10)).start();
    let mut waiting = proxy.sent("GET / HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.broadcast+json\r\n\r\n").await;
    gate.wait_reached(1).await;
    proxy.get("/").await.expect_status(503);
    proxy.request("POST", "/", &[], &[b'x'; 11]).await.expect_status(413);
    proxy.sent(crate::fixture::sized_post(5)).await.close();
    testkit::eventually!("the client that left to be noticed", proxy.completed("client"), |n| *n == 2);
    gate.release();
    waiting.read_response("GET").await.expect_status(200);
    proxy.publish(&[]);
    testkit::eventually!("no endpoints", proxy.get("/").await.status, |s| *s == 503);
    proxy.settled().await;
    for result in ["ok", "partial", "failed", "client", "rejected", "empty"] {
        assert_eq!(proxy.completed(result), proxy.results(result), "{result}");
    }
    // More requests may be answered before the new list applies.
    let (ok, client, rejected) = (proxy.completed("ok"), proxy.completed("client"), proxy.completed("rejected"));
    assert!(ok >= 1 && client == 2 && rejected >= 1, "ok {ok}, client {client}, rejected {rejected}");
}

#[tokio::test]
async fn legs_and_connections_are_shown_by_endpoint_by_route_or_not_at_all() {
    let [a, b] = origins([Reply::ok("a"), Reply::new(503)]);
    let families = ["fanfare_legs_total", "fanfare_legs_in_flight", "fanfare_idle_connections"];
    for (detail, label) in
        [(None, "endpoint"), (Some(EndpointMetrics::Route), "route"), (Some(EndpointMetrics::Off), "")]
    {
        let proxy = over(&[&a, &b]).config(|config| config.endpoint_metrics = detail).start();
        proxy.get("/").await.expect_status(503);
        proxy.settled().await;
        let text = proxy.handle.metrics();
        for family in families {
            let series = series(&text, family, &[]);
            assert_eq!(series.is_empty(), label.is_empty(), "{detail:?}: {text}");
            assert!(series.iter().all(|(labels, _)| labels.contains(&format!("{label}=\""))), "{detail:?}: {series:?}");
        }
        let ended = |outcome| -> f64 {
            series(&text, families[0], &[("outcome", outcome)]).iter().map(|(_, count)| count).sum()
        };
        let expected = if label.is_empty() { 0.0 } else { 1.0 };
        assert_eq!((ended("ok"), ended("server_error")), (expected, expected), "{detail:?}: {text}");
    }
}

/// Counts what is written, and the longest piece.
#[derive(Default)]
struct Pieces {
    text: Vec<u8>,
    longest: usize,
}

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.longest = self.longest.max(bytes.len());
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_hundred_thousand_endpoints_in_a_thousand_routes_are_less_than_a_megabyte_of_metrics_in_pieces() {
    let a = origin(0, Reply::ok("a"));
    let setup = over(&[&a]).listener(|listener| {
        for number in 0..1000 {
            let mut route = route(&format!("route-{number}"), &format!("test/cache-{number}:http"));
            route.matches = format!("/{number}").parse().expect("a match");
            listener.routes.insert(0, route.into());
        }
    });
    let proxy = setup.start();
    for number in 0..1000_u32 {
        let address = |last: u32| std::net::Ipv4Addr::from_bits((10 << 24) + number * 128 + last);
        let endpoints = (0..100).map(|last| Endpoint::ready((address(last), 80).into())).collect();
        let name = snapshot::ClusterName::new(format!("test/cache-{number}:http")).expect("a valid name");
        let cluster = snapshot::Cluster::new(name, endpoints);
        proxy.publisher.apply([snapshot::Change::Set(std::sync::Arc::new(cluster))]);
    }
    let last = [("route", "route-999"), ("condition", "ready")];
    testkit::eventually!("all endpoints", proxy.metric("fanfare_endpoints", &last), |ready| *ready == 100.0);
    proxy.get("/").await.expect_status(200);
    proxy.settled().await;
    let mut pieces = Pieces::default();
    proxy.handle.write_metrics(false, &mut pieces).expect("memory takes it");
    assert!(pieces.text.len() < 1 << 20 && pieces.longest < 64 * 1024, "{} {}", pieces.text.len(), pieces.longest);
    let text = String::from_utf8(pieces.text).expect("it is text");
    assert_eq!(series(&text, "fanfare_legs_total", &[]).len(), 1, "what is not 0");
    assert_eq!(series(&text, "fanfare_legs_total", &[("route", ROUTE), ("outcome", "ok")])[0].1, 1.0);
    assert_eq!(series(&text, "fanfare_requests_total", &[("route", "route-7"), ("result", "ok")])[0].1, 0.0);
    // With fewer again it stays like that, so that series do not come and go.
    for number in 0..1000 {
        proxy.publish_cluster(&format!("test/cache-{number}:http"), &[&a]);
    }
    testkit::eventually!("one endpoint each", proxy.metric("fanfare_endpoints", &last), |ready| *ready == 1.0);
    assert!(
        series(&proxy.handle.metrics(), "fanfare_legs_total", &[("endpoint", &a.address().to_string())]).is_empty()
    );
}
