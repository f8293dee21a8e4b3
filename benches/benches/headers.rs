//! Rewriting of heads: the head that all legs share, and the head of the answer.

use std::hint::black_box;

use benches::{LONG_REQUEST, LONG_RESPONSE, SHORT_REQUEST, SHORT_RESPONSE};
use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::{
    bench::{
        headers::{self, AnswerFraming, Forwarding},
        http::response::ResponseHead,
    },
    config::FieldEdits,
};

fn legs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers/leg head");
    let via = "fanfare-shop-cache-66bc8cd34a2d3cbb";
    for (name, text) in [("short", SHORT_REQUEST), ("long", LONG_REQUEST)] {
        let head = benches::request(text);
        group.throughput(Throughput::Bytes(text.len() as u64));
        for (who, trusted) in [("from an untrusted client", false), ("from a trusted client", true)] {
            let forwarding = Forwarding { client: "192.0.2.9", trusted, via, ..Forwarding::default() };
            group.bench_function(BenchmarkId::new(who, name), |b| {
                b.iter(|| headers::leg_head(black_box(&head), black_box(&forwarding)));
            });
        }
    }
    group.finish();
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers/rules");
    let via = "fanfare-shop-cache-66bc8cd34a2d3cbb";
    for (name, text) in [("short", SHORT_REQUEST), ("long", LONG_REQUEST)] {
        let head = benches::request(text);
        group.bench_function(BenchmarkId::new("loop detection", name), |b| {
            b.iter(|| headers::has_passed(black_box(&head), via));
        });
        group.bench_function(BenchmarkId::new("whether a report is requested", name), |b| {
            b.iter(|| headers::wants_report(black_box(&head)));
        });
    }
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers/answer");
    for (name, text) in [("short", SHORT_RESPONSE), ("long", LONG_RESPONSE)] {
        let head = ResponseHead::parse(Bytes::from_static(text.as_bytes())).expect("it is a good head");
        let mut out = BytesMut::with_capacity(4096);
        let edits = FieldEdits::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                headers::put_answer(&mut out, black_box(&head), AnswerFraming::Length(3), &edits);
                out.len()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    legs(&mut criterion);
    rules(&mut criterion);
    answers(&mut criterion);
    criterion.final_summary();
}
