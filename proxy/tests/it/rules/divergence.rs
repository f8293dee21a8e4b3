//! Divergent answers: where they are reported, what counts as different, and what the comparison costs.

use std::sync::Arc;

use proxy::config::{Compare, Ignore};
use serde_json::Value;
use testkit::{
    eventually,
    origin::{At, Gate, Origin, Reply},
};

use crate::{
    fixture::{Place, Proxy, Setup, bytes, ms, origins, over, refusing},
    grpc::{call, message},
    http2::Client,
    http2_endpoints::{Does, Endpoint, over_h2},
};

const DIVERGENT: &str = "x-broadcast-divergent";
const METRIC: &str = "fanfare_divergent_requests_total";

trait Comparing {
    fn comparing(self, compare: Compare, ignore: &[&str]) -> Self;
}

impl Comparing for Setup {
    fn comparing(self, compare: Compare, ignore: &[&str]) -> Self {
        let ignore: Ignore = ignore.iter().map(|text| text.parse().expect("something to ignore")).collect();
        self.policy(|policy| {
            policy.compare = compare;
            policy.compare_ignore = (ignore != Ignore::default()).then(|| Arc::new(ignore));
        })
    }
}

async fn excerpts(proxy: &Proxy, bodies: &str) -> Value {
    let accept = format!("application/vnd.broadcast+json; bodies={bodies}");
    let answer = proxy.request("GET", "/", &[("Accept", &accept)], b"").await.complete();
    serde_json::from_slice::<Value>(&answer.body).expect("a report")["results"].take()
}

fn diverging(report: &Value) -> Vec<bool> {
    let results = report["results"].as_array().expect("results");
    results.iter().map(|leg| leg.get("diverges").is_some_and(|diverges| diverges == true)).collect()
}

#[tokio::test]
async fn the_answer_the_report_and_the_metric_say_how_many_differ_from_most() {
    let [a, b, c] = origins([Reply::ok("one"), Reply::ok("two"), Reply::ok("one")]);
    let proxy = over(&[&a, &b, &c]).comparing(Compare::Body, &[]).start();
    assert_eq!(proxy.get("/").await.expect_status(200).header(DIVERGENT), Some("1"));
    eventually!("the request to be counted", proxy.metric(METRIC, &[]), |count| *count == 1.0);
    let (_, report) = proxy.report("GET", "/", b"").await;
    assert_eq!(diverging(&report), [false, true, false], "{report}");
    let digests: Vec<&str> = (0..3).map(|n| report["results"][n]["digest"].as_str().expect("a digest")).collect();
    assert!(digests[0] == digests[2] && digests[0] != digests[1], "{report}");
    // All the same: nothing is said and nothing is counted.
    b.set(Reply::ok("one"));
    assert_eq!(proxy.get("/").await.header(DIVERGENT), None);
    proxy.settled().await;
    assert_eq!(proxy.metric(METRIC, &[]), 2.0);
}

#[tokio::test]
async fn statuses_are_compared_without_bodies_and_off_says_nothing() {
    let [a, b, c] = origins([Reply::ok("one"), Reply::new(201).body("two"), Reply::ok("three")]);
    let places: [&dyn Place; 3] = [&a, &b, &c];
    let statuses = over(&places).comparing(Compare::Status, &[]).start();
    assert_eq!(statuses.get("/").await.header(DIVERGENT), Some("1"));
    let (_, report) = statuses.report("GET", "/", b"").await;
    assert_eq!(diverging(&report), [false, true, false], "{report}");
    let off = over(&places).start();
    assert_eq!(off.get("/").await.header(DIVERGENT), None);
    let (_, report) = off.report("GET", "/", b"").await;
    assert!(report["results"][1].get("digest").is_none() && report["results"][1].get("body").is_none(), "{report}");
    assert!(!off.handle.metrics().contains(METRIC));
}

