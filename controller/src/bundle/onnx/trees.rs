//! Graphs that are one ensemble of trees.

use tidegate_agent::engine::{TREE_OPERATORS, attributes_of};
use tidegate_trees::{Attributes, Ensemble, Labels, Names};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::graph::{Node, name_of};
use super::{Unwritable, advice};

/// The file of the engine `trees`, if the graph is one ensemble between an
/// input and the outputs, with nothing else that changes a value.
pub(super) fn alone(graph: &GraphProto, double: bool) -> Result<Option<Vec<u8>>, Unwritable> {
    let is_tree = |node: &&NodeProto| TREE_OPERATORS.contains(&node.op_type.as_str());
    let mut all = graph.node.iter().filter(is_tree);
    let (Some(node), None) = (all.next(), all.next()) else { return Ok(None) };
    let fault = |because: String| Unwritable {
        operator: format!("{}.{}", node.domain, node.op_type),
        node: name_of(node).to_string(),
        because: Some(because),
        advice: advice(&node.op_type),
    };
    let attributes = attributes_of(node).map_err(fault)?;
    let Some(names) = names(graph, node, &attributes) else { return Ok(None) };
    let attributes = Attributes { double: double || attributes.double, ..attributes };
    let mut ensemble = Ensemble::build(&attributes).map_err(|error| fault(error.to_string()))?;
    ensemble.names = names;
    Ok(Some(ensemble.encode()))
}

/// The names of its tensors, if every other node only hands values on.
fn names(graph: &GraphProto, node: &NodeProto, attributes: &Attributes) -> Option<Names> {
    let [input] = &graph.input[..] else { return None };
    let classifies = node.output.len() == 2;
    let of = Node(node);
    let (label, scores) =
        if classifies { (of.output(0), of.output(1)) } else { ("", of.output(0)) };
    let kind = match attributes.kind {
        tidegate_trees::Kind::Classifier { labels: Labels::Ints(_) } => DataType::Int64,
        tidegate_trees::Kind::Classifier { labels: Labels::Strings(_) } => DataType::String,
        tidegate_trees::Kind::Regressor { .. } => DataType::Float,
    };
    // Where each of the two can be found: behind casts to what it is already.
    let (mut labels, mut values, mut inputs) =
        (vec![label], vec![scores], vec![input.name.as_str()]);
    for other in graph.node.iter().filter(|other| !std::ptr::eq(*other, node)) {
        let other_of = Node(other);
        let to = match other.op_type.as_str() {
            "Identity" => None,
            "Cast" => Some(other_of.int("to", 0)),
            _ => return None,
        };
        let is = |kind: DataType| to.is_none_or(|to| to == kind as i64);
        let (from, into) = (other_of.input(0), other_of.output(0));
        if inputs.contains(&from) && is(DataType::Float) {
            inputs.push(into);
        } else if labels.contains(&from) && is(kind) {
            labels.push(into);
        } else if values.contains(&from) && is(DataType::Float) {
            values.push(into);
        } else {
            return None;
        }
    }
    if !inputs.contains(&of.input(0)) {
        return None;
    }
    let mut names = Names { input: input.name.clone(), ..Names::default() };
    for output in &graph.output {
        // Two outputs that are the same need a graph.
        let place = if values.contains(&output.name.as_str()) {
            &mut names.scores
        } else if labels.contains(&output.name.as_str()) {
            &mut names.label
        } else {
            return None;
        };
        if !place.is_empty() {
            return None;
        }
        *place = output.name.clone();
    }
    Some(names)
}
