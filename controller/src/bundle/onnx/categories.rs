//! Operators that turn categories into numbers, or into each other.

use tract_onnx::pb::tensor_proto::DataType;

use super::graph::{Labels, Node, Unfit, With, Writer};

/// One column for each category; all 0 where it is none of them.
pub(super) fn one_hot(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let (words, ints) = (node.strings("cats_strings"), node.ints("cats_int64s"));
    let (x, categories) = if words.is_empty() {
        let x = write.cast(node.input(0), DataType::Int64);
        (x, write.ints(ints, &[ints.len()]))
    } else {
        let places: Vec<i64> = (0..words.len() as i64).collect();
        let x = places_of(words, node.input(0), write);
        (x, write.ints(&places, &[places.len()]))
    };
    let x = write.unsqueeze_last(&x);
    let same = write.node("Equal", &[&x, &categories], &[]);
    let float = With::Int("to", DataType::Float as i64);
    write.last("Cast", &[&same], &[float], node.output(0));
    Ok(())
}

/// The place of each word among `words`, −1 for others.
fn places_of(words: &[Vec<u8>], input: &str, write: &mut Writer) -> String {
    let places: Vec<i64> = (0..words.len() as i64).collect();
    let with = [
        With::Ints("cats_int64s", &places),
        With::Strings("cats_strings", words),
        With::Int("default_int64", -1),
    ];
    write.node("CategoryMapper", &[input], &with)
}

/// One value for another.
pub(super) fn label_encoder(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    for tensor in ["keys_tensor", "values_tensor", "default_tensor", "classes_strings"] {
        if node.has(tensor) {
            return Err(format!("the attribute {tensor}"));
        }
    }
    let place = place_of_key(node, write)?;
    // One table, in which the default stands first.
    let one = write.ints(&[1], &[1]);
    let place = write.node("Add", &[&place, &one], &[]);
    let axis = With::Int("axis", 0);
    let (ints, floats) = (node.ints("values_int64s"), node.floats("values_floats"));
    let words = node.strings("values_strings");
    if !ints.is_empty() {
        let table = [&[node.int("default_int64", -1)], ints].concat();
        let table = write.ints(&table, &[table.len()]);
        write.last("Gather", &[&table, &place], &[axis], node.output(0));
    } else if !floats.is_empty() {
        let table = [&[node.float("default_float", -0.0)], floats].concat();
        let table = write.floats(&table, &[table.len()]);
        write.last("Gather", &[&table, &place], &[axis], node.output(0));
    } else if !words.is_empty() {
        let default = node.text("default_string", "_Unused").into_bytes();
        let table = [&[default], words].concat();
        write.labels(&place, Labels::Strings(&table), node.output(0));
    } else {
        return Err("no values".into());
    }
    Ok(())
}

/// The place of the node's input among its keys, −1 for others, as INT64.
fn place_of_key(node: Node, write: &mut Writer) -> Result<String, Unfit> {
    let (words, ints) = (node.strings("keys_strings"), node.ints("keys_int64s"));
    let floats = node.floats("keys_floats");
    if !words.is_empty() {
        return Ok(places_of(words, node.input(0), write));
    }
    let (same, count) = if !ints.is_empty() {
        let x = write.cast(node.input(0), DataType::Int64);
        let x = write.unsqueeze_last(&x);
        let keys = write.ints(ints, &[ints.len()]);
        (write.node("Equal", &[&x, &keys], &[]), ints.len())
    } else if !floats.is_empty() {
        (equal_floats(floats, node.input(0), write), floats.len())
    } else {
        return Err("no keys".into());
    };
    // At most one key is the same: its place plus one, or 0.
    let same = write.as_float(&same);
    let weights: Vec<f32> = (1..=count).map(|place| place as f32).collect();
    let weights = write.floats(&weights, &[count]);
    let weighted = write.node("Mul", &[&same, &weights], &[]);
    let place = write.reduce_away("ReduceSum", 13, &weighted, -1);
    let place = write.cast(&place, DataType::Int64);
    let one = write.ints(&[1], &[1]);
    Ok(write.node("Sub", &[&place, &one], &[]))
}

/// Which of `keys` each value is; a missing value is a missing key.
fn equal_floats(keys: &[f32], input: &str, write: &mut Writer) -> String {
    let x = write.as_float(input);
    let x = write.unsqueeze_last(&x);
    let missing: Vec<bool> = keys.iter().map(|key| key.is_nan()).collect();
    let table = write.floats(keys, &[keys.len()]);
    let same = write.node("Equal", &[&x, &table], &[]);
    if !missing.contains(&true) {
        return same;
    }
    let none = write.node("IsNaN", &[&x], &[]);
    let missing = write.bools(&missing, &[keys.len()]);
    let both = write.node("And", &[&none, &missing], &[]);
    write.node("Or", &[&same, &both], &[])
}
