//! Nanoseconds per observed value: `cargo bench -p tidegate-drift`. No harness, no dependency: one
//! loop long enough to be timed by the clock, best of several passes.

use std::hint::black_box;
use std::time::Instant;

use tidegate_drift::{
    DriftConfig, LagCorrelation, NumericReference, NumericSummary, OutputSummary,
};

const COLUMNS: usize = 20;
const ROWS: usize = 50_000;
const PASSES: usize = 9;

fn main() {
    let values = normals(ROWS * COLUMNS);
    let config = DriftConfig::default();
    let mut sample = values[..10_000].to_vec();
    let reference =
        NumericReference::from_sample(&mut sample, Some((-8.0, 8.0)), 20, &config).unwrap();

    let one = best_of(|| {
        let mut summary = NumericSummary::default();
        for &x in &values {
            summary.observe(black_box(&reference), x);
        }
        black_box(summary);
    });
    print("observe, one column", one, values.len());

    let lagged = best_of(|| {
        let (mut summary, mut lag) = (NumericSummary::default(), LagCorrelation::default());
        for &x in &values {
            if let Some(bin) = summary.observe(black_box(&reference), x) {
                lag.observe(bin);
            }
        }
        black_box((summary, lag));
    });
    print("observe with lag, one column", lagged, values.len());

    let references = [reference; COLUMNS];
    let rows = best_of(|| {
        let mut summaries = [NumericSummary::default(); COLUMNS];
        for row in values.chunks_exact(COLUMNS) {
            for ((summary, reference), &x) in summaries.iter_mut().zip(&references).zip(row) {
                summary.observe(black_box(reference), x);
            }
        }
        black_box(summaries);
    });
    print("observe, 20 columns a row", rows, values.len());
    println!("{:<32}{:>10.0} rows/s", "rows of 20 columns", ROWS as f64 / rows);

    let mut summary = NumericSummary::default();
    for &x in &values[..1_000] {
        summary.observe(&reference, x);
    }
    let tests = best_of(|| {
        for _ in 0..1_000 {
            black_box(reference.test(black_box(&summary.bins), 20, &config));
        }
    });
    print("decision, one feature", tests, 1_000);

    let answer = [0.05_f32, 0.7, 0.1, 0.02, 0.03, 0.02, 0.03, 0.02, 0.01, 0.02];
    let answers = best_of(|| {
        let mut summary = OutputSummary::new(10);
        for _ in 0..100_000 {
            summary.observe(black_box(&answer));
        }
        black_box(summary);
    });
    print("answer of 10 classes", answers, 100_000);
}

fn best_of(mut pass: impl FnMut()) -> f64 {
    let times = (0..PASSES).map(|_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn print(what: &str, seconds: f64, times: usize) {
    println!("{what:<32}{:>10.2} ns", seconds / times as f64 * 1e9);
}

/// Sums of twelve uniforms: normal enough to spread over all bins, and unpredictable to branches.
fn normals(count: usize) -> Vec<f32> {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1_u32 << 24) as f32
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}
