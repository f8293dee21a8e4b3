//! From a change of one endpoint to the table that has it, with 10, 1,000 and 100,000 endpoints in all.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use proxy::{
    bench::setup::{self, Tables},
    config::Route,
};
use snapshot::{Change, Cluster, Conditions};

const SIZES: [u32; 3] = [10, 1_000, 100_000];

/// Endpoints of a route at most.
const PER_ROUTE: u32 = 100;

fn route((number, cluster): (usize, &Arc<Cluster>)) -> Route {
    let matches = format!("/{number}").parse().expect("it is a match");
    Route { matches, ..setup::route(&format!("route-{number}"), cluster.name().as_str()) }
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table/one endpoint changes");
    for size in SIZES {
        let each = PER_ROUTE.min(size);
        let cluster = |number| benches::cluster(number, benches::endpoints(number * each, each));
        let clusters: Vec<Arc<Cluster>> = (0..size / each).map(cluster).collect();
        let config = setup::config(clusters.iter().enumerate().map(route).collect());
        let (publisher, reader) = snapshot::channel();
        publisher.apply(clusters.into_iter().map(Change::Set));
        let versions = [Conditions::READY, Conditions::NOT_READY].map(|conditions| {
            let mut endpoints = benches::endpoints(0, each);
            endpoints[0].conditions = conditions;
            endpoints
        });
        let mut tables = Tables::new(config, reader);
        let mut table = tables.next(None).table;
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                turn += 1;
                publisher.apply([Change::Set(benches::cluster(0, versions[turn % 2].clone()))]);
                table = tables.next(Some(&table)).table;
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