#[tokio::test]
async fn of_answers_that_are_as_frequent_that_of_the_lowest_endpoint_counts_as_most() {
    let [a, b, c, d] = origins([Reply::ok("x"), Reply::ok("y"), Reply::ok("y"), Reply::ok("x")]);
    let proxy = over(&[&a, &b, &c, &d]).comparing(Compare::Body, &[]).start();
    let (_, report) = proxy.report("GET", "/", b"").await;
    assert_eq!(diverging(&report), [false, true, true, false], "{report}");
}

#[tokio::test]
async fn an_endpoint_without_a_whole_answer_is_not_compared() {
    let [a, b, c] =
        origins([Reply::ok("one"), Reply::ok(bytes(500)).reset_at(At::Body(100)), Reply::new(500).body("no")]);
    let dead = refusing(3);
    let proxy = over(&[&a, &b, &c, &dead]).comparing(Compare::Body, &[]).start();
    let answer = proxy.get("/").await.expect_status(500);
    assert_eq!(answer.header(DIVERGENT), Some("1"), "also on failure: {answer}");
    let (_, report) = proxy.report("GET", "/", b"").await;
    assert_eq!(diverging(&report), [false, false, true, false], "{report}");
    let digests: Vec<bool> = (0..4).map(|n| report["results"][n]["digest"].is_string()).collect();
    assert_eq!(digests, [true, false, true, false], "{report}");
}

#[tokio::test]
async fn the_first_mebibyte_of_long_bodies_is_compared_before_the_answer_goes_out() {
    let long = bytes(3 << 20);
    let changed = |at: usize| {
        let mut body = long.clone();
        body[at] ^= 1;
        body
    };
    let [a, b, c] = origins([
        Reply::ok(long.clone()),
        Reply::ok(changed((1 << 20) - 1)),
        // Chunked or not: what is compared is the body.
        Reply::new(200).chunked_by(50_000, changed(1 << 20)),
    ]);
    let proxy = over(&[&a, &b, &c]).comparing(Compare::Body, &[]).start();
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!((answer.header(DIVERGENT), answer.body == long), (Some("1"), true));
    let (_, report) = proxy.report("GET", "/", b"").await;
    assert_eq!(diverging(&report), [false, true, false]);
    proxy.settled().await;
}

