//! Measures many services at once: the time until all are mirrored, memory, requests, and the delay of a change.
//!
//! A small round runs with every test. A large one, for the table in `docs/mirroring.md`:
//!
//! ```text
//! FANFARE_MIRROR_SCALE=5000 cargo test --release -p fanfare --test e2e mirror::scale -- --nocapture
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::{AsyncBufReadExt as _, StreamExt as _, stream};
use kubekit::cluster::Cluster;
use serde_json::{Value, json};
use testkit::{
    client,
    eventually::{scaled, within},
};
use tokio::{sync::mpsc, time::interval};

use super::bed::Bed;
use crate::process::Fanfare;

/// Services in the small round.
const SMALL: usize = 40;
/// Endpoints of each service.
const ENDPOINTS: usize = 10;
/// The most timed changes, one every [`PACE`], each of another service, so that none is overtaken by the next one.
const CHANGES: usize = 500;
/// The interval between two changes.
const PACE: Duration = Duration::from_millis(20);
/// Requests of the test itself at a time.
const AT_A_TIME: usize = 16;
/// The time limit per service.
const EACH: Duration = Duration::from_millis(500);
/// The port of the first change; each has the next one, which identifies it.
const FIRST_PORT: usize = 20_000;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces";

#[tokio::test]
async fn many_services_are_mirrored_in_time() {
    let services = env::var("FANFARE_MIRROR_SCALE").map_or(SMALL, |text| text.parse().expect("it is a number"));
    let bed = Bed::start().await;
    let there = format!("/api/v1/namespaces/{}/services", bed.there);
    send(bed.remote, (0..services).map(|n| (there.clone(), service(&bed, n)))).await;
    let there = format!("{SLICES}/{}/endpointslices", bed.there);
    send(bed.remote, (0..services).map(|n| (there.clone(), slice(&bed, n, 8080)))).await;

    let before = [calls(&bed.local).await, calls(bed.remote).await];
    let started = Instant::now();
    let fanfare = bed.mirror(&[bed.what(), bed.with_all_rights()], &[]);
    let address = fanfare.listening("for mirror").await;
    let objects = async |kind: &str| metric(address, "fanfare_mirror_objects", &[kind]).await;
    let all = async {
        while objects("\"services\"").await < services || objects("\"endpointslices\"").await < services {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = scaled(Duration::from_secs(30) + EACH * u32::try_from(services).expect("it is not that many"));
    tokio::time::timeout(patience, all).await.expect("everything is mirrored in time");
    let first_sync = started.elapsed();
    let after = [calls(&bed.local).await, calls(bed.remote).await];
    let (resident, peak) = memory(&fanfare);

    assert_eq!(metric(address, "fanfare_mirror_refused_total", &[]).await, 0, "nothing is in the way");
    let before_changes = written(address).await;
    let mut latencies = changes(&bed, services).await;
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() as f64 * share) as usize).min(latencies.len() - 1)];
    let (p50, p99) = (at(0.5), at(0.99));
    println!(
        "| services | endpoints | first sync | resident, peak | requests here | requests there | p50, p99 of a change |"
    );
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {services} | {} | {first_sync:.1?} | {resident:.0} MiB, {peak:.0} MiB | {} | {} | {p50:.1?}, {p99:.1?} |",
        services * ENDPOINTS,
        difference(&before[0], &after[0]),
        difference(&before[1], &after[1]),
    );
    assert!(p99 < scaled(Duration::from_secs(10)), "{p99:?}");
    // A write is counted when its answer is there, which is after the change was seen.
    let new = async || written(address).await - before_changes;
    let new = testkit::eventually!("every write to be counted", new().await, |new| *new >= latencies.len());
    assert_eq!(new, latencies.len(), "each change is written once, and nothing else");
}

/// The sum of a metric over the series whose lines contain all of these texts.
async fn metric(address: SocketAddr, name: &str, parts: &[&str]) -> usize {
    let text = client::get(address, "/metrics").await.complete().text();
    let lines = text.lines().filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// The number of writes of the mirror.
async fn written(address: SocketAddr) -> usize {
    let mut written = 0;
    for verb in ["create", "update", "delete"] {
        written += metric(address, "fanfare_mirror_api_calls_total", &[&format!("verb=\"{verb}\"")]).await;
    }
    written
}

fn service(bed: &Bed, n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{n}"), "namespace": bed.there, "labels": {"bed": bed.here, "app": "scale"}},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]},
    })
}

