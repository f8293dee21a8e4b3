//! From a change of one endpoint to the table that has it, with 10, 1,000 and 100,000 endpoints in all.

use std::{hint::black_box, sync::Arc};

use access::sources::Sources;
use criterion::{BenchmarkId, Criterion};
use proxy::{
    bench::{
        owed::Stores,
        table::{Inputs, Table, TableBuilder},
    },
    config::{AccessLog, Changes, Config, Limits, Listener, Policy, Route},
    secured::Secured,
};
use snapshot::{Change, Cluster, Conditions, Publisher, Reader};

const SIZES: [u32; 3] = [10, 1_000, 100_000];

/// Endpoints of a route at most.
const PER_ROUTE: u32 = 100;

/// A data plane without its listeners.
struct Plane {
    config: Arc<Config>,
    secured: Arc<Secured>,
    access: Arc<Sources>,
    publisher: Publisher,
    reader: Reader,
    builder: TableBuilder,
}

impl Plane {
    fn new(endpoints: u32) -> Self {
        let each = PER_ROUTE.min(endpoints);
        let (publisher, reader) = snapshot::channel();
        let clusters: Vec<Arc<Cluster>> = (0..endpoints / each)
            .map(|number| benches::cluster(number, benches::endpoints(number * each, each)))
            .collect();
        let route = |(number, cluster): (usize, &Arc<Cluster>)| Route {
            name: format!("route-{number}").into(),
            matches: format!("/{number}").parse().expect("it is a match"),
            cluster: cluster.name().clone(),
            changes: Changes::default(),
            policy: Policy::default(),
        };
        let routes = clusters.iter().enumerate().map(route).collect();
        let config = Config {
            listeners: vec![Listener::new(([127, 0, 0, 1], 0).into(), routes)],
            threads: 1,
            reuse_port: false,
            limits: Limits::default(),
            access_log: AccessLog::Off,
            endpoint_metrics: None,
        };
        publisher.apply(clusters.into_iter().map(Change::Set));
        Self {
            config: Arc::new(config),
            secured: Arc::default(),
            access: Arc::default(),
            publisher,
            reader,
            builder: TableBuilder::default(),
        }
    }

    fn next(&mut self, previous: Option<&Table>) -> Table {
        let snapshot = self.reader.load().clone();
        let inputs = Inputs {
            config: &self.config,
            secured: &self.secured,
            snapshot: &snapshot,
            bound: &[],
            access: &self.access,
            owed: &Stores::default(),
        };
        self.builder.next(previous, inputs).table
    }
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table/one endpoint changes");
    for size in SIZES {
        let mut plane = Plane::new(size);
        let versions = [Conditions::READY, Conditions::NOT_READY].map(|conditions| {
            let mut endpoints = benches::endpoints(0, PER_ROUTE.min(size));
            endpoints[0].conditions = conditions;
            endpoints
        });
        let mut table = plane.next(None);
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                turn += 1;
                let cluster = benches::cluster(0, versions[turn % 2].clone());
                plane.publisher.apply([Change::Set(cluster)]);
                table = plane.next(Some(&table));
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
