//! One EndpointSlice among 10,000: taking it in, and making the view of its Service again.

use controlplane::index::Index;
use criterion::Criterion;

const SLICES: u32 = 10_000;

fn apply(criterion: &mut Criterion) {
    let mut index = Index::default();
    for number in 0..SLICES {
        let slice = serde_json::from_value(benches::slice(number, true)).expect("it is an EndpointSlice");
        index.apply(&slice);
    }
    // Every view is made once; from here on only what changes is.
    assert_eq!(index.views().len(), SLICES as usize / 2);
    let versions = [false, true]
        .map(|ready| serde_json::from_value(benches::slice(SLICES / 2, ready)).expect("it is an EndpointSlice"));
    let mut group = criterion.benchmark_group("index/one slice of 10 endpoints among 10000");
    let mut turn = 0;
    group.bench_function("changed", |b| {
        b.iter(|| {
            turn += 1;
            index.apply(&versions[turn % 2]);
        });
    });
    group.bench_function("unchanged", |b| b.iter(|| index.apply(&versions[turn % 2])));
    group.bench_function("changed, and all 5000 views looked at", |b| {
        b.iter(|| {
            turn += 1;
            index.apply(&versions[turn % 2]);
            index.views().len()
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    apply(&mut criterion);
    criterion.final_summary();
}
