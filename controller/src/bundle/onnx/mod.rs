//! What scikit-learn's exporter writes, in operators that devices have.
//!
//! skl2onnx writes operators of classical machine learning (the domain `ai.onnx.ml`), most of which
//! tract lacks. Each is replaced here by nodes of the standard domain that say the same, before the
//! model is checked and signed: devices run what the golden set was run with. Ensembles of trees
//! stay: agents have an operator of their own for them. A graph that is nothing else becomes a file
//! of the engine `trees`.
//!
//! The meaning of each operator is ONNX Runtime's where ONNX leaves it open.

mod categories;
mod columns;
mod graph;
mod linear;
mod svm;
mod trees;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use tidegate_agent::engine::TREE_OPERATORS;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, type_proto};

use graph::{ML, Node, Unfit, Writer, name_of};

/// Operators of the ML domain that the devices' engine knows.
const KNOWN: [&str; 1] = ["CategoryMapper"];

/// A graph that devices can run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rewritten {
    /// The ONNX file, if it had to be changed.
    pub onnx: Option<Vec<u8>>,
    /// The file of the engine `trees`, if the graph is one ensemble and nothing else.
    pub trees: Option<Vec<u8>>,
    /// What was changed, for the publisher.
    pub notes: Vec<String>,
}

/// A node that cannot be said in other operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node:?} is an {operator}, which devices cannot run{}; {advice}",
    because.as_ref().map_or(String::new(), |because| format!(" ({because})"))
)]
pub struct Unwritable {
    /// The operator with its domain.
    pub operator: String,
    /// The node's name, or its first output's.
    pub node: String,
    /// What about it, if it is not the operator as such.
    pub because: Option<String>,
    /// How to export the model instead.
    pub advice: &'static str,
}

/// Rewrites an ONNX file, if it is one and needs it. `double` says whether its input has 64 bits.
///
/// # Errors
/// [`Unwritable`] names the node that stands in the way.
pub(super) fn rewrite(bytes: &[u8], double: bool) -> Result<Rewritten, Unwritable> {
    let Ok(mut proto) = ModelProto::decode(bytes) else { return Ok(Rewritten::default()) };
    let opset = proto.opset_import.iter().filter(|import| import.domain.is_empty());
    let opset = opset.map(|import| import.version).max().unwrap_or(1);
    let Some(graph) = proto.graph.as_mut() else { return Ok(Rewritten::default()) };
    if graph.node.iter().all(|node| node.domain != ML) {
        return Ok(Rewritten::default());
    }
    let mut notes = Notes::default();
    replace_nodes(graph, opset, &mut notes)?;
    tidy(graph);
    let trees = trees::alone(graph, double)?;
    Ok(Rewritten { trees, onnx: Some(proto.encode_to_vec()), notes: notes.lines() })
}

fn replace_nodes(graph: &mut GraphProto, opset: i64, notes: &mut Notes) -> Result<(), Unwritable> {
    let constants = constants_of(graph);
    let mut taken = names_of(graph);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let stays = node.domain != ML
            || KNOWN.contains(&node.op_type.as_str())
            || TREE_OPERATORS.contains(&node.op_type.as_str());
        if stays {
            nodes.push(node);
            continue;
        }
        let mut writer = Writer::new(opset, &mut taken, &node);
        replace(&node, &mut writer, &constants).map_err(|because| Unwritable {
            operator: format!("{}.{}", node.domain, node.op_type),
            node: name_of(&node).to_string(),
            because,
            advice: advice(&node.op_type),
        })?;
        let (written, constants) = (writer.nodes, writer.constants);
        if node.op_type == "ZipMap" {
            retype(graph, Node(&node).output(0));
        }
        notes.add(&node, &written);
        nodes.extend(written);
        graph.initializer.extend(constants);
    }
    graph.node = nodes;
    Ok(())
}

