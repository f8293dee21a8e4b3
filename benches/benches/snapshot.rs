//! Loading and publishing snapshots of 10, 1,000 and 100,000 endpoints, in clusters of ten.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use criterion::{BenchmarkId, Criterion};
use snapshot::{Change, Cluster, Publisher, Reader};

const SIZES: [u32; 3] = [10, 1_000, 100_000];
const PER_CLUSTER: u32 = 10;

fn filled(endpoints: u32) -> (Publisher, Reader) {
    let (publisher, reader) = snapshot::channel();
    let clusters = (0..endpoints / PER_CLUSTER).map(|number| cluster(number, PER_CLUSTER));
    publisher.apply(clusters.map(Change::Set));
    (publisher, reader)
}

fn cluster(number: u32, endpoints: u32) -> Arc<Cluster> {
    benches::cluster(number, benches::endpoints(number * PER_CLUSTER, endpoints))
}

fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot/load");
    for size in SIZES {
        let (_publisher, reader) = filled(size);
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| black_box(reader.load()).version()));
        let name = format!("kube:shop/cache-{}:http", size / PER_CLUSTER / 2);
        group.bench_function(BenchmarkId::new("and look up a cluster", size), |b| {
            b.iter(|| black_box(reader.load().cluster(black_box(&name)).map(|cluster| cluster.endpoints().len())));
        });
    }
    // A reader must not wait for a writer.
    let (publisher, reader) = filled(1_000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let versions = [cluster(0, 9), cluster(0, 10)];
            for turn in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                publisher.apply([Change::Set(versions[turn % 2].clone())]);
            }
        });
        group.bench_function("1000 while it is published all the time", |b| {
            b.iter(|| black_box(reader.load()).version());
        });
        ended.store(true, Ordering::Relaxed);
    });
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot/publish");
    for size in SIZES {
        let (publisher, _reader) = filled(size);
        let versions = [cluster(0, 9), cluster(0, 10)];
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("a cluster that is made", size), |b| {
            b.iter(|| {
                turn += 1;
                publisher.apply([Change::Set(versions[turn % 2].clone())])
            });
        });
        group.bench_function(BenchmarkId::new("what changes nothing", size), |b| {
            let same = versions[turn % 2].clone();
            b.iter(|| publisher.apply([Change::Set(same.clone())]));
        });
    }
    let endpoints = [benches::endpoints(0, 9), benches::endpoints(0, 10)];
    let (publisher, _reader) = filled(100_000);
    let mut turn = 0;
    group.bench_function("100000, the cluster made from 10 endpoints", |b| {
        b.iter(|| {
            turn += 1;
            publisher.apply([Change::Set(benches::cluster(0, endpoints[turn % 2].clone()))])
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    load(&mut criterion);
    publish(&mut criterion);
    criterion.final_summary();
}
