//! What may be allocated, in a program of its own, because its allocator counts. Its tests take turns: whatever else runs is counted.

mod http1;
mod http2;
mod table;

use std::{alloc::System, net::SocketAddr, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use proxy::{Running, Server, bench::setup, config::Policy};
use snapshot::{Change, Cluster, Endpoint, Place, Publisher};
use spans::Settings;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Waits until no other test runs.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
}

/// Settings of tracing by which every endpoint gets its own parent and no request is recorded, so that no collector is needed.
fn unrecorded() -> Settings {
    Settings { endpoint: "http://127.0.0.1:4317".parse().expect("a URL"), sample: "0".parse().expect("a ratio") }
}

/// Starts a proxy with one worker over these endpoints.
fn proxy_over(endpoints: &[SocketAddr], policy: Policy, tracing: Option<Settings>) -> (SocketAddr, Running, Publisher) {
    let mut route = setup::route("all", "cache");
    route.policy = policy;
    let name = route.cluster.clone();
    let (publisher, reader) = snapshot::channel();
    let endpoints: Vec<Endpoint<Place>> = endpoints.iter().map(|address| Endpoint::ready(*address).into()).collect();
    publisher.apply([Change::Set(Arc::new(Cluster::new(name, endpoints)))]);
    let mut config = setup::config(vec![route]);
    config.tracing = tracing;
    assert_eq!(config.check(), [], "a configuration that can be used");
    let server = Server::bind(config, reader).expect("a free port of loopback");
    (server.addresses()[0], server.start(), publisher)
}
