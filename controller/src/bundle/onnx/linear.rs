//! Linear models.

use tract_onnx::pb::tensor_proto::DataType;

use super::graph::{Labels, Node, Unfit, With, Writer};

/// x · coefficientsᵀ + intercepts, `rows` of coefficients.
pub(super) fn product(
    x: &str,
    coefficients: &[f32],
    rows: usize,
    intercepts: &[f32],
    write: &mut Writer,
) -> Result<String, Unfit> {
    let columns = coefficients.len() / rows.max(1);
    if columns == 0 || columns * rows != coefficients.len() {
        return Err(format!("{} coefficients for {rows} outputs", coefficients.len()));
    }
    let mut turned = Vec::with_capacity(coefficients.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| coefficients[row * columns + column]));
    }
    let turned = write.floats(&turned, &[columns, rows]);
    let product = write.node("MatMul", &[x, &turned], &[]);
    if intercepts.is_empty() {
        return Ok(product);
    }
    if intercepts.len() != rows {
        return Err(format!("{} intercepts for {rows} outputs", intercepts.len()));
    }
    let intercepts = write.row(intercepts);
    Ok(write.node("Add", &[&product, &intercepts], &[]))
}

pub(super) fn regressor(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let targets = usize::try_from(node.int("targets", 1)).unwrap_or(0);
    let x = write.as_float(node.input(0));
    let (coefficients, intercepts) = (node.floats("coefficients"), node.floats("intercepts"));
    let scores = product(&x, coefficients, targets, intercepts, write)?;
    write.post_transform(&scores, &node.text("post_transform", "NONE"), node.output(0))
}

pub(super) fn classifier(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let labels = Labels::of(node);
    let intercepts = node.floats("intercepts");
    let rows = if intercepts.is_empty() { labels.len() } else { intercepts.len() };
    let x = write.as_float(node.input(0));
    let scores = product(&x, node.floats("coefficients"), rows, intercepts, write)?;
    let post = node.text("post_transform", "NONE");
    if rows == 1 && labels.len() == 2 {
        let zero = write.row(&[0.0]);
        let second = write.node("Greater", &[&scores, &zero], &[]);
        let second = write.cast(&second, DataType::Int64);
        let flat = write.ints(&[-1], &[1]);
        let place = write.node("Reshape", &[&second, &flat], &[]);
        write.labels(&place, labels, node.output(0));
        if post != "NONE" && post != "LOGISTIC" && post != "SOFTMAX" {
            return Err(format!("the post-transform {post} of one score for two classes"));
        }
        // Whatever the transform is called, ONNX Runtime completes the score to 1.
        let one = write.row(&[1.0]);
        let first = write.node("Sub", &[&one, &scores], &[]);
        write.last("Concat", &[&first, &scores], &[With::Int("axis", 1)], node.output(1));
        return Ok(());
    }
    if rows != labels.len() {
        return Err(format!("{rows} scores for {} classes", labels.len()));
    }
    write.largest(&scores, labels, node.output(0));
    if node.output(1).is_empty() {
        return Ok(());
    }
    write.post_transform(&scores, &post, node.output(1))
}
