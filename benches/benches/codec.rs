//! Parsing of heads of requests and responses: in one step, or after a scan for their end.

use std::hint::black_box;

use benches::{LONG_REQUEST, LONG_RESPONSE, SHORT_REQUEST, SHORT_RESPONSE};
use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::bench::http::{Bounds, Fields, HeadScanner, LastHead, request::RequestHead, response::ResponseHead};

const BOUNDS: Bounds = Bounds { first_line: 16 * 1024, bytes: 64 * 1024, fields: 128 };
const TARGET: usize = 16 * 1024;

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/request");
    for (name, text) in [("short", SHORT_REQUEST), ("long", LONG_REQUEST)] {
        let bytes = Bytes::from_static(text.as_bytes());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("scan", name), |b| {
            b.iter(|| HeadScanner::default().scan(black_box(&bytes), &BOUNDS));
        });
        let mut fields = Fields::default();
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| {
                let recycled = std::mem::take(&mut fields);
                let head = RequestHead::parse(black_box(bytes.clone()), TARGET, recycled);
                // As on a connection: the next head reuses the list's memory.
                fields = head.expect("it is a good head").fields.recycle();
            });
        });
        // Includes the copy of the bytes into the buffer.
        let mut buffer = BytesMut::new();
        group.bench_function(BenchmarkId::new("take", name), |b| {
            b.iter(|| {
                buffer.extend_from_slice(black_box(&bytes));
                let head = RequestHead::take(&mut buffer, &BOUNDS, TARGET, &mut fields);
                fields = head.expect("a whole one").expect("a good one").fields.recycle();
            });
        });
    }
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/response");
    for (name, text) in [("short", SHORT_RESPONSE), ("long", LONG_RESPONSE)] {
        let bytes = Bytes::from_static(text.as_bytes());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("scan", name), |b| {
            b.iter(|| HeadScanner::default().scan(black_box(&bytes), &BOUNDS));
        });
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| ResponseHead::parse(black_box(bytes.clone())));
        });
        let (mut buffer, mut head, mut last) = (BytesMut::new(), ResponseHead::default(), LastHead::default());
        group.bench_function(BenchmarkId::new("take again", name), |b| {
            b.iter(|| {
                buffer.extend_from_slice(black_box(&bytes));
                head.take(&mut buffer, &BOUNDS, &mut last).expect("a whole one").expect("a good one");
                head.clear();
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    requests(&mut criterion);
    responses(&mut criterion);
    criterion.final_summary();
}
