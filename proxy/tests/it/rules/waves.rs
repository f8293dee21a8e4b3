//! Rule: with waves, endpoints get a request in groups, in snapshot order. The next group begins once the last one is ok and the
//! pause is over; after a failure the rest is skipped.

use std::time::{Duration, Instant};

use testkit::origin::{Gate, Origin, Reply};

use crate::{
    fixture::{
        CHUNKED_POST, Place, Proxy, REPORT, Setup, assert_head, assert_made_up, bytes, chunked, ms, origin, origins,
        over,
    },
    http2::{self, Client},
};

fn waves(setup: Setup, text: &str) -> Setup {
    setup.policy(|policy| policy.waves = Some(text.parse().expect("waves")))
}

fn four() -> [Origin; 4] {
    origins([Reply::ok("0"), Reply::ok("1"), Reply::ok("2"), Reply::ok("3")])
}

fn proxy_over(origins: &[Origin], text: &str) -> Proxy {
    let places: Vec<&dyn Place> = origins.iter().map(|origin| origin as &dyn Place).collect();
    waves(over(&places), text).start()
}

/// The number of requests at each endpoint.
fn requests<const N: usize>(origins: &[Origin; N]) -> [usize; N] {
    origins.each_ref().map(|origin| origin.requests().len())
}

async fn outcomes(proxy: &Proxy) -> (u16, Vec<String>) {
    let (status, report) = proxy.report("PURGE", "/a", b"").await;
    let results = report["results"].as_array().expect("results").iter();
    (status, results.map(|leg| leg["outcome"].as_str().expect("an outcome").to_owned()).collect())
}