fn slice(bed: &Bed, n: usize, port: usize) -> Value {
    let name = format!("service-{n}");
    let endpoints = (1..=ENDPOINTS).map(|e| {
        let address = format!("10.{}.{}.{e}", n / 250, n % 250);
        let target = json!({"kind": "Pod", "namespace": bed.there, "name": format!("{name}-{e}")});
        let conditions = json!({"ready": true, "serving": true, "terminating": false});
        json!({"addresses": [address], "conditions": conditions, "targetRef": target, "nodeName": "n", "zone": "z"})
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": bed.there, "labels": {"kubernetes.io/service-name": name, "bed": bed.here}},
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": port, "protocol": "TCP", "appProtocol": "http"}],
    })
}

/// Makes objects, several at a time.
async fn send(cluster: &Cluster, objects: impl Iterator<Item = (String, Value)>) {
    let api = &cluster.client().await;
    let requests = stream::iter(objects).map(|(path, object)| async move {
        api.request_text(request("POST", path, &object)).await.expect("a valid object");
    });
    requests.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

fn request(method: &str, path: String, object: &Value) -> hyper::Request<Vec<u8>> {
    let request = hyper::Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(object.to_string().into_bytes()).expect("a valid request")
}

/// Changes one service after the other. Returns the time of each change from before it was sent to one API server until a watch of
/// the other one reported it.
async fn changes(bed: &Bed, services: usize) -> Vec<Duration> {
    let here = format!("{SLICES}/{}/endpointslices", bed.here);
    let list = bed.local.read(&here).await.expect("the namespace is there");
    let version = list["metadata"]["resourceVersion"].as_str().expect("a list has one");
    let (api, remote) = (bed.local.client().await, bed.remote.client().await);
    let watch = hyper::Request::get(format!("{here}?watch=1&resourceVersion={version}")).body(Vec::new());
    let lines = api.request_stream(watch.expect("a valid request")).await.expect("an administrator may watch");
    let (told, mut arrivals) = mpsc::channel(CHANGES);
    let watching = tokio::spawn(async move {
        let mut lines = Box::pin(lines).lines();
        while let Some(Ok(line)) = lines.next().await {
            let at = Instant::now();
            let event: Value = serde_json::from_str(&line).expect("an event is JSON");
            let port = event["object"]["ports"][0]["port"].as_u64().and_then(|port| usize::try_from(port).ok());
            if let Some(change) = port.and_then(|port| port.checked_sub(FIRST_PORT))
                && told.send((change, at)).await.is_err()
            {
                return;
            }
        }
    });
    let many = CHANGES.min(services);
    let mut sent = HashMap::new();
    let mut ticks = interval(PACE);
    for change in 0..many {
        ticks.tick().await;
        let n = change * services / many;
        let path = format!("{SLICES}/{}/endpointslices/service-{n}", bed.there);
        let request = request("PUT", path, &slice(bed, n, FIRST_PORT + change));
        sent.insert(change, Instant::now());
        remote.request_text(request).await.expect("a valid object");
    }
    let mut latencies = Vec::new();
    while latencies.len() < many {
        let (change, at) = within("every change to arrive", arrivals.recv()).await.expect("the watch goes on");
        latencies.push(at - sent.remove(&change).expect("each change is told once"));
    }
    watching.abort();
    latencies
}

/// The requests of an API server so far, by method and resource, from its own metrics.
async fn calls(cluster: &Cluster) -> BTreeMap<String, u64> {
    let metrics = hyper::Request::get("/metrics").body(Vec::new()).expect("a valid request");
    let text = cluster.client().await.request_text(metrics).await.expect("an administrator may read them");
    let mut calls = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
        let (labels, count) = line.rsplit_once(' ').expect("a sample has a value");
        let label = |name: &str| labels.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        if ["services", "endpointslices", "endpoints"].contains(&resource) {
            *calls.entry(format!("{verb} {resource}")).or_default() += count.parse::<f64>().expect("a number") as u64;
        }
    }
    calls
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let more = after.iter().filter_map(|(what, count)| {
        let more = count - before.get(what).copied().unwrap_or_default();
        (more > 0).then(|| format!("{more} {what}"))
    });
    more.collect::<Vec<_>>().join(", ")
}

/// The current and the peak memory of a process, in MiB.
fn memory(fanfare: &Fanfare) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{}/status", fanfare.pid())).expect("it is still running");
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel tells it");
        line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    (kib("VmRSS:") / 1024.0, kib("VmHWM:") / 1024.0)
}