#[tokio::test]
async fn what_may_differ_is_left_out() {
    let json = |n: u32, ms: u32| Reply::ok(format!("{{\"n\": {n}, \"took\": {{\"ms\": {ms}}}, \"id\": \"{ms}-x\"}}"));
    let [a, b, c] = origins([json(1, 10), json(1, 20), json(2, 10)]);
    let places: [&dyn Place; 3] = [&a, &b, &c];
    for (ignore, want) in [
        (&[][..], [false, true, true]),
        (&["/took/ms", "/id"][..], [false, false, true]),
        (&["/took", r#""id": ?"[^"]*""#][..], [false, false, true]),
        (&["[0-9]+"][..], [false, false, false]),
    ] {
        let proxy = over(&places).comparing(Compare::Body, ignore).start();
        let (_, report) = proxy.report("GET", "/", b"").await;
        assert_eq!(diverging(&report), want, "{ignore:?}: {report}");
        proxy.settled().await;
    }
}

#[tokio::test]
async fn with_any_the_metric_knows_what_the_answer_could_not() {
    let gate = Gate::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b").hold(&gate)]);
    let proxy = over(&[&a, &b]).require("any").comparing(Compare::Body, &[]).start();
    assert_eq!(proxy.get("/").await.expect_status(200).header(DIVERGENT), None);
    assert_eq!(proxy.metric(METRIC, &[]), 0.0);
    gate.release();
    eventually!("the request to be counted", proxy.metric(METRIC, &[]), |count| *count == 1.0);
}

#[tokio::test]
async fn over_http2_and_with_grpc_the_same_is_said() {
    let grpc = |text: &str, code: u8| Does::Grpc(message(text), code);
    let a = Endpoint::start(0, [grpc("a", 0), grpc("a", 0)]).await;
    let b = Endpoint::start(1, [grpc("a", 0), grpc("b", 0)]).await;
    let c = Endpoint::start(2, [grpc("a", 5), grpc("a", 0)]).await;
    let proxy = over_h2(&[&a, &b, &c]).require("2").comparing(Compare::Body, &[]).start();
    let client = Client::of(&proxy).await;
    for round in 0..2 {
        client.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
        let want = f64::from(round + 1);
        eventually!("the request to be counted", proxy.metric(METRIC, &[]), |count| *count == want);
    }
    let [d, e] = [Endpoint::start(3, [grpc("a", 0)]).await, Endpoint::start(4, [grpc("b", 0)]).await];
    let proxy = over_h2(&[&d, &e]).comparing(Compare::Body, &[]).start();
    let answer = Client::of(&proxy).await.send(call(&[]), Some(&message("ask"))).await.expect("an answer");
    assert_eq!(answer.head.headers()[DIVERGENT], "1", "{answer:?}");
}

#[tokio::test]
async fn the_report_shows_the_start_of_bodies_to_those_who_ask() {
    let [a, b, c, d] = origins([
        Reply::ok("caf\u{e9} au lait"),
        Reply::ok(vec![0xff, 0xfe, 1, 2, 3]),
        Reply::ok(""),
        Reply::new(200).chunked_by(2, "short"),
    ]);
    let dead = refusing(4);
    let proxy = over(&[&a, &b, &c, &d, &dead]).start();
    let results = excerpts(&proxy, "4").await;
    // A character is not cut in two.
    assert_eq!((&results[0]["body"], &results[0]["truncated"]), (&"caf".into(), &true.into()), "{results}");
    assert_eq!((&results[1]["body"], &results[1]["encoding"]), (&"//4BAg==".into(), &"base64".into()), "{results}");
    assert_eq!((&results[2]["body"], results[2].get("truncated")), (&"".into(), None), "{results}");
    assert_eq!((&results[3]["body"], &results[3]["truncated"]), (&"shor".into(), &true.into()), "{results}");
    assert!(results[4].get("body").is_none() && results[0].get("encoding").is_none(), "{results}");
    let results = excerpts(&proxy, "4096").await;
    assert_eq!((&results[3]["body"], results[3].get("truncated")), (&"short".into(), None), "{results}");
    for asked in ["0", "x", ""] {
        assert!(excerpts(&proxy, asked).await[0].get("body").is_none(), "{asked:?} shows nothing");
    }
    proxy.settled().await;
}

#[tokio::test]
async fn what_is_kept_of_bodies_counts_as_held_and_has_bounds() {
    let gate = Gate::new();
    let long: Vec<u8> = bytes(200_000).iter().map(|byte| byte % 26 + b'a').collect();
    let [a, b] = origins([Reply::ok(long.clone()), Reply::ok(long).hold(&gate)]);
    let places: [&Origin; 2] = [&a, &b];
    let proxy = over(&[places[0], places[1]]).comparing(Compare::Body, &["no such thing"]).start();
    let mut client = proxy
        .sent("GET / HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.broadcast+json;bodies=999999999\r\n\r\n")
        .await;
    proxy.wait_leg(&a, "ok").await;
    // Compared, it is let go of but for what is shown.
    let held =
        eventually!("the excerpt to be counted", proxy.metric("fanfare_buffered_bytes", &[]), |held| *held > 0.0);
    assert!((65_536.0..100_000.0).contains(&held), "{held}");
    gate.release();
    let answer = client.read_response("GET").await.expect_status(200);
    let report: Value = serde_json::from_slice(&answer.body).expect("a report");
    assert_eq!(report["results"][0]["body"].as_str().map(str::len), Some(65_536));
    proxy.settled().await;
}

#[tokio::test]
async fn where_no_more_may_be_held_an_answer_is_not_compared_and_goes_out_all_the_same() {
    let [a, b] = origins([Reply::ok(bytes(500_000)), Reply::ok("b")]);
    let proxy =
        over(&[&a, &b]).comparing(Compare::Body, &["x"]).limits(|limits| limits.buffered = 1).total(ms(10_000)).start();
    let (status, report) = proxy.report("GET", "/", b"").await;
    assert_eq!((status, report["results"][0].get("digest")), (200, None), "{report}");
    assert_eq!(proxy.get("/").await.expect_status(200).body.len(), 500_000);
    proxy.settled().await;
}