/// Writes what `node` says in other operators; an error without words: the operator is unknown.
fn replace(
    node: &NodeProto,
    write: &mut Writer,
    constants: &BTreeMap<String, TensorProto>,
) -> Result<(), Option<Unfit>> {
    let of = Node(node);
    let written = match node.op_type.as_str() {
        "Scaler" => columns::scaler(of, write),
        "Imputer" => columns::imputer(of, write),
        "Normalizer" => columns::normalizer(of, write),
        "Binarizer" => columns::binarizer(of, write),
        "FeatureVectorizer" => columns::feature_vectorizer(of, write),
        "ArrayFeatureExtractor" => columns::array_feature_extractor(of, write, constants),
        "OneHotEncoder" => categories::one_hot(of, write),
        "LabelEncoder" => categories::label_encoder(of, write),
        "LinearRegressor" => linear::regressor(of, write),
        "LinearClassifier" => linear::classifier(of, write),
        "SVMRegressor" => svm::regressor(of, write),
        "SVMClassifier" => svm::classifier(of, write),
        // Probabilities stay a tensor.
        "ZipMap" => {
            write.last("Identity", &[of.input(0)], &[], of.output(0));
            Ok(())
        }
        _ => return Err(None),
    };
    written.map_err(Some)
}

/// What was done, with the first node's name and how many more it was done to.
#[derive(Debug, Default)]
struct Notes(Vec<(String, String, usize)>);

impl Notes {
    fn add(&mut self, node: &NodeProto, written: &[NodeProto]) {
        let operator = format!("{}.{}", node.domain, node.op_type);
        let mut operators: Vec<&str> = Vec::new();
        for node in written {
            if !operators.contains(&node.op_type.as_str()) {
                operators.push(&node.op_type);
            }
        }
        let done = match node.op_type.as_str() {
            "ZipMap" => format!("({operator}) to nothing: the scores stay a tensor"),
            _ => format!("({operator}) to {}", operators.join(", ")),
        };
        match self.0.iter_mut().find(|(_, other, _)| *other == done) {
            Some((.., more)) => *more += 1,
            None => self.0.push((name_of(node).to_string(), done, 0)),
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |(name, done, more): &(String, String, usize)| match more {
            0 => format!("rewrote node {name:?} {done}"),
            more => format!("rewrote node {name:?} and {more} more {done}"),
        };
        self.0.iter().map(line).collect()
    }
}

/// How to export a model instead.
fn advice(operator: &str) -> &'static str {
    match operator {
        "DictVectorizer" | "CastMap" => {
            "train on columns instead of dictionaries (OneHotEncoder in a ColumnTransformer)"
        }
        "TfIdfVectorizer" => {
            "make the counts in the application and export the rest of the pipeline"
        }
        "TreeEnsemble" => {
            "export with target_opset={\"\": 18, \"ai.onnx.ml\": 3}, which writes \
             TreeEnsembleClassifier or TreeEnsembleRegressor"
        }
        "SVMClassifier" | "SVMRegressor" | "LinearClassifier" | "LinearRegressor" => {
            "export it with skl2onnx's default options, which devices can run"
        }
        "LabelEncoder" => "export with target_opset={\"\": 18, \"ai.onnx.ml\": 3}",
        _ => "leave this step out of the exported pipeline and do it in the application",
    }
}

fn constants_of(graph: &GraphProto) -> BTreeMap<String, TensorProto> {
    // Only words matter by value; numbers are read from the graph when it runs.
    let light = |tensor: &TensorProto| TensorProto {
        dims: tensor.dims.clone(),
        string_data: tensor.string_data.clone(),
        ..TensorProto::default()
    };
    graph.initializer.iter().map(|tensor| (tensor.name.clone(), light(tensor))).collect()
}

fn names_of(graph: &GraphProto) -> BTreeSet<String> {
    let of_nodes = graph.node.iter().flat_map(|node| node.output.iter().chain([&node.name]));
    let of_others = graph.input.iter().map(|input| &input.name);
    let constants = graph.initializer.iter().map(|tensor| &tensor.name);
    of_nodes.chain(of_others).chain(constants).cloned().collect()
}

/// An output that was a list of dictionaries becomes a tensor of floats.
fn retype(graph: &mut GraphProto, output: &str) {
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, ..Default::default() };
    let tensor = type_proto::Value::TensorType(tensor);
    let outputs = graph.output.iter_mut().filter(|info| info.name == output);
    outputs.for_each(|info| {
        info.r#type = Some(TypeProto { value: Some(tensor.clone()), ..TypeProto::default() });
    });
}

/// Constants that no node uses any more are dropped, and what was noted about tensors in between.
fn tidy(graph: &mut GraphProto) {
    let inputs = graph.node.iter().flat_map(|node| &node.input);
    let outputs = graph.output.iter().map(|info| &info.name);
    let used: BTreeSet<&String> = inputs.chain(outputs).collect();
    graph.initializer.retain(|tensor| used.contains(&tensor.name));
    graph.value_info.clear();
}

#[cfg(test)]
mod tests;
