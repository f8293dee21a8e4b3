//! The quorum: counting every outcome of a request, and reading the decision after each.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::{bench::exchange::quorum::Quorum, config::Require};

fn policy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for legs in [3_usize, 10, 50] {
        group.throughput(Throughput::Elements(legs as u64));
        for require in ["all", "any", "majority", "67%"] {
            let parsed: Require = require.parse().expect("it is a policy");
            group.bench_function(BenchmarkId::new(require, legs), |b| {
                b.iter(|| {
                    let mut quorum = Quorum::new(black_box(parsed), black_box(legs));
                    let mut decision = quorum.decision();
                    for leg in 0..legs {
                        quorum.record(black_box(leg % 4 != 3));
                        decision = decision.or(quorum.decision());
                    }
                    (quorum, decision)
                });
            });
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    policy(&mut criterion);
    criterion.final_summary();
}
