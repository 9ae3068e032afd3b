//! The model is loaded and asked its golden set, as every device will do.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_agent::engine::{self, Engine, EngineError, Tensor, Values};
use tidegate_lifecycle::gates::{GoldenTally, same_class};
use tidegate_wire::policy::SelfTestPolicy;
use tidegate_wire::tensor::TensorData;

use super::error::{BundleError, GoldenMismatch};
use super::{Bundle, BundleFile};

/// What the model showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Golden rows compared.
    pub rows: u32,
    /// Largest absolute deviation from the golden outputs.
    pub worst: f64,
    /// Time to load.
    pub load: Duration,
    /// Time to answer one row, on this machine.
    pub per_row: Duration,
}

/// Loads the bundle's model with the devices' engine and compares its golden outputs.
///
/// The engine sees only the bytes that devices will get.
///
/// # Errors
/// [`BundleError::Engine`] if the model cannot run on devices, [`BundleError::Golden`] if its
/// answers are not the golden ones.
pub fn check(bundle: &Bundle) -> Result<Checked, BundleError> {
    let started = Instant::now();
    let engine = load(bundle)?;
    let load = started.elapsed();
    let golden = &bundle.golden;
    // Inputs in the manifest's order, as the golden set has them.
    let inputs: Vec<Tensor> = golden.inputs.iter().map(Tensor::from).collect();
    let started = Instant::now();
    let answers = engine.run(&inputs).map_err(|error| engine_error(bundle, error))?;
    let elapsed = started.elapsed();
    let policy = &bundle.manifest.gates.self_test;
    let mut tally = GoldenTally::default();
    let mut worst: Option<GoldenMismatch> = None;
    for (spec, answer) in bundle.manifest.outputs.iter().zip(&answers) {
        let Some(expected) = golden.outputs.iter().find(|tensor| tensor.name == spec.name) else {
            continue;
        };
        if let Values::Bytes(found) = &answer.values {
            compare_texts(expected, found, spec.row_len(), &mut tally)?;
            continue;
        }
        let found = answer.values.as_f32();
        compare(expected, &found, spec.row_len(), policy, &mut tally, &mut worst);
    }
    let rows = tally.rows;
    if tally.verdict(policy).is_err() {
        return Err(BundleError::Golden(Box::new(worst.unwrap_or_default())));
    }
    Ok(Checked { rows, worst: tally.worst, load, per_row: elapsed / rows.max(1) })
}

fn load(bundle: &Bundle) -> Result<Box<dyn Engine>, BundleError> {
    let folder = tempfile::tempdir().map_err(BundleError::Temporary)?;
    for file in &bundle.files {
        let path = folder.path().join(file.role.name());
        fs::write(path, &file.bytes).map_err(BundleError::Temporary)?;
    }
    engine::load(folder.path(), &bundle.manifest).map_err(|error| engine_error(bundle, error))
}

/// The publisher knows files by their own paths, not by those of the copies.
fn engine_error(bundle: &Bundle, error: EngineError) -> BundleError {
    let own = |copy: &Path| {
        let named = |file: &&BundleFile| copy.file_name() == Some(file.role.name().as_ref());
        let file = bundle.files.iter().find(named);
        file.and_then(|file| file.origin.as_ref()).unwrap_or(&bundle.model_path).clone()
    };
    let error = match error {
        EngineError::NotOnnx { file, detail } => EngineError::NotOnnx { file: own(&file), detail },
        EngineError::Prepare { file, detail } => EngineError::Prepare { file: own(&file), detail },
        EngineError::Unreadable { file, source } => {
            EngineError::Unreadable { file: own(&file), source }
        }
        EngineError::Architecture { file, found, known } => {
            EngineError::Architecture { file: own(&file), found, known }
        }
        other => other,
    };
    BundleError::Engine { path: bundle.model_path.clone(), error }
}

/// Adds one output of strings to the tally.
///
/// # Errors
/// [`BundleError::GoldenText`] for the first string that is another.
fn compare_texts(
    expected: &TensorData,
    found: &[Vec<u8>],
    width: usize,
    tally: &mut GoldenTally,
) -> Result<(), BundleError> {
    let tensor = Tensor::from(expected);
    let Values::Bytes(golden) = &tensor.values else { return Ok(()) };
    let text = |bytes: Option<&Vec<u8>>| {
        String::from_utf8_lossy(bytes.map_or(&[], Vec::as_slice)).into_owned()
    };
    for (place, golden) in golden.iter().enumerate() {
        if found.get(place) != Some(golden) {
            return Err(BundleError::GoldenText {
                tensor: expected.name.clone(),
                row: place / width.max(1),
                expected: text(Some(golden)),
                found: text(found.get(place)),
            });
        }
    }
    (0..golden.len() / width.max(1)).for_each(|_| tally.observe_text(true));
    Ok(())
}

/// Adds one output tensor to the tally and remembers where it is farthest off.
fn compare(
    expected: &TensorData,
    found: &[f32],
    width: usize,
    policy: &SelfTestPolicy,
    tally: &mut GoldenTally,
    worst: &mut Option<GoldenMismatch>,
) {
    let tensor = Tensor::from(expected);
    let golden = tensor.values.as_f32();
    let width = width.max(1);
    for (row, expected_row) in golden.chunks(width).enumerate() {
        let found_row = found.get(row * width..).unwrap_or_default();
        let found_row = &found_row[..found_row.len().min(width)];
        let outside = tally.outside;
        tally.observe(policy, expected_row, found_row);
        let outside = tally.outside > outside;
        let other_class = !same_class(expected_row, found_row);
        let mismatch = worst.get_or_insert_with(|| GoldenMismatch {
            tensor: expected.name.clone(),
            tolerance: (policy.atol, policy.rtol),
            ..GoldenMismatch::default()
        });
        mismatch.rows += 1;
        mismatch.rows_outside += usize::from(outside);
        mismatch.rows_other_class += usize::from(other_class);
        for (element, expected_value) in expected_row.iter().enumerate() {
            let found = found_row.get(element).map_or(f64::NAN, |value| f64::from(*value));
            let expected_value = f64::from(*expected_value);
            if mismatch.is_worse(expected_value, found) {
                (mismatch.tensor, mismatch.row) = (expected.name.clone(), row);
                (mismatch.element, mismatch.expected) = (element, expected_value);
                mismatch.found = found;
            }
        }
    }
}
