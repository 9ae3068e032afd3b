//! Triton's model configuration, of which load generators read the batch size and the tensors.

use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::{Datatype, TensorSpec};

/// Rows that a request may have as far as the configuration can say; the request's size is the real
/// limit.
const ROWS_MAX: i32 = i32::MAX;

/// The largest batch, 0 if the model takes none: in Triton's models with batches every tensor
/// begins with the batch dimension.
pub(crate) fn batch_max(manifest: &Manifest) -> i32 {
    let mut specs = manifest.inputs.iter().chain(&manifest.outputs);
    if specs.all(|spec| spec.shape.first() == Some(&-1)) { ROWS_MAX } else { 0 }
}

/// A tensor's dimensions, without the batch dimension if there is a largest batch.
pub(crate) fn dims(spec: &TensorSpec, batch_max: i32) -> &[i64] {
    if batch_max > 0 { &spec.shape[1..] } else { &spec.shape }
}

/// The name of an element type there.
pub(crate) fn type_name(datatype: Datatype) -> String {
    match datatype {
        Datatype::Bytes => "TYPE_STRING".to_string(),
        datatype => format!("TYPE_{}", datatype.name()),
    }
}
