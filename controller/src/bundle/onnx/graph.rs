//! Reading nodes of an ONNX graph, and writing new ones in their place.

use std::collections::BTreeSet;

use tidegate_agent::engine::COUPLING;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// The domain of the operators of classical machine learning.
pub(super) const ML: &str = "ai.onnx.ml";

/// Why a node cannot be written in other operators: what about it, in a few words.
pub(super) type Unfit = String;

/// Attributes of one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a>(pub &'a NodeProto);

impl<'a> Node<'a> {
    fn find(self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub fn has(self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub fn floats(self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |attribute| &attribute.floats)
    }

    pub fn ints(self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    pub fn strings(self, name: &str) -> &'a [Vec<u8>] {
        self.find(name).map_or(&[], |attribute| &attribute.strings)
    }

    pub fn float(self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |attribute| attribute.f)
    }

    pub fn int(self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i)
    }

    pub fn text(self, name: &str, default: &str) -> String {
        let found = self.find(name).map(|attribute| String::from_utf8_lossy(&attribute.s));
        found.map_or_else(|| default.to_string(), |text| text.into_owned())
    }

    /// The node's input at this place; empty if there is none.
    pub fn input(self, place: usize) -> &'a str {
        self.0.input.get(place).map_or("", String::as_str)
    }

    pub fn output(self, place: usize) -> &'a str {
        self.0.output.get(place).map_or("", String::as_str)
    }
}

/// What a message calls a node: its name, else its first output's.
pub(super) fn name_of(node: &NodeProto) -> &str {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    }
}

/// An attribute.
pub(super) enum With<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
    Strings(&'a str, &'a [Vec<u8>]),
}

impl With<'_> {
    fn proto(&self) -> AttributeProto {
        let of = |name: &str, kind: AttributeType| AttributeProto {
            name: name.to_string(),
            r#type: kind as i32,
            ..AttributeProto::default()
        };
        match self {
            Self::Int(name, i) => AttributeProto { i: *i, ..of(name, AttributeType::Int) },
            Self::Ints(name, ints) => {
                AttributeProto { ints: ints.to_vec(), ..of(name, AttributeType::Ints) }
            }
            Self::Text(name, text) => {
                AttributeProto { s: text.as_bytes().to_vec(), ..of(name, AttributeType::String) }
            }
            Self::Strings(name, strings) => {
                AttributeProto { strings: strings.to_vec(), ..of(name, AttributeType::Strings) }
            }
        }
    }
}

/// Nodes and constants that take a node's place.
pub(super) struct Writer<'a> {
    /// The operator set of the standard domain: some operators changed over time.
    opset: i64,
    /// Every name that the graph has.
    taken: &'a mut BTreeSet<String>,
    /// The name of the node that is replaced.
    prefix: String,
    pub nodes: Vec<NodeProto>,
    pub constants: Vec<TensorProto>,
}

impl<'a> Writer<'a> {
    pub fn new(opset: i64, taken: &'a mut BTreeSet<String>, node: &NodeProto) -> Self {
        let prefix = name_of(node).to_string();
        Self { opset, taken, prefix, nodes: Vec::new(), constants: Vec::new() }
    }

