//! One event of an EndpointSlice among 10, 1,000 and 100,000 endpoints: applying it, and rebuilding the view of its Service.

use controlplane::index::Index;
use criterion::{BenchmarkId, Criterion};

const SIZES: [u32; 3] = [10, 1_000, 100_000];
/// Endpoints of each slice; a Service has two slices.
const PER_SLICE: u32 = 10;

fn filled(slices: u32) -> Index {
    let mut index = Index::default();
    for number in 0..slices {
        let slice = serde_json::from_value(benches::slice(number, true)).expect("it is an EndpointSlice");
        index.apply(&slice);
    }
    // Builds every view once, so that only changed ones are built below.
    assert_eq!(index.views().len(), slices.div_ceil(2) as usize);
    index
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/one slice of 10 endpoints");
    for size in SIZES {
        let slices = size / PER_SLICE;
        let mut index = filled(slices);
        let versions = [false, true]
            .map(|ready| serde_json::from_value(benches::slice(slices / 2, ready)).expect("it is an EndpointSlice"));
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("changed", size), |b| {
            b.iter(|| {
                turn += 1;
                index.apply(&versions[turn % 2]);
            });
        });
        group.bench_function(BenchmarkId::new("unchanged", size), |b| b.iter(|| index.apply(&versions[turn % 2])));
        // A reader holds the old views, so that they cannot be changed in place.
        let mut held = index.views();
        group.bench_function(
            BenchmarkId::new("changed, and its view made again while the old ones are held", size),
            |b| {
                b.iter(|| {
                    turn += 1;
                    index.apply(&versions[turn % 2]);
                    held = index.views();
                    held.len()
                });
            },
        );
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    apply(&mut criterion);
    criterion.final_summary();
}
