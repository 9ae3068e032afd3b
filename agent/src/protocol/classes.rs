//! Triton's classification extension: the classes of highest score instead of all scores.

use std::cmp::Ordering;

use tidegate_wire::tensor::TensorSpec;

use crate::engine::{Tensor, Values};

/// The `count` highest scores of each row of an output, as strings `score:index` or, where the
/// manifest has labels, `score:index:label`. What is no number comes last.
///
/// # Source
/// Triton's `docs/protocol/extension_classification.md`.
pub(crate) fn classes(tensor: &Tensor, spec: &TensorSpec, count: usize) -> Tensor {
    let has_rows = spec.shape.first() == Some(&-1);
    let rows = if has_rows { tensor.shape.first().copied().unwrap_or(1) } else { 1 };
    let scores = tensor.values.as_f32();
    let width = scores.len() / rows.max(1);
    let count = count.min(width);
    let mut strings = Vec::with_capacity(rows * count);
    for row in scores.chunks_exact(width.max(1)).take(rows) {
        let mut order: Vec<usize> = (0..width).collect();
        // Stable: of equal scores the first class comes first.
        order.sort_by(|a, b| descending(row[*a], row[*b]));
        strings.extend(order.iter().take(count).map(|index| string(row[*index], *index, spec)));
    }
    let shape = if has_rows { vec![rows, count] } else { vec![count] };
    Tensor { shape, values: Values::Bytes(strings) }
}

fn descending(a: f32, b: f32) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(&a))
}

fn string(score: f32, index: usize, spec: &TensorSpec) -> Vec<u8> {
    let text = match spec.labels.get(index) {
        Some(label) => format!("{score}:{index}:{label}"),
        None => format!("{score}:{index}"),
    };
    text.into_bytes()
}
