//! Rule: a body up to `redeliver.max_body` is sent again, however small the window; past a bound it is not, and the answer says so.

use proxy::config::{Policy, Redeliver};
use testkit::{
    eventually,
    origin::{Gate, Origin, Reading, Reply},
};

use super::{jobs, redelivering, reset};
use crate::{
    fixture::{NEVER, Setup, bytes, loopback, ms, origin, origins, over},
    http2_endpoints::{Does, Endpoint, over_h2},
};

/// More than a window, less than the limit of kept bodies.
const BODY: usize = 700 << 10;

fn setup(a: &Origin, b: &Origin, change: impl FnOnce(&mut Redeliver)) -> Setup {
    over(&[a, b]).total(NEVER).policy(|policy: &mut Policy| {
        policy.window = Policy::MIN_WINDOW;
        redelivering(policy, change);
    })
}

#[tokio::test]
async fn a_body_that_is_longer_than_the_window_is_sent_again_whole() {
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, [reset(), Reply::ok("b")]));
    let proxy = setup(&a, &b, |_| {}).start();
    let body = bytes(BODY);
    let answer = proxy.request("PUT", "/x", &[], &body).await.complete();
    assert!(answer.header("x-broadcast-job").is_some(), "{answer}");
    assert_eq!(b.wait_requests(2).await.remove(1).complete().body, body);
    assert_eq!(a.requests()[0].body, body);
    proxy.settled().await;
}

