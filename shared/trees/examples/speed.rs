//! How long an ensemble takes for a row: `speed FILE ROWS COLUMNS`, where FILE is `model` in a folder
//! that `tidegate model pack` wrote, and ROWS are little-endian floats. One row at a time; of twenty
//! passes the best time of every few rows counts, so that other programs' turns do not.

use std::time::{Duration, Instant};

use tidegate_trees::{Ensemble, Scores};

/// Rows whose time is taken together.
const TOGETHER: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, rows, columns] = &arguments[..] else { panic!("speed FILE ROWS COLUMNS") };
    let ensemble = Ensemble::decode(&std::fs::read(file).expect("FILE is there")).expect("FILE");
    let columns: usize = columns.parse().expect("COLUMNS is a number");
    let bytes = std::fs::read(rows).expect("ROWS is there");
    let (whole, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = whole.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    let parts: Vec<&[f32]> = values.chunks_exact(columns * TOGETHER).collect();
    let mut best = vec![Duration::MAX; parts.len()];
    let (mut scores, mut check) = (Scores::default(), 0.0);
    for _ in 0..20 {
        for (part, best) in parts.iter().zip(&mut best) {
            let started = Instant::now();
            for row in part.chunks_exact(columns) {
                ensemble.run_f32(row, 1, &mut scores);
                check += f64::from(scores.values[0]);
            }
            *best = started.elapsed().min(*best);
        }
    }
    let each = best.iter().sum::<Duration>().as_secs_f64() / (parts.len() * TOGETHER) as f64;
    println!("{:.2} us a row ({} trees, check {check:.3})", each * 1e6, ensemble.trees());
}
