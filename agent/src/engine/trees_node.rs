//! An ONNX node's attributes as an ensemble of trees.

use tidegate_trees::{Aggregate, Attributes, Labels, Mode, PostTransform};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// The operators that are ensembles of trees.
pub const TREE_OPERATORS: [&str; 2] = ["TreeEnsembleClassifier", "TreeEnsembleRegressor"];

/// Reads what a TreeEnsembleClassifier or TreeEnsembleRegressor says, without judging whether its
/// trees are whole: that is [`tidegate_trees::Ensemble::build`]'s.
///
/// # Errors
/// One sentence that names the attribute.
pub fn attributes_of(node: &NodeProto) -> Result<Attributes, String> {
    let reader = Reader(node);
    let classifies = node.op_type == TREE_OPERATORS[0];
    let empty = if classifies {
        Attributes::classifier(reader.labels()?)
    } else {
        let targets = reader.find("n_targets").map_or(1, |attribute| attribute.i);
        let targets =
            u32::try_from(targets).map_err(|_| format!("n_targets is {targets}, not possible"))?;
        Attributes::regressor(targets)
    };
    // Of the weights: class_ids, or target_ids, and so on.
    let prefix = if classifies { "class" } else { "target" };
    let of_weights = |name: &str| reader.ints(&format!("{prefix}_{name}"));
    let (weights, double_weights) = reader.numbers(&format!("{prefix}_weights"))?;
    let (values, double_values) = reader.numbers("nodes_values")?;
    let missing = reader.ints("nodes_missing_value_tracks_true");
    Ok(Attributes {
        tree_ids: reader.ints("nodes_treeids"),
        node_ids: reader.ints("nodes_nodeids"),
        feature_ids: reader.ints("nodes_featureids"),
        modes: reader.modes()?,
        values,
        yes_ids: reader.ints("nodes_truenodeids"),
        no_ids: reader.ints("nodes_falsenodeids"),
        missing_goes_yes: missing.iter().map(|missing| *missing != 0).collect(),
        weight_tree_ids: of_weights("treeids"),
        weight_node_ids: of_weights("nodeids"),
        weight_targets: of_weights("ids"),
        weights,
        base_values: reader.numbers("base_values")?.0,
        aggregate: reader.word("aggregate_function", Aggregate::Sum, Aggregate::named)?,
        post: reader.word("post_transform", PostTransform::None, PostTransform::named)?,
        double: double_weights || double_values,
        ..empty
    })
}

struct Reader<'a>(&'a NodeProto);

impl Reader<'_> {
    fn find(&self, name: &str) -> Option<&AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn ints(&self, name: &str) -> Vec<i64> {
        self.find(name).map_or(Vec::new(), |attribute| attribute.ints.clone())
    }

    fn strings(&self, name: &str) -> Result<Vec<String>, String> {
        let strings = self.find(name).map_or(&[][..], |attribute| &attribute.strings);
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone());
        strings.iter().map(text).collect::<Result<_, _>>().map_err(|_| format!("{name} is no text"))
    }

    fn labels(&self) -> Result<Labels, String> {
        let words = self.strings("classlabels_strings")?;
        Ok(match words.is_empty() {
            true => Labels::Ints(self.ints("classlabels_int64s")),
            false => Labels::Strings(words),
        })
    }

    fn modes(&self) -> Result<Vec<Mode>, String> {
        let names = self.strings("nodes_modes")?;
        let mode = |name: &String| {
            Mode::named(name).ok_or_else(|| format!("nodes_modes has {name:?}, which is no mode"))
        };
        names.iter().map(mode).collect()
    }

    fn word<T>(&self, name: &str, default: T, named: fn(&str) -> Option<T>) -> Result<T, String> {
        let Some(attribute) = self.find(name) else { return Ok(default) };
        let word = String::from_utf8_lossy(&attribute.s);
        named(&word).ok_or_else(|| format!("{name} is {word:?}, which is not known"))
    }

    /// Numbers of 32 or 64 bits, and whether of 64.
    fn numbers(&self, name: &str) -> Result<(Vec<f64>, bool), String> {
        let double = format!("{name}_as_tensor");
        match self.find(&double).and_then(|attribute| attribute.t.as_ref()) {
            Some(tensor) => doubles(tensor).ok_or_else(|| format!("{double} has no numbers")),
            None => {
                let floats = self.find(name).map_or(&[][..], |attribute| &attribute.floats);
                Ok((floats.iter().map(|value| f64::from(*value)).collect(), false))
            }
        }
    }
}

fn doubles(tensor: &TensorProto) -> Option<(Vec<f64>, bool)> {
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Double if !tensor.raw_data.is_empty() => {
            let (whole, _) = tensor.raw_data.as_chunks::<8>();
            Some((whole.iter().map(|raw| f64::from_le_bytes(*raw)).collect(), true))
        }
        DataType::Double => Some((tensor.double_data.clone(), true)),
        DataType::Float if !tensor.raw_data.is_empty() => {
            let (whole, _) = tensor.raw_data.as_chunks::<4>();
            Some((whole.iter().map(|raw| f64::from(f32::from_le_bytes(*raw))).collect(), false))
        }
        DataType::Float => {
            Some((tensor.float_data.iter().map(|value| f64::from(*value)).collect(), false))
        }
        _ => None,
    }
}