#[tokio::test]
async fn so_is_one_in_chunks_and_one_that_every_endpoint_refuses_before_its_end() {
    let [a, b] = origins([[reset().early(), Reply::ok("a")], [reset().early(), Reply::ok("b")]]);
    let proxy = setup(&a, &b, |_| {}).streaming().start();
    let body = bytes(BODY);
    let mut client = proxy.sent("PUT /x HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let (first, rest) = body.split_at(1_000);
    client.send(crate::fixture::unfinished(&[first])).await;
    // Both have refused it before there is more.
    for origin in [&a, &b] {
        proxy.wait_leg(origin, "reset").await;
    }
    client.send(crate::fixture::chunked(&rest.chunks(50_000).collect::<Vec<_>>())).await;
    let answer = client.read_response("PUT").await;
    assert_eq!(answer.status, 502, "{answer}");
    assert!(answer.header("x-broadcast-result").unwrap().ends_with("deferred=2"), "{answer}");
    for origin in [&a, &b] {
        assert_eq!(origin.wait_requests(2).await.remove(1).complete().body, body);
    }
}

#[tokio::test]
async fn one_that_is_longer_than_what_is_kept_is_not_deferred_and_answer_and_metric_say_so() {
    let [a, b] = origins([Reply::ok("a"), Reply::new(500)]);
    let proxy = setup(&a, &b, |it| it.rules.max_body = BODY - 1).start();
    let (status, report) = proxy.report("PUT", "/x", &bytes(BODY)).await;
    assert_eq!((status, &report["job"]), (500, &serde_json::Value::Null));
    assert_eq!(report["results"][1]["error"], "not deferred: the body is longer than --redeliver-max-body");
    assert_eq!(report["results"][1]["outcome"], "server_error");
    let refused = || proxy.metric("fanfare_deliveries_total", &[("result", "refused")]);
    assert_eq!((refused(), jobs(&proxy)), (1.0, serde_json::json!([])));
    let (_, report) = proxy.report("PUT", "/x", &bytes(BODY - 1)).await;
    assert_eq!((&report["results"][1]["outcome"], refused()), (&"deferred".into(), 1.0));
    b.set(Reply::ok("b"));
    eventually!("it arrives", b.requests().last().map(|seen| seen.body_length), |sent| *sent == Some(BODY as u64 - 1));
}

#[tokio::test]
async fn kept_bodies_count_in_max_buffered_and_none_is_kept_beyond_it() {
    let (a, gate) = (origin(0, Reply::ok("a")), Gate::new());
    let b = origin(1, Reply::new(500).hold(&gate));
    let buffered = 256 << 10;
    let proxy = setup(&a, &b, |_| {}).limits(|limits| limits.buffered = buffered).start();
    let kept = bytes(buffered / 2);
    let (answer, ()) = tokio::join!(proxy.request("PUT", "/x", &[], &kept), async {
        gate.wait_reached(1).await;
        assert!(
            proxy.metric("fanfare_buffered_bytes", &[]) >= kept.len() as f64,
            "what all have got is counted as well"
        );
        gate.release();
    });
    assert!(answer.complete().header("x-broadcast-job").is_some());
    b.set(Reply::ok("b"));
    eventually!("the job is done", jobs(&proxy)[0]["state"].clone(), |state| state == "done");
    b.set(Reply::new(500));
    let answer =
        eventually!("a live request", proxy.request("PUT", "/x", &[], &bytes(BODY)).await.complete(), |answer| answer
            .status
            == 500);
    assert!(answer.header("x-broadcast-job").is_none(), "{answer}");
    let refused = proxy.metric("fanfare_deliveries_total", &[("result", "refused")]);
    assert!(refused >= 1.0);
    let (_, report) = proxy.report("PUT", "/x", &bytes(BODY)).await;
    let error = report["results"][1]["error"].as_str().unwrap();
    assert!(error.starts_with("not deferred: of its body") && error.ends_with("see --max-buffered"), "{error}");
    proxy.settled().await;
}

#[tokio::test]
async fn a_request_that_a_lagging_endpoint_missed_is_sent_again() {
    let a = origin(0, Reply::ok("a"));
    let slow = Origin::builder().address(&loopback(1)).receive_buffer(64 << 10);
    let b = slow.start([Reply::ok("b").reading(Reading::HeldAfter(0, Gate::new())), Reply::ok("b")]);
    let lagging = |policy: &mut Policy| policy.lag_timeout = ms(50);
    let proxy = setup(&a, &b, |it| it.rules.max_body = 64 << 20).require("any").policy(lagging).start();
    // More than the system may hold for one that takes nothing.
    let body = bytes(12 << 20);
    let answer = proxy.request("PUT", "/x", &[], &body).await.expect_status(200);
    assert!(
        answer.header("x-broadcast-result").unwrap().ends_with("failed=1, pending=0, required=1, deferred=1"),
        "{answer}"
    );
    assert_eq!(proxy.legs(&b, "lagged"), 1);
    eventually!("the job is done", jobs(&proxy)[0]["state"].clone(), |state| state == "done");
    assert!(b.requests().last().unwrap().body == body);
}

#[tokio::test]
async fn routes_and_methods_that_do_not_redeliver_keep_nothing() {
    let gate = Gate::new();
    let (a, b) = (origin(0, Reply::ok("a").hold(&gate)), origin(1, Reply::ok("b").hold(&gate)));
    let proxy = setup(&a, &b, |_| {}).start();
    let body = bytes(BODY);
    let (answer, ()) = tokio::join!(proxy.request("POST", "/x", &[], &body), async {
        gate.wait_reached(2).await;
        let buffered = proxy.metric("fanfare_buffered_bytes", &[]);
        assert!(buffered <= (Policy::MIN_WINDOW * 2) as f64, "{buffered}");
        gate.release();
    });
    answer.expect_status(200);
}

#[tokio::test]
async fn trailers_are_sent_again_to_endpoints_that_know_them_also_after_a_restart() {
    let (a, b) = (
        Endpoint::start(0, [Does::Answer(b"a".to_vec())]).await,
        Endpoint::start(1, [Does::Status(503, Vec::new()), Does::Answer(b"b".to_vec())]).await,
    );
    let directory = tempfile::tempdir().expect("a temporary folder");
    let journal = directory.path().to_owned();
    let setup = |backoff| {
        let journal = journal.clone();
        over_h2(&[&a, &b]).policy(move |policy| {
            redelivering(policy, |redeliver| {
                redeliver.journal = Some(journal);
                redeliver.limits.backoff = (backoff, backoff);
            });
        })
    };
    let mut proxy = setup(NEVER).start();
    let head = "PUT /x HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = proxy.sent(format!("{head}4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n")).await;
    let answer = client.read_response("PUT").await.complete();
    assert!(answer.header("x-broadcast-job").is_some(), "{answer}");
    proxy.drain(ms(1_000)).await;
    drop(proxy);

    let _proxy = setup(ms(20)).start();
    for seen in b.wait(2).await {
        assert_eq!(seen.body, b"body");
        assert_eq!(seen.trailers.expect("there are some")["x-sum"], "1");
    }
}