#[tokio::test]
async fn a_wave_begins_only_when_each_leg_of_the_one_before_is_ok() {
    let (first, second) = (Gate::new(), Gate::new());
    let all = [
        origin(0, Reply::ok("0")),
        origin(1, Reply::ok("1").hold(&first)),
        origin(2, Reply::ok("2").hold(&second)),
        origin(3, Reply::ok("3")),
        origin(4, Reply::ok("4")),
    ];
    let proxy = proxy_over(&all, "2");
    let mut client = proxy.sent("PURGE /a HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    first.wait_reached(1).await;
    all[0].wait_requests(1).await;
    assert_eq!(all[2..].iter().map(Origin::accepted).sum::<usize>(), 0, "nobody of a later wave has a connection");
    first.release();
    second.wait_reached(1).await;
    all[3].wait_requests(1).await;
    assert_eq!(all[4].accepted(), 0);
    second.release();
    let answer = client.read_response("PURGE").await.expect_status(200);
    assert_eq!(
        (&answer.body[..], answer.header("x-broadcast-endpoint")),
        (&b"0"[..], Some(&*all[0].address().to_string()))
    );
    assert_eq!(answer.header("x-broadcast-result"), Some("total=5, ok=5, failed=0, pending=0, required=5"));
    assert_eq!(requests(&all), [1; 5]);
}

#[tokio::test]
async fn the_pause_lies_between_waves_and_takes_nothing_of_their_time() {
    let all = four();
    let places: [&dyn Place; 4] = [&all[0], &all[1], &all[2], &all[3]];
    let proxy = waves(over(&places), "50%, pause=1200ms").total(ms(1000)).start();
    let began = Instant::now();
    proxy.get("/").await.expect_status(200);
    assert!(began.elapsed() >= Duration::from_millis(1200), "{:?}", began.elapsed());
    assert_eq!(requests(&all), [1; 4]);
}

#[tokio::test]
async fn where_an_endpoint_is_not_ok_the_rest_is_skipped() {
    let all = four();
    let proxy = proxy_over(&all, "1");
    for (reply, status, outcome) in
        [(Reply::new(500).body("broken"), 500, "server_error"), (Reply::new(404).body("nothing"), 404, "client_error")]
    {
        all[1].set(reply);
        let before = requests(&all);
        assert_eq!(outcomes(&proxy).await, (status, ["ok", outcome, "skipped", "skipped"].map(str::to_owned).to_vec()));
        // The client gets what that endpoint has answered.
        let answer = proxy.get("/").await.expect_status(status);
        assert_eq!(answer.header("x-broadcast-result"), Some("total=4, ok=1, failed=3, pending=0, required=4"));
        assert_eq!(answer.header("x-broadcast-endpoint"), Some(&*all[1].address().to_string()));
        let after = requests(&all);
        assert_eq!(after, [before[0] + 2, before[1] + 2, 0, 0]);
    }
    assert_eq!(proxy.legs(&all[3], "skipped"), 4);
}

#[tokio::test]
async fn a_wave_whose_time_is_up_stops_the_rest() {
    let gate = Gate::new();
    let all = [origin(0, Reply::ok("0").hold(&gate)), origin(1, Reply::ok("1"))];
    let proxy = waves(over(&[&all[0], &all[1]]), "1").total(ms(200)).start();
    assert_eq!(outcomes(&proxy).await, (504, vec!["timeout".to_owned(), "skipped".to_owned()]));
    assert_eq!(all[1].accepted(), 0);
    gate.release();
}

#[tokio::test]
async fn waves_go_on_after_a_failure_where_they_are_to() {
    let all = four();
    all[0].set(Reply::new(500));
    let proxy = proxy_over(&all, "1, on-failure=continue");
    assert_eq!(outcomes(&proxy).await, (500, ["server_error", "ok", "ok", "ok"].map(str::to_owned).to_vec()));
    assert_eq!(requests(&all), [1; 4]);
}

#[tokio::test]
async fn an_answer_that_is_decided_goes_out_and_the_waves_go_on() {
    let gate = Gate::new();
    let all = [origin(0, Reply::ok("0")), origin(1, Reply::ok("1").hold(&gate)), origin(2, Reply::ok("2"))];
    let places: [&dyn Place; 3] = [&all[0], &all[1], &all[2]];
    let proxy = waves(over(&places), "1").require("any").start();
    let answer = proxy.get("/").await.expect_status(200);
    assert_eq!(&answer.body[..], b"0");
    gate.wait_reached(1).await;
    assert_eq!(all[2].accepted(), 0);
    gate.release();
    all[2].wait_requests(1).await;
}

#[tokio::test]
async fn every_wave_gets_the_whole_body_and_what_is_too_long_to_be_kept_is_413() {
    let all = four();
    let proxy = proxy_over(&all, "1");
    let body = bytes(1 << 20);
    proxy.post(&body).await.expect_status(200);
    let pieces: Vec<&[u8]> = body[..40_000].chunks(1).collect();
    proxy.answer_to([CHUNKED_POST.as_bytes(), &chunked(&pieces)].concat(), "POST").await.expect_status(200);
    for origin in &all {
        let seen = origin.wait_requests(2).await;
        assert!(seen[0].is_complete() && seen[0].body == body, "the body in one piece");
        assert!(seen[1].is_complete() && seen[1].body == body[..40_000], "the body in small pieces");
    }
    let longer = bytes((1 << 20) + 1);
    assert_made_up(&proxy.post(&longer).await, 413, "http_request_error");
    let wire = [CHUNKED_POST.as_bytes(), &chunked(&[&longer])].concat();
    assert_made_up(&proxy.answer_to(wire, "POST").await, 413, "http_request_error");
    assert_eq!(requests(&all), [2; 4]);
}

#[tokio::test]
async fn a_body_that_there_is_no_memory_for_is_503_and_reaches_no_endpoint() {
    let all = four();
    let places: [&dyn Place; 4] = [&all[0], &all[1], &all[2], &all[3]];
    let proxy = waves(over(&places), "1").limits(|limits| limits.buffered = 256 << 10).start();
    assert_made_up(&proxy.post(&bytes(1 << 20)).await, 503, "connection_limit_reached");
    assert_eq!(requests(&all), [0; 4]);
    proxy.post(&bytes(100 << 10)).await.expect_status(200);
    assert_eq!(requests(&all), [1; 4]);
}

#[tokio::test]
async fn an_endpoint_of_a_later_wave_has_its_own_host() {
    let all = four();
    let proxy = proxy_over(&all, "1");
    proxy.answer_to("GET / HTTP/1.0\r\n\r\n", "GET").await.expect_status(200);
    for origin in &all {
        let seen = origin.wait_requests(1).await.remove(0);
        assert_eq!(seen.headers.get("host"), Some(&*origin.address().to_string()));
    }
}

#[tokio::test]
async fn a_permitted_caller_sends_one_request_in_waves_over_either_version() {
    let all = four();
    all[1].set(Reply::new(500));
    let places: [&dyn Place; 4] = [&all[0], &all[1], &all[2], &all[3]];
    let control = |listener: &mut proxy::config::Listener| {
        listener.control_from = vec!["127.0.0.1/32".parse().expect("a network")];
    };
    let proxy = over(&places).listener(control).start();
    let field = ("X-Broadcast-Waves", "size=2, pause=10ms, on-failure=stop");
    let answer = proxy.request("PURGE", "/a", &[("Host", "shop"), field, REPORT], b"").await.expect_status(500);
    assert_eq!(answer.header("x-broadcast-result"), Some("total=4, ok=1, failed=3, pending=0, required=4"));
    let client = Client::of(&proxy).await;
    let answer =
        client.send(http2::request("PURGE", "/a", &[("x-broadcast-waves", "50%")]), None).await.expect("an answer");
    assert_eq!(answer.head.status(), 500);
    assert_eq!(requests(&all), [2, 2, 0, 0]);
    assert_head(&all[0].requests()[0], "PURGE /a HTTP/1.1\r\nHost: shop\r\n", "shop");
    let open = over(&places).start();
    open.request("PURGE", "/a", &[field], b"").await.expect_status(403);
    assert_eq!(requests(&all), [2, 2, 0, 0]);
}