    fn fresh(&mut self, what: &str) -> String {
        let prefix = &self.prefix;
        let mut names = (0..).map(|number| format!("{prefix}.{what}.{number}"));
        let name = names.find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    /// Adds a node whose output gets a name of its own.
    pub fn node(&mut self, operator: &str, inputs: &[&str], with: &[With]) -> String {
        let output = self.fresh(operator);
        self.last(operator, inputs, with, &output);
        output
    }

    /// Adds a node with the output that the replaced node had. An empty name: nobody asked for it.
    pub fn last(&mut self, operator: &str, inputs: &[&str], with: &[With], output: &str) {
        if output.is_empty() {
            return;
        }
        let domain = match operator {
            "CategoryMapper" => ML,
            COUPLING => "tidegate",
            _ => "",
        };
        self.nodes.push(NodeProto {
            name: output.to_string(),
            op_type: operator.to_string(),
            domain: domain.to_string(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.to_string()],
            attribute: with.iter().map(With::proto).collect(),
            ..NodeProto::default()
        });
    }

    fn constant(&mut self, shape: &[usize], of: impl FnOnce(&mut TensorProto)) -> String {
        let name = self.fresh("constant");
        let dims = shape.iter().map(|dim| *dim as i64).collect();
        let mut tensor = TensorProto { name: name.clone(), dims, ..TensorProto::default() };
        of(&mut tensor);
        self.constants.push(tensor);
        name
    }

    pub fn floats(&mut self, values: &[f32], shape: &[usize]) -> String {
        self.constant(shape, |tensor| {
            tensor.data_type = DataType::Float as i32;
            tensor.float_data = values.to_vec();
        })
    }

    pub fn ints(&mut self, values: &[i64], shape: &[usize]) -> String {
        self.constant(shape, |tensor| {
            tensor.data_type = DataType::Int64 as i32;
            tensor.int64_data = values.to_vec();
        })
    }

    pub fn bools(&mut self, values: &[bool], shape: &[usize]) -> String {
        self.constant(shape, |tensor| {
            tensor.data_type = DataType::Bool as i32;
            tensor.int32_data = values.iter().map(|value| i32::from(*value)).collect();
        })
    }

    /// `values` as a row, or as a scalar if there is but one.
    pub fn row(&mut self, values: &[f32]) -> String {
        self.floats(values, &[1, values.len()])
    }

    pub fn cast(&mut self, input: &str, to: DataType) -> String {
        self.node("Cast", &[input], &[With::Int("to", to as i64)])
    }

    pub fn as_float(&mut self, input: &str) -> String {
        self.cast(input, DataType::Float)
    }

    /// Adds a last axis of length 1.
    pub fn unsqueeze_last(&mut self, input: &str) -> String {
        if self.opset < 13 {
            return self.node("Unsqueeze", &[input], &[With::Ints("axes", &[-1])]);
        }
        let axes = self.ints(&[-1], &[1]);
        self.node("Unsqueeze", &[input, &axes], &[])
    }

    /// Reduces the last axis. `since` is the operator set in which the axes became an input.
    pub fn reduce(&mut self, operator: &str, since: i64, input: &str, axis: i64) -> String {
        self.reduced(operator, since, input, axis, 1)
    }

    /// As [`Writer::reduce`], and the axis is gone.
    pub fn reduce_away(&mut self, operator: &str, since: i64, input: &str, axis: i64) -> String {
        self.reduced(operator, since, input, axis, 0)
    }

    fn reduced(&mut self, operator: &str, since: i64, input: &str, axis: i64, keep: i64) -> String {
        let keep = With::Int("keepdims", keep);
        if self.opset < since {
            return self.node(operator, &[input], &[With::Ints("axes", &[axis]), keep]);
        }
        let axes = self.ints(&[axis], &[1]);
        self.node(operator, &[input, &axes], &[keep])
    }

    /// The labels of the largest of each row of `scores`.
    pub fn largest(&mut self, scores: &str, labels: Labels, output: &str) {
        let with = [With::Int("axis", 1), With::Int("keepdims", 0)];
        let place = self.node("ArgMax", &[scores], &with);
        self.labels(&place, labels, output);
    }

    /// The labels at `places`, which are INT64.
    pub fn labels(&mut self, places: &str, labels: Labels, output: &str) {
        match labels {
            Labels::Ints(labels) => {
                let table = self.ints(labels, &[labels.len()]);
                self.last("Gather", &[&table, places], &[With::Int("axis", 0)], output);
            }
            Labels::Strings(labels) => {
                let all: Vec<i64> = (0..labels.len() as i64).collect();
                let with = [
                    With::Ints("cats_int64s", &all),
                    With::Strings("cats_strings", labels),
                    With::Text("default_string", ""),
                ];
                self.last("CategoryMapper", &[places], &with, output);
            }
        }
    }

    /// What ONNX-ML does with the scores of several classes or targets at the end.
    pub fn post_transform(&mut self, scores: &str, post: &str, output: &str) -> Result<(), Unfit> {
        match post {
            "NONE" => self.last("Identity", &[scores], &[], output),
            "SOFTMAX" => self.last("Softmax", &[scores], &[With::Int("axis", 1)], output),
            "LOGISTIC" => self.last("Sigmoid", &[scores], &[], output),
            other => return Err(format!("the post-transform {other}")),
        }
        Ok(())
    }
}

/// The names of classes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Labels<'a> {
    Ints(&'a [i64]),
    Strings(&'a [Vec<u8>]),
}

impl<'a> Labels<'a> {
    pub fn of(node: Node<'a>) -> Self {
        match node.strings("classlabels_strings") {
            [] => Self::Ints(node.ints("classlabels_ints")),
            strings => Self::Strings(strings),
        }
    }

    pub fn len(self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Strings(labels) => labels.len(),
        }
    }
}
