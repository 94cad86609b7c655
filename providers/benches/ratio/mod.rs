//! Throughput beside that of copying the same bytes, measured one after the other in the same run.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Whether this is a measurement, not a test of the bench.
pub(crate) fn is_asked() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Prints what `run` makes of the chunks in bytes a second, and the ratio to copying them.
pub(crate) fn print(what: &str, chunks: &[Vec<u8>], mut run: impl FnMut()) {
    let size: usize = chunks.iter().map(Vec::len).sum();
    let mut into = vec![0_u8; size];
    let copied = fastest(|| {
        let mut rest = into.as_mut_slice();
        for chunk in chunks {
            let (head, tail) = rest.split_at_mut(chunk.len());
            head.copy_from_slice(black_box(chunk));
            rest = tail;
        }
        black_box(&mut into);
    });
    let ran = fastest(&mut run);
    let rate = |time: Duration| size as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{what}: {size} bytes in {ran:?}, {:.2} GB/s; memcpy {:.2} GB/s; ratio 1:{:.1}",
        rate(ran),
        rate(copied),
        ran.as_secs_f64() / copied.as_secs_f64(),
    );
}

/// The fastest of many runs: what the work costs when nothing else interferes.
fn fastest(mut run: impl FnMut()) -> Duration {
    let deadline = Instant::now() + Duration::from_millis(400);
    let mut best = Duration::MAX;
    while Instant::now() < deadline {
        let began = Instant::now();
        run();
        best = best.min(began.elapsed());
    }
    best
}
