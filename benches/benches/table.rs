//! From a change of one endpoint to the table that has it, with 10, 1,000 and 100,000 endpoints in all.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use proxy::{
    bench::{
        owed::Stores,
        table::{Inputs, Table, TableBuilder},
    },
    config::{AccessLog, Changes, Config, Limits, Listener, Policy, Route},
};
use snapshot::{Change, Cluster, Conditions};

const SIZES: [u32; 3] = [10, 1_000, 100_000];

/// Endpoints of a route at most.
const PER_ROUTE: u32 = 100;

fn configuration(clusters: &[Arc<Cluster>]) -> Config {
    let route = |(number, cluster): (usize, &Arc<Cluster>)| Route {
        name: format!("route-{number}").into(),
        matches: format!("/{number}").parse().expect("it is a match"),
        cluster: cluster.name().clone(),
        changes: Changes::default(),
        policy: Policy::default(),
    };
    let routes = clusters.iter().enumerate().map(route).collect();
    Config {
        listeners: vec![Listener::new(([127, 0, 0, 1], 0).into(), routes)],
        threads: 1,
        reuse_port: false,
        limits: Limits::default(),
        access_log: AccessLog::Off,
        endpoint_metrics: None,
        tracing: None,
    }
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table/one endpoint changes");
    for size in SIZES {
        let each = PER_ROUTE.min(size);
        let cluster = |number| benches::cluster(number, benches::endpoints(number * each, each));
        let clusters: Vec<Arc<Cluster>> = (0..size / each).map(cluster).collect();
        let config = Arc::new(configuration(&clusters));
        let (publisher, reader) = snapshot::channel();
        publisher.apply(clusters.into_iter().map(Change::Set));
        let versions = [Conditions::READY, Conditions::NOT_READY].map(|conditions| {
            let mut endpoints = benches::endpoints(0, each);
            endpoints[0].conditions = conditions;
            endpoints
        });
        let (access, secured, owed) = (Arc::default(), Arc::default(), Stores::default());
        let mut builder = TableBuilder::default();
        let mut next = |previous: Option<&Table>| {
            let snapshot = reader.load().clone();
            let inputs = Inputs {
                config: &config,
                secured: &secured,
                snapshot: &snapshot,
                bound: &[],
                access: &access,
                owed: &owed,
            };
            builder.next(previous, inputs).table
        };
        let mut table = next(None);
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                turn += 1;
                publisher.apply([Change::Set(benches::cluster(0, versions[turn % 2].clone()))]);
                table = next(Some(&table));
                black_box(table.version)
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    change(&mut criterion);
    criterion.final_summary();
}
