//! Reports about the legs: the two header fields of every answer, and the JSON report of 3, 10 and 100 legs.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::{
    bench::{
        exchange::{
            Exchange, Request,
            budget::Budget,
            quorum::{Decision, Quorum},
            window::Coding,
        },
        report::{self, About},
        setup::{self, Tables},
    },
    config::{Limits, Members, Require},
};
use snapshot::{Change, Conditions};

/// An exchange whose legs have all ended without any I/O: none of its endpoints is ready.
fn ended(legs: u32) -> Box<Exchange> {
    let (publisher, reader) = snapshot::channel();
    let endpoints = (0..legs).map(|number| benches::endpoint(number, Conditions::NOT_READY)).collect();
    let cluster = benches::cluster(0, endpoints);
    let mut route = setup::route("cache", cluster.name().as_str());
    route.policy.members = Members::Known;
    publisher.apply([Change::Set(cluster)]);
    let table = Tables::new(setup::config(vec![route]), reader).next(None).table;
    let route = table.listeners[0].routes[0].clone();
    let request = Request {
        method: b"GET",
        is_idempotent: true,
        coding: Coding::Identity,
        has_body: false,
        wants_report: true,
        excerpt: 0,
        worker: 0,
        is_grpc: false,
        time_left: None,
    };
    let limits = Limits::default();
    let mut exchange = Exchange::new(&route, &request, &Budget::new(limits.buffered), &limits);
    exchange.begin(|_| {});
    assert_eq!(exchange.legs().len(), legs as usize);
    assert!(exchange.legs().iter().all(|leg| leg.result().is_some()), "every leg has ended");
    exchange
}

fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("report/json, legs");
    let about = About {
        id: "0af7651916cd43dd8448eb211c80319c",
        trace: None,
        version: snapshot::Version::default(),
        method: b"PURGE",
        target: b"/cache/logo.png",
    };
    for legs in [3, 10, 100] {
        let exchange = ended(legs);
        group.throughput(Throughput::Elements(u64::from(legs)));
        group.bench_function(BenchmarkId::from_parameter(legs), |b| {
            b.iter(|| report::report(black_box(&exchange), about, Decision::Failure));
        });
    }
    group.finish();
}

fn fields(criterion: &mut Criterion) {
    let mut quorum = Quorum::new(Require::All, 10);
    (0..10).for_each(|_| quorum.record(true));
    let mut out = BytesMut::with_capacity(1024);
    criterion.bench_function("report/fields of an answer", |b| {
        b.iter(|| {
            out.clear();
            report::put_headers(&mut out, black_box(&quorum), Some("10.0.0.1:8080"));
            out.len()
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    json(&mut criterion);
    fields(&mut criterion);
    criterion.final_summary();
}
