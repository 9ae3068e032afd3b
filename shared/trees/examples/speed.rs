//! How long an ensemble takes for a row: `speed FILE ROWS`, where FILE is what the bundle tool
//! makes of a forest and ROWS little-endian floats. Prints microseconds for one row at a time.

use std::time::Instant;

use tidegate_trees::{Ensemble, Scores};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, rows] = &arguments[..] else { panic!("speed FILE ROWS") };
    let ensemble = Ensemble::decode(&std::fs::read(file).expect("FILE is there")).expect("FILE");
    let bytes = std::fs::read(rows).expect("ROWS is there");
    let (whole, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = whole.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    let columns = ensemble.columns();
    let width = std::env::var("COLUMNS_OF_ROW").ok().and_then(|text| text.parse().ok());
    let width = width.unwrap_or(columns);
    let mut scores = Scores::default();
    let mut best = f64::INFINITY;
    let mut check = 0.0;
    for _ in 0..20 {
        let started = Instant::now();
        for row in values.chunks_exact(width) {
            ensemble.run_f32(row, 1, &mut scores);
            check += f64::from(scores.values[0]);
        }
        let each = started.elapsed().as_secs_f64() / (values.len() / width) as f64;
        best = best.min(each);
    }
    println!("{:.3} us a row ({} trees, check {check:.3})", best * 1e6, ensemble.trees());
}
