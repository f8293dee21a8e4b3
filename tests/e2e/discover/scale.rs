//! Measures an export: the time from an event of the API server to the bytes in the store, memory, and requests.
//!
//! `FANFARE_PROGRAM=target/release/fanfare FANFARE_SCALE=2000x5 cargo test -p fanfare --test e2e discover::scale -- --nocapture` prints the table
//! in docs/exports.md. Without the variable it is a small run, which only shows that the measurement works.

use std::time::{Duration, Instant};

use kubekit::{cluster, fault_proxy::FaultProxy};
use rustix::process::Signal;
use testkit::{client, minio};
use tokio::process::Command;

use super::bed::{Store, account, scale, slice, text};
use crate::process::{self, Fanfare};

/// The number of Services, and of endpoints of each.
const SMALL: (usize, usize) = (20, 5);

/// The number of timed changes.
const CHANGES: usize = 50;
const FEW: usize = 5;

/// The pause before each, longer than the debounce: then a change is written at once.
const QUIET: Duration = Duration::from_millis(400);

/// What the log says after each write.
const WRITTEN: &str = "up to date";

fn objects(namespace: &str, service: usize, endpoints: impl Iterator<Item = usize>) -> String {
    let address = |n: usize| format!("{{addresses: [10.{}.{}.{}]}}", n / 65536 % 256, n / 256 % 256, n % 256);
    let addresses: Vec<String> = endpoints.map(address).collect();
    format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: s{service}, namespace: {namespace}, labels: {{k8s-service-discovery: 'yes'}}}}
spec: {{clusterIP: None, ports: [{{name: http, port: 80}}]}}
---
{}",
        slice(namespace, service, &addresses)
    )
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_event_to_the_bytes_in_the_store() {
    let (services, endpoints) = scale().unwrap_or(SMALL);
    let changes = if scale().is_some() { CHANGES } else { FEW };
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    // Several at a time, because each takes a few requests.
    let made = (0..8).map(|part| {
        let (cluster, ns) = (&cluster, ns.to_owned());
        async move {
            for service in (part..services).step_by(8) {
                let yaml = objects(&ns, service, service * endpoints..(service + 1) * endpoints);
                cluster.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("valid objects: {e}"));
            }
        }
    });
    futures::future::join_all(made).await;
    let store = Store::new(minio::shared().await);
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let place = format!("s3://{}/edge.yml", store.bucket);
    let mut command = Command::new(process::program());
    command
        .args([
            "discover",
            "--select=k8s-service-discovery=yes",
            "-n",
            ns,
            "-k",
            text(kubeconfig.path()),
            "--to",
            &place,
        ])
        .args(["--s3-create-bucket", "-m=127.0.0.1:0"])
        .env_remove("KUBECONFIG")
        .envs(store.environment());
    let began = Instant::now();
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    store.until("edge.yml", services * endpoints).await;
    let first = began.elapsed();
    fanfare.wait_ready().await;
    let listed = proxy.calls().len();

    let mut took = Vec::with_capacity(changes);
    for n in 0..changes {
        // Addresses that were not there before.
        let address = format!("{{addresses: [172.16.{}.{}]}}", n / 250, n % 250 + 1);
        let changed = slice(ns, n % services, &[address]);
        tokio::time::sleep(QUIET).await;
        let before = fanfare.stderr.text().matches(WRITTEN).count();
        let expected = format!("172.16.{}.{}:8080", n / 250, n % 250 + 1);
        cluster.apply_yaml(&changed).await.unwrap_or_else(|e| panic!("a valid slice: {e}"));
        // The time starts at the acknowledgement and ends when Fanfare says that the store has the bytes. A store that is asked
        // again and again meanwhile would take the time that is measured.
        let sent = Instant::now();
        fanfare.stderr.wait("the change to be written", |log| log.matches(WRITTEN).count() > before).await;
        took.push(sent.elapsed());
        let there = store.endpoints("edge.yml").await;
        assert!(there.contains(&expected), "{expected} is in the store");
    }
    took.sort();
    let metrics = client::get(fanfare.admin(), "/metrics").await.text();
    let resident = metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    let resident: f64 = resident.and_then(|text| text.parse().ok()).expect("it is told");
    let puts =
        metrics.lines().filter(|line| line.starts_with("fanfare_export_puts_total") && line.contains("\"written\""));
    let puts: Vec<&str> = puts.filter_map(|line| line.rsplit(' ').next()).collect();
    let after = proxy.calls().len() - listed;
    println!(
        "| services | endpoints | first complete file | event to bytes p50 | p99 | resident | API requests at start | per change |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {services} | {} | {:.1} s | {:.0} ms | {:.0} ms | {:.0} MiB | {listed} | {:.2} |",
        services * endpoints,
        first.as_secs_f64(),
        percentile(&took, 50).as_secs_f64() * 1e3,
        percentile(&took, 99).as_secs_f64() * 1e3,
        resident / f64::from(1 << 20),
        after as f64 / changes as f64,
    );
    println!("({changes} changes, {} writes)", puts.join(" + "));
    assert!(after <= changes, "a change asks nothing: {after} requests");
    fanfare.signal(Signal::TERM);
    assert_eq!(fanfare.finish().await.code, Some(0));
}
