//! Models alone, in this process: how long one row takes, and one of several at once.
//!
//! `engines PACKED...`, folders that `tidegate model pack` wrote; one line of JSON each. Inputs are
//! the golden ones, one row at a time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tidegate_agent::alone;
use tidegate_agent::engine::{Tensor, Values};
use tidegate_agent::serving::{LoadedModel, read_golden};
use tidegate_bench::{Bounds, Times};

/// Rows at once in the second measurement.
const ROWS: usize = 8;

#[derive(Debug, Parser)]
struct Arguments {
    /// Folders that `tidegate model pack` wrote.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Time for one measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut code = ExitCode::SUCCESS;
    for folder in &arguments.folders {
        match measure(folder, arguments.seconds) {
            Ok(figures) => println!("{figures}"),
            Err(error) => {
                eprintln!("engines: {}: {error}", folder.display());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn measure(folder: &Path, seconds: f64) -> Result<serde_json::Value, String> {
    let model = alone::load(folder).map_err(|error| error.to_string())?;
    let golden = read_golden(folder, &model.manifest).map_err(|error| error.to_string())?;
    let golden = golden.ok_or("it has no golden set")?;
    let find = |name: &str| golden.inputs.iter().find(|tensor| tensor.name == name);
    let inputs: Option<Vec<Tensor>> =
        model.manifest.inputs.iter().map(|spec| find(&spec.name).map(Tensor::from)).collect();
    let inputs = inputs.ok_or("its golden set lacks an input")?;
    let rows = inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(1);
    let one = times(&model, &rows_of(&inputs, rows, 1), seconds)?;
    let many = times(&model, &rows_of(&inputs, rows, ROWS), seconds)?;
    Ok(json!({
        "model": model.manifest.model,
        "engine": model.manifest.engine,
        "load_ms": model.load_ms,
        "rows": ROWS,
        "p50_us": one.at_us(0.5),
        "p99_us": one.at_us(0.99),
        "rows_p50_us": many.at_us(0.5),
    }))
}

fn times(model: &LoadedModel, inputs: &[Tensor], seconds: f64) -> Result<Times, String> {
    let bounds = |seconds, runs_max| Bounds {
        runs_min: 3,
        runs_max,
        time: Duration::from_secs_f64(seconds),
    };
    let mut run = |_| model.run(inputs).map(drop).map_err(|error| error.to_string());
    Times::measure(bounds(seconds / 5.0, 1_000), &mut run)?;
    Times::measure(bounds(seconds, 200_000), &mut run)
}

/// `count` rows of `inputs`, which have `rows`; the last one again where there are not enough.
fn rows_of(inputs: &[Tensor], rows: usize, count: usize) -> Vec<Tensor> {
    let cut = |input: &Tensor| {
        let row = input.values.len() / rows.max(1);
        let place = |index: usize| (index / row).min(rows - 1) * row + index % row;
        let values = match &input.values {
            Values::F32(all) => Values::F32((0..count * row).map(|at| all[place(at)]).collect()),
            Values::I64(all) => Values::I64((0..count * row).map(|at| all[place(at)]).collect()),
            other => Values::zeros(other.datatype(), count * row),
        };
        let mut shape = input.shape.clone();
        shape[0] = count;
        Tensor { shape, values }
    };
    inputs.iter().map(cut).collect()
}
