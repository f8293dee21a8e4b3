//! Long polls and event streams.

use std::time::{Duration, Instant};

use kubekit::fault_proxy::{Fault, Verb};
use serde_json::Value;
use sidecar::endpoints::Deliver;
use testkit::{
    client::{RawClient, Response, request_bytes},
    eventually::within,
};

use crate::bed::{Bed, Running, addresses};

/// Longer than a test takes.
const LONG: &str = "wait=9m";

/// A poll under way, on a connection of its own.
async fn ask(running: &Running, path: &str, fields: &[(&str, &str)]) -> RawClient {
    let mut client = RawClient::connect(running.address).await;
    client.send(request_bytes("x", "GET", path, fields, b"")).await;
    client
}

fn index(answer: &Response) -> u64 {
    answer.header("x-endpoints-index").and_then(|index| index.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_long_poll_ends_with_a_change_and_not_before() {
    let bed = Bed::new("poll").await;
    bed.ready("cache", &[1]).await;
    let running = bed.run(&["cache", "other"], None, Deliver::default()).await;
    let first = running.until(&[1]).await;
    let has = index(&first);
    let etag = first.header("etag").expect("a tag");

    let polls = [
        (format!("/endpoints?index={has}&{LONG}"), vec![]),
        (format!("/endpoints/?{LONG}"), vec![]),
        (format!("/v1/services/{}/cache/endpoints?{LONG}", bed.namespace), vec![("If-None-Match", etag)]),
    ];
    let mut clients = Vec::new();
    for (path, fields) in &polls {
        clients.push(ask(&running, path, fields).await);
    }
    // A change of another service must not end the polls; 300 ms is the time in which it would.
    bed.ready("other", &[7]).await;
    let started = Instant::now();
    let same = running.get(&format!("/endpoints?index={has}&wait=300ms")).await.expect_status(200);
    assert!(started.elapsed() >= Duration::from_millis(300) && index(&same) == has);
    running.get_with("/endpoints?wait=1ms", "If-None-Match", etag).await.expect_status(304);
    assert!(clients.iter().all(RawClient::is_quiet), "nothing has changed");

    bed.ready("cache", &[1, 2]).await;
    for client in &mut clients {
        let answer = client.read_response("GET").await.expect_status(200);
        assert_eq!(addresses(&answer), ["192.0.2.1", "192.0.2.2"]);
        assert!(index(&answer) > has);
    }
    // A client with another index, be it older or of another process, gets an answer at once.
    for other in [has, 1, u64::MAX] {
        running.get(&format!("/endpoints?index={other}&{LONG}")).await.expect_status(200);
    }
    for nonsense in ["/endpoints?index=x&wait=1s", "/endpoints?wait=soon"] {
        let refusal = running.get(nonsense).await.expect_status(400).text();
        assert!(refusal.contains('='), "{refusal}");
    }
}

#[tokio::test]
async fn a_poll_waits_for_the_first_list_and_ends_with_the_process() {
    let bed = Bed::new("poll-first").await;
    bed.ready("cache", &[1]).await;
    bed.proxy.always(|call| call.verb == Verb::List, Fault::Answer(503));
    let running = bed.run(&["cache"], None, Deliver::default()).await;
    running.get("/endpoints?wait=1ms").await.expect_status(503);
    let mut waiting = ask(&running, &format!("/endpoints?{LONG}"), &[]).await;
    bed.proxy.wait(1, |call| call.verb == Verb::List).await;
    bed.proxy.clear();
    assert_eq!(addresses(&waiting.read_response("GET").await.expect_status(200)), ["192.0.2.1"]);

    let mut poll = ask(&running, &format!("/endpoints?{LONG}"), &[]).await;
    let mut stream = ask(&running, "/endpoints/watch", &[]).await;
    let mut head = stream.read_head("GET").await;
    stream.read_body(&mut head, 1).await;
    running.closing.start();
    assert_eq!(addresses(&poll.read_response("GET").await.expect_status(200)), ["192.0.2.1"]);
    within("the stream to end", stream.wait_end()).await;
}

/// The events of a stream so far: names, ids and documents.
fn events(answer: &Response) -> Vec<(String, u64, Value)> {
    let text = answer.text();
    let whole = text.split("\n\n").filter(|event| event.contains("data:"));
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').trim().to_owned()
    };
    whole
        .filter_map(|event| {
            let data = serde_json::from_str(&field(event, "data")).ok()?;
            Some((field(event, "event"), field(event, "id").parse().ok()?, data))
        })
        .collect()
}

/// Reads until `number` events have arrived.
async fn read_events(client: &mut RawClient, answer: &mut Response, number: usize) -> Vec<(String, u64, Value)> {
    let read = async {
        while events(answer).len() < number {
            let more = answer.body_length + 1;
            client.read_body(answer, more).await;
        }
        events(answer)
    };
    within("the events", read).await
}

#[tokio::test]
async fn a_stream_tells_what_is_and_every_change() {
    let bed = Bed::new("stream").await;
    bed.ready("cache", &[1]).await;
    let running = bed.run(&["cache"], None, Deliver::default()).await;
    let first = running.until(&[1]).await;
    let mut stream = ask(&running, "/endpoints/watch/", &[]).await;
    let mut answer = stream.read_head("GET").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    let told = read_events(&mut stream, &mut answer, 1).await;
    assert_eq!(told[0].0, "endpoints");
    assert_eq!(told[0].1, index(&first));
    assert_eq!(told[0].2, serde_json::from_slice::<Value>(&first.body).expect("it is JSON"));

    bed.ready("cache", &[1, 2]).await;
    let told = read_events(&mut stream, &mut answer, 2).await;
    assert_eq!(told[1].2["subsets"][0]["addresses"][1]["ip"], "192.0.2.2");

    // A client that reconnects with the last id gets only later changes.
    let last = told[1].1.to_string();
    let mut again = ask(&running, "/endpoints/watch", &[("Last-Event-ID", &last)]).await;
    let mut more = again.read_head("GET").await;
    bed.ready("cache", &[2]).await;
    let told = read_events(&mut again, &mut more, 1).await;
    assert_eq!(told[0].2["subsets"][0]["addresses"][0]["ip"], "192.0.2.2");
}
