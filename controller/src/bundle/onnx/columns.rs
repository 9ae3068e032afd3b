//! Operators that change columns: scalers, imputers and their kin.

use std::collections::BTreeMap;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::graph::{Labels, Node, Unfit, With, Writer};

/// (x − offset) · scale
pub(super) fn scaler(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let (offset, scale) = (node.floats("offset"), node.floats("scale"));
    if offset.is_empty() || scale.is_empty() {
        return Err("no offset or no scale".into());
    }
    let x = write.as_float(node.input(0));
    let (offset, scale) = (write.row(offset), write.row(scale));
    let moved = write.node("Sub", &[&x, &offset], &[]);
    write.last("Mul", &[&moved, &scale], &[], node.output(0));
    Ok(())
}

/// Another value for what is missing.
pub(super) fn imputer(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let ints = node.ints("imputed_value_int64s");
    let (x, missing, other) = if ints.is_empty() {
        let floats = node.floats("imputed_value_floats");
        if floats.is_empty() {
            return Err("no value to impute".into());
        }
        let x = write.as_float(node.input(0));
        let replaced = node.float("replaced_value_float", 0.0);
        let missing = if replaced.is_nan() {
            write.node("IsNaN", &[&x], &[])
        } else {
            let replaced = write.row(&[replaced]);
            write.node("Equal", &[&x, &replaced], &[])
        };
        (x, missing, write.row(floats))
    } else {
        let x = write.cast(node.input(0), DataType::Int64);
        let replaced = write.ints(&[node.int("replaced_value_int64", 0)], &[1, 1]);
        let missing = write.node("Equal", &[&x, &replaced], &[]);
        (x, missing, write.ints(ints, &[1, ints.len()]))
    };
    write.last("Where", &[&missing, &other, &x], &[], node.output(0));
    Ok(())
}

/// Each row divided by its norm; rows of zeros stay.
pub(super) fn normalizer(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let x = write.as_float(node.input(0));
    let norm = match node.text("norm", "MAX").as_str() {
        "MAX" => write.reduce("ReduceMax", 18, &x, 1),
        "L1" => write.reduce("ReduceL1", 18, &x, 1),
        "L2" => write.reduce("ReduceL2", 18, &x, 1),
        other => return Err(format!("the norm {other}")),
    };
    let (zero, one) = (write.row(&[0.0]), write.row(&[1.0]));
    let nothing = write.node("Equal", &[&norm, &zero], &[]);
    let divisor = write.node("Where", &[&nothing, &one, &norm], &[]);
    write.last("Div", &[&x, &divisor], &[], node.output(0));
    Ok(())
}

/// 1 where x exceeds a threshold, else 0.
pub(super) fn binarizer(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let x = write.as_float(node.input(0));
    let threshold = write.row(&[node.float("threshold", 0.0)]);
    let above = write.node("Greater", &[&x, &threshold], &[]);
    let float = With::Int("to", DataType::Float as i64);
    write.last("Cast", &[&above], &[float], node.output(0));
    Ok(())
}

/// Columns side by side, as floats.
pub(super) fn feature_vectorizer(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let floats: Vec<String> = node.0.input.iter().map(|input| write.as_float(input)).collect();
    let floats: Vec<&str> = floats.iter().map(String::as_str).collect();
    write.last("Concat", &floats, &[With::Int("axis", 1)], node.output(0));
    Ok(())
}

/// Some columns of the last axis. A table of words that is asked for some of them becomes a
/// mapping from places to words.
pub(super) fn array_feature_extractor(
    node: Node,
    write: &mut Writer,
    constants: &BTreeMap<String, TensorProto>,
) -> Result<(), Unfit> {
    let flat = write.ints(&[-1], &[1]);
    let places = write.node("Reshape", &[node.input(1), &flat], &[]);
    let Some(table) = constants.get(node.input(0)).filter(|tensor| tensor.dims.len() == 1) else {
        let last = With::Int("axis", -1);
        write.last("Gather", &[node.input(0), &places], &[last], node.output(0));
        return Ok(());
    };
    let row = write.ints(&[1, -1], &[2]);
    let picked = if table.string_data.is_empty() {
        write.node("Gather", &[node.input(0), &places], &[With::Int("axis", 0)])
    } else {
        let picked = format!("{}.words", node.output(0));
        write.labels(&places, Labels::Strings(&table.string_data), &picked);
        picked
    };
    write.last("Reshape", &[&picked, &row], &[], node.output(0));
    Ok(())
}
