//! ONNX to NNEF, where the golden set comes out the same.

use std::fs;
use std::path::Path;

use tidegate_agent::engine::{self, EngineError, TRACT_NNEF, TRACT_ONNX, Tensor};
use tidegate_wire::manifest::FileRole;
use tidegate_wire::tensor::GoldenSet;

use super::description::Description;

/// How far two answers may lie apart that count as the same, absolute and relative. Both engines
/// are tract, so most often they are the same to the last bit; sums may be made in another order.
const TOLERANCE: f32 = 1e-5;

/// Why a model stays as it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotConverted {
    /// It does not run as ONNX either, or not on the golden set: the check says why.
    NotLoaded,
    /// It runs as ONNX, but cannot be converted, or answers otherwise then.
    Refused(String),
}

/// The NNEF archive for the ONNX file `onnx`.
pub(super) fn converted(
    onnx: &[u8],
    description: &Description,
    golden: &GoldenSet,
) -> Result<Vec<u8>, NotConverted> {
    let refused = |error: EngineError| match error {
        EngineError::Prepare { detail, .. } => NotConverted::Refused(detail),
        other => NotConverted::Refused(other.to_string()),
    };
    let inputs: Vec<Tensor> = golden.inputs.iter().map(Tensor::from).collect();
    let folder = tempfile::tempdir().map_err(|_| NotConverted::NotLoaded)?;
    let answers = |name: &'static str, bytes: &[u8]| {
        let own = folder.path().join(name);
        put(&own, bytes).map_err(|source| EngineError::Unreadable { file: own.clone(), source })?;
        let manifest = description.manifest(name, Vec::new());
        engine::load(&own, &manifest)?.run(&inputs)
    };
    let expected = answers(TRACT_ONNX, onnx).map_err(|_| NotConverted::NotLoaded)?;
    let file = folder.path().join(TRACT_ONNX).join(FileRole::Model.name());
    let archive =
        engine::nnef_from_onnx(&file, &description.input_specs(), &description.output_specs())
            .map_err(refused)?;
    let found = answers(TRACT_NNEF, &archive).map_err(refused)?;
    for (spec, (expected, found)) in
        description.output_specs().iter().zip(expected.iter().zip(&found))
    {
        if !alike(expected, found) {
            let text = format!("output {:?} comes out otherwise then", spec.name);
            return Err(NotConverted::Refused(text));
        }
    }
    Ok(archive)
}

fn put(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    fs::write(folder.join(FileRole::Model.name()), bytes)
}

fn alike(expected: &Tensor, found: &Tensor) -> bool {
    if expected == found {
        return true;
    }
    let (left, right) = (expected.values.as_f32(), found.values.as_f32());
    let near = |(a, b): (&f32, &f32)| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= TOLERANCE * (1.0 + a.abs())
    };
    expected.shape == found.shape
        && !left.is_empty()
        && left.len() == right.len()
        && left.iter().zip(right.iter()).all(near)
}
