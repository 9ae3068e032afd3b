//! The golden set: inputs, and the outputs that the training framework gave for them.

use std::path::Path;

use tidegate_wire::envelope::Message;
use tidegate_wire::tensor::{GoldenSet, TensorData, TensorSpec};

use super::description::Description;
use super::error::BundleError;
use super::golden_json::Json;
use super::npz::{Array, Npz, Rows};

/// Where a golden set's arrays are.
pub(super) trait Arrays {
    /// Refuses arrays that nothing asked for: most often a misspelt name.
    fn only(&self, known: &[String]) -> Result<(), BundleError>;

    /// Whether it has this one.
    fn has(&self, name: &str) -> bool;

    /// The array `name`, of the tensor's type and shape.
    fn tensor(&mut self, name: &str, spec: &TensorSpec) -> Result<Array, BundleError>;

    /// An error that names the file.
    fn wrong(&self, what: String) -> BundleError;
}

impl Arrays for Npz {
    fn only(&self, known: &[String]) -> Result<(), BundleError> {
        Npz::only(self, known)
    }

    fn has(&self, name: &str) -> bool {
        Npz::has(self, name)
    }

    fn tensor(&mut self, name: &str, spec: &TensorSpec) -> Result<Array, BundleError> {
        Npz::tensor(self, name, spec, Rows::AsDeclared)
    }

    fn wrong(&self, what: String) -> BundleError {
        Npz::wrong(self, what)
    }
}

/// Reads `input.<tensor>` for every input and `output.<tensor>` for at least the first output, from
/// an `.npz`, or from JSON, in which texts can be read.
pub(super) fn read(path: &Path, description: &Description) -> Result<GoldenSet, BundleError> {
    match path.extension().is_some_and(|extension| extension == "json") {
        true => read_from(&mut Json::open(path)?, description),
        false => read_from(&mut Npz::open(path)?, description),
    }
}

fn read_from(arrays: &mut dyn Arrays, description: &Description) -> Result<GoldenSet, BundleError> {
    let (inputs, outputs) = (description.input_specs(), description.output_specs());
    let named = |kind: &str, specs: &[TensorSpec]| -> Vec<String> {
        specs.iter().map(|spec| format!("{kind}.{}", spec.name)).collect()
    };
    arrays.only(&[named("input", &inputs), named("output", &outputs)].concat())?;
    let inputs = tensors(arrays, "input", &inputs, inputs.len())?;
    // Outputs that are not watched may be left out.
    let outputs = tensors(arrays, "output", &outputs, 1)?;
    let rows = inputs[0].shape[0];
    let batched = description.inputs[0].shape.first() == Some(&-1);
    let odd = inputs.iter().chain(&outputs).find(|tensor| batched && tensor.shape[0] != rows);
    if let Some(odd) = odd {
        let (name, found) = (&odd.name, odd.shape[0]);
        let first = &inputs[0].name;
        return Err(arrays.wrong(format!("{name:?} has {found} rows, {first:?} has {rows}")));
    }
    let set = GoldenSet { inputs, outputs };
    let bytes: usize = set.inputs.iter().chain(&set.outputs).map(|t| t.bytes.len()).sum();
    // The envelope and the tensors' names need little; 1 KiB per tensor is more than enough.
    let overhead = 1024 * (set.inputs.len() + set.outputs.len() + 1);
    if bytes + overhead > GoldenSet::SIZE_MAX {
        return Err(arrays.wrong(format!(
            "the golden set has {bytes} bytes, at most {} are allowed: keep fewer rows",
            GoldenSet::SIZE_MAX - overhead
        )));
    }
    Ok(set)
}

/// The tensors that are there; the first `required` of them must be.
fn tensors(
    arrays: &mut dyn Arrays,
    kind: &str,
    specs: &[TensorSpec],
    required: usize,
) -> Result<Vec<TensorData>, BundleError> {
    let mut tensors = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let name = format!("{kind}.{}", spec.name);
        if index < required || arrays.has(&name) {
            tensors.push(arrays.tensor(&name, spec)?.named(&spec.name));
        }
    }
    Ok(tensors)
}
