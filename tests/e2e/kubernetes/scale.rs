//! Measures what many Services behind one wildcard cost: memory, and CPU for each event of the API server.
//!
//! `FANFARE_PROGRAM=target/release/fanfare FANFARE_SCALE=2000x5 cargo test -p fanfare --test e2e kubernetes::scale -- --nocapture` prints the
//! table in docs/performance.md. Without the variables it is a small run, which only shows that the measurement works.

use std::{fs, time::Duration};

use kubekit::cluster;
use testkit::client;

use crate::{
    discover::bed::{self, account, scale, text},
    process::Fanfare,
};

/// The number of Services, and of endpoints of each.
const SMALL: (usize, usize) = (20, 5);

/// The number of events.
const EVENTS: usize = 50;
const FEW: usize = 3;

/// The interval between two events: longer than a burst, so that each is published for itself.
const INTERVAL: Duration = Duration::from_millis(250);

/// A slice as the controller makes it, whose first endpoint is the pod with this number.
fn slice(namespace: &str, service: usize, each: usize, first: usize) -> String {
    let endpoint = |n: usize| {
        let number = service * each + n;
        let pod = if n == 0 { format!("s{number}-{first}") } else { format!("s{number}") };
        format!(
            "{{addresses: [10.{}.{}.{}], conditions: {{ready: true, serving: true, terminating: false}}, nodeName: node-{}, \
             zone: zone-{}, targetRef: {{kind: Pod, namespace: {namespace}, name: {pod}, uid: 4f9d3c8e-0000-4000-8000-{number:06}{first:06}}}}}",
            number / 65536 % 256,
            number / 256 % 256,
            number % 256,
            number % 100,
            number % 3,
        )
    };
    let endpoints: Vec<String> = (0..each).map(endpoint).collect();
    bed::slice(namespace, service, &endpoints)
}

/// The CPU time of a process so far.
fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it is running").flatten();
    let times = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(times.filter_map(|times| times.split(' ').next()?.parse::<u64>().ok()).sum())
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is running");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_behind_a_wildcard_reaches_the_route_and_costs_little() {
    let ((services, each), events) = scale().map_or((SMALL, FEW), |scale| (scale, EVENTS));
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let namespace = account.namespace();
    let made = (0..8).map(|part| {
        let cluster = &cluster;
        async move {
            for service in (part..services).step_by(8) {
                let yaml = slice(namespace, service, each, 0);
                cluster.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("a valid slice: {e}"));
            }
        }
    });
    futures::future::join_all(made).await;
    let every = format!("{namespace}/*");
    let flags = ["broadcast", "-i=127.0.0.1:0", "-m=127.0.0.1:0", "--threads=2", "--access-log=off", "-s", &every];
    let mut fanfare = Fanfare::start(flags.into_iter().chain(["-k", text(account.kubeconfig_path())]));
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    // What the first list has left behind is over by then: this is about the events.
    tokio::time::sleep(INTERVAL * 8).await;
    let (pid, waiting) = (fanfare.pid(), INTERVAL * u32::try_from(events).expect("few"));
    let before = cpu(pid);
    tokio::time::sleep(waiting).await;
    let at_rest = cpu(pid) - before;
    let (resident, before) = (resident(pid), cpu(pid));
    let mut ticks = tokio::time::interval(INTERVAL);
    for event in 0..events {
        ticks.tick().await;
        let changed = slice(namespace, event * services / events, each, event + 1);
        cluster.apply_yaml(&changed).await.unwrap_or_else(|e| panic!("a valid slice: {e}"));
    }
    tokio::time::sleep(INTERVAL).await;
    let spent = (cpu(pid) - before).saturating_sub(at_rest);
    for event in 0..events {
        let pod = format!("s{}-{}\"", event * services / events * each, event + 1);
        let known = async || client::get(fanfare.admin(), "/-/endpoints").await.text();
        testkit::eventually!(pod.clone(), known().await, |endpoints| endpoints.contains(&pod));
    }
    println!("| services | endpoints | resident | CPU per event |");
    println!("|---|---|---|---|");
    println!(
        "| {services} | {} | {:.1} MB | {:.2} ms |",
        services * each,
        resident as f64 / 1e6,
        spent.as_secs_f64() * 1e3 / events as f64,
    );
}
