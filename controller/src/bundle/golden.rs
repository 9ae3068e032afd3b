//! The golden set: inputs, and the outputs that the training framework gave for them.

use std::path::Path;

use tidegate_wire::envelope::Message;
use tidegate_wire::tensor::{GoldenSet, TensorData, TensorSpec};

use super::description::Description;
use super::error::BundleError;
use super::npz::{Npz, Rows};

/// Reads `input.<tensor>` for every input and `output.<tensor>` for at least the first output.
pub(super) fn read(path: &Path, description: &Description) -> Result<GoldenSet, BundleError> {
    let mut npz = Npz::open(path)?;
    let (inputs, outputs) = (description.input_specs(), description.output_specs());
    let named = |kind: &str, specs: &[TensorSpec]| -> Vec<String> {
        specs.iter().map(|spec| format!("{kind}.{}", spec.name)).collect()
    };
    npz.only(&[named("input", &inputs), named("output", &outputs)].concat())?;
    let inputs = tensors(&mut npz, "input", &inputs, inputs.len())?;
    // Outputs that are not watched may be left out.
    let outputs = tensors(&mut npz, "output", &outputs, 1)?;
    let rows = inputs[0].shape[0];
    let batched = description.inputs[0].shape.first() == Some(&-1);
    let odd = inputs.iter().chain(&outputs).find(|tensor| batched && tensor.shape[0] != rows);
    if let Some(odd) = odd {
        let (name, found) = (&odd.name, odd.shape[0]);
        let first = &inputs[0].name;
        return Err(npz.wrong(format!("{name:?} has {found} rows, {first:?} has {rows}")));
    }
    let set = GoldenSet { inputs, outputs };
    let bytes: usize = set.inputs.iter().chain(&set.outputs).map(|t| t.bytes.len()).sum();
    // The envelope and the tensors' names need little; 1 KiB per tensor is more than enough.
    let overhead = 1024 * (set.inputs.len() + set.outputs.len() + 1);
    if bytes + overhead > GoldenSet::SIZE_MAX {
        return Err(npz.wrong(format!(
            "the golden set has {bytes} bytes, at most {} are allowed: keep fewer rows",
            GoldenSet::SIZE_MAX - overhead
        )));
    }
    Ok(set)
}

/// The tensors that are there; the first `required` of them must be.
fn tensors(
    npz: &mut Npz,
    kind: &str,
    specs: &[TensorSpec],
    required: usize,
) -> Result<Vec<TensorData>, BundleError> {
    let mut tensors = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let name = format!("{kind}.{}", spec.name);
        if index < required || npz.has(&name) {
            tensors.push(npz.tensor(&name, spec, Rows::AsDeclared)?.named(&spec.name));
        }
    }
    Ok(tensors)
}
