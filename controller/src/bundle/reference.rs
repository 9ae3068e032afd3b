//! The drift reference: summaries of the training sample that live data is compared with.

use std::path::Path;

use tidegate_drift::{DriftConfig, NumericReference, OutputSummary};
use tidegate_wire::manifest::{DriftReference, Task};

use super::description::Description;
use super::error::BundleError;
use super::npz::{Npz, Rows};

/// Elements of a row that can be watched one by one: as many as fit into a report.
pub const FEATURES_MAX: usize = 1000;

/// Reads `input.<first input>`, the training rows, and `output.<first output>` if it is there.
pub(super) fn read(
    path: &Path,
    description: &Description,
    notes: &mut Vec<String>,
) -> Result<DriftReference, BundleError> {
    let mut npz = Npz::open(path)?;
    let (inputs, outputs) = (description.input_specs(), description.output_specs());
    let input_names = inputs.iter().map(|spec| format!("input.{}", spec.name));
    let output_names = outputs.iter().map(|spec| format!("output.{}", spec.name));
    npz.only(&input_names.chain(output_names).collect::<Vec<_>>())?;
    let features = features(&mut npz, description, notes)?;
    let name = format!("output.{}", outputs[0].name);
    let outputs = match description.task {
        Task::Classification if npz.has(&name) => {
            let classes = outputs[0].row_len();
            let values = npz.tensor(&name, &outputs[0], Rows::Many)?.values();
            // One number is the probability of the second of two classes.
            let mut summary = OutputSummary::new(classes.max(2));
            values.chunks_exact(classes).for_each(|row| summary.observe(row));
            if summary.invalid() > 0 {
                let invalid = summary.invalid();
                return Err(npz.wrong(format!(
                    "{invalid} rows of {name:?} are no class probabilities (negative, or not \
                     finite): does the model end in a softmax?"
                )));
            }
            Some(summary)
        }
        Task::Classification => {
            notes.push(format!("{name:?} is not in the reference: outputs have no reference"));
            None
        }
        Task::Regression | Task::Embedding | Task::Generation => None,
    };
    Ok(DriftReference { features, outputs })
}

fn features(
    npz: &mut Npz,
    description: &Description,
    notes: &mut Vec<String>,
) -> Result<Vec<NumericReference>, BundleError> {
    let (section, spec) = (&description.inputs[0], &description.input_specs()[0]);
    let name = format!("input.{}", spec.name);
    let width = spec.row_len();
    if width > FEATURES_MAX {
        notes.push(format!(
            "a row of {:?} has {width} elements, at most {FEATURES_MAX} are watched one by one: \
             drift of live inputs is not watched",
            spec.name
        ));
        return Ok(Vec::new());
    }
    let values = npz.tensor(&name, spec, Rows::Many)?.values();
    let config = DriftConfig::default();
    let mut features = Vec::with_capacity(width);
    for feature in 0..width {
        let mut column: Vec<f32> = values.iter().skip(feature).step_by(width).copied().collect();
        let range = match section.range {
            Some([low, high]) => Some((low, high)),
            None => trained_range(&column),
        };
        let reference = NumericReference::from_sample(&mut column, range, width as u32, &config)
            .map_err(|error| npz.wrong(format!("{name:?}, element {feature}: {error}")))?;
        features.push(reference);
    }
    Ok(features)
}

/// Where a feature's values may lie according to its training sample: half the sample's spread
/// beyond either end, since a sample seldom holds the extremes. A constant says nothing.
fn trained_range(column: &[f32]) -> Option<(f32, f32)> {
    let finite = column.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite.fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low >= high {
        return None;
    }
    let margin = (f64::from(high) - f64::from(low)) / 2.0;
    let low = (f64::from(low) - margin).max(f64::from(f32::MIN)) as f32;
    let high = (f64::from(high) + margin).min(f64::from(f32::MAX)) as f32;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_reaches_half_a_spread_beyond_the_sample() {
        assert_eq!(trained_range(&[1.0, 0.0, f32::NAN]), Some((-0.5, 1.5)));
        assert_eq!(trained_range(&[f32::MIN, f32::MAX]), Some((f32::MIN, f32::MAX)));
        assert_eq!(trained_range(&[3.0, 3.0]), None);
        assert_eq!(trained_range(&[]), None);
    }
}
