//! The body window: pieces are added, every leg writes them with vectored writes, and what all legs have written is released.

use std::io::IoSlice;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::bench::exchange::window::{Coding, Cursor, Window};

const LIMIT: usize = 256 * 1024;
/// Pieces of a body; each is one read from the client.
const PIECES: usize = 16;

fn pass(window: &mut Window, cursors: &mut [Cursor], piece: &Bytes, coding: Coding) -> usize {
    window.reset(LIMIT);
    cursors.fill(Cursor::default());
    let mut written = 0;
    for number in 1..=PIECES {
        window.push(piece.clone());
        if number == PIECES {
            window.finish();
        }
        for cursor in &mut *cursors {
            let mut slices = [IoSlice::new(b""); 64];
            let used = window.fill(*cursor, coding, &mut slices, 0);
            let bytes: usize = slices[..used].iter().map(|slice| slice.len()).sum();
            window.advance(cursor, coding, bytes);
            written += bytes;
        }
        let slowest = cursors.iter().min().copied().unwrap_or_default();
        window.trim(slowest);
    }
    assert!(window.is_empty(), "every leg has written everything");
    written
}

fn window(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window/16 pieces");
    for (name, size) in [("of 1 KiB", 1024), ("of 64 KiB", 64 * 1024)] {
        let piece = Bytes::from(vec![b'x'; size]);
        for legs in [1, 10, 100] {
            let mut cursors = vec![Cursor::default(); legs];
            // One leg and one piece.
            group.throughput(Throughput::Elements((legs * PIECES) as u64));
            for (framing, coding) in [("length", Coding::Identity), ("chunks", Coding::Chunked)] {
                let mut window = Window::default();
                group.bench_function(BenchmarkId::new(format!("{name}, {framing}, legs"), legs), |b| {
                    b.iter(|| pass(&mut window, &mut cursors, &piece, coding));
                });
            }
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    window(&mut criterion);
    criterion.final_summary();
}
