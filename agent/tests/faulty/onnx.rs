//! Just enough of ONNX's protobuf to write small graphs.
//!
//! # Source
//! `onnx/onnx.proto`: field numbers and types.

/// A graph under construction: one input `x` of `[N, width]`, one output `y` of `[N, classes]`.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<u8>,
    constants: Vec<u8>,
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn number(into: &mut Vec<u8>, field: u64, value: u64) {
    varint(into, field << 3);
    varint(into, value);
}

fn bytes(into: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(into, field << 3 | 2);
    varint(into, value.len() as u64);
    into.extend_from_slice(value);
}

fn tensor(name: &str, dims: &[u64], kind: u64, raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    dims.iter().for_each(|dim| number(&mut tensor, 1, *dim));
    number(&mut tensor, 2, kind);
    bytes(&mut tensor, 8, name.as_bytes());
    bytes(&mut tensor, 9, raw);
    tensor
}

fn value(name: &str, width: u64) -> Vec<u8> {
    let (mut batch, mut row, mut shape) = (Vec::new(), Vec::new(), Vec::new());
    bytes(&mut batch, 2, b"N");
    number(&mut row, 1, width);
    bytes(&mut shape, 1, &batch);
    bytes(&mut shape, 1, &row);
    let (mut typed, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
    number(&mut typed, 1, FLOAT);
    bytes(&mut typed, 2, &shape);
    bytes(&mut kind, 1, &typed);
    bytes(&mut info, 1, name.as_bytes());
    bytes(&mut info, 2, &kind);
    info
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

impl Graph {
    /// Adds floats.
    pub fn floats(mut self, name: &str, dims: &[u64], values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes(&mut self.constants, 5, &tensor(name, dims, FLOAT, &raw));
        self
    }

    /// Adds integers.
    pub fn integers(mut self, name: &str, values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes(&mut self.constants, 5, &tensor(name, &[values.len() as u64], INT64, &raw));
        self
    }

    /// Adds an operator without attributes.
    pub fn node(self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(operator, inputs, output, &[])
    }

    /// Adds an operator with integer attributes.
    pub fn node_with(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, i64)],
    ) -> Self {
        const INT: u64 = 2;
        let mut node = Vec::new();
        inputs.iter().for_each(|input| bytes(&mut node, 1, input.as_bytes()));
        bytes(&mut node, 2, output.as_bytes());
        bytes(&mut node, 3, format!("make-{output}").as_bytes());
        bytes(&mut node, 4, operator.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Vec::new();
            bytes(&mut attribute, 1, name.as_bytes());
            number(&mut attribute, 3, *value as u64);
            number(&mut attribute, 20, INT);
            bytes(&mut node, 5, &attribute);
        }
        bytes(&mut self.nodes, 1, &node);
        self
    }

    /// The file.
    pub fn file(self, width: u64, classes: u64) -> Vec<u8> {
        let mut graph = self.nodes;
        bytes(&mut graph, 2, b"faulty");
        graph.extend_from_slice(&self.constants);
        bytes(&mut graph, 11, &value("x", width));
        bytes(&mut graph, 12, &value("y", classes));
        let (mut opset, mut model) = (Vec::new(), Vec::new());
        bytes(&mut opset, 1, b"");
        number(&mut opset, 2, 13);
        number(&mut model, 1, 8);
        bytes(&mut model, 7, &graph);
        bytes(&mut model, 8, &opset);
        model
    }
}
