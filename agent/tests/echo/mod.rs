//! A model whose outputs are its inputs, one of every element type: an ONNX graph of Identity nodes,
//! written here byte by byte.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::sync::Arc;

use tidegate_agent::serving::LoadedModel;
use tidegate_wire::manifest::{FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tidegate_wire::{ArtifactRef, Digest, ModelName, envelope};

use crate::digits;

/// Values in one row.
pub const WIDTH: usize = 2;

pub fn model_name() -> ModelName {
    "echo".parse().unwrap()
}

/// `in_FP32` and so on.
pub fn input_name(datatype: Datatype) -> String {
    format!("in_{datatype}")
}

pub fn output_name(datatype: Datatype) -> String {
    format!("out_{datatype}")
}

pub fn loaded() -> Arc<LoadedModel> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = onnx();
    std::fs::write(dir.path().join(FileRole::Model.name()), &bytes).unwrap();
    let specs = |name: fn(Datatype) -> String| -> Vec<TensorSpec> {
        let spec = |datatype: &Datatype| TensorSpec {
            name: name(*datatype),
            datatype: *datatype,
            shape: vec![-1, WIDTH as i64],
            labels: vec![],
            limits: None,
        };
        Datatype::ALL.iter().map(spec).collect()
    };
    let (length, digest) = (bytes.len() as u64, Digest::of(&bytes));
    let manifest = Manifest {
        model: model_name(),
        version: "1".parse().unwrap(),
        task: Task::Regression,
        files: vec![FileEntry { role: FileRole::Model, length, digest }],
        inputs: specs(input_name),
        outputs: specs(output_name),
        ..digits::slot("1.0.0", Gates::default()).manifest
    };
    let digest = Digest::of(&envelope::seal(&manifest));
    let artifact = ArtifactRef { digest, version: manifest.version.clone() };
    Arc::new(LoadedModel::load(dir.path(), artifact, manifest).unwrap())
}

/// ONNX's number of an element type.
fn element(datatype: Datatype) -> u64 {
    match datatype {
        Datatype::Fp32 => 1,
        Datatype::Uint8 => 2,
        Datatype::Int8 => 3,
        Datatype::Uint16 => 4,
        Datatype::Int16 => 5,
        Datatype::Int32 => 6,
        Datatype::Int64 => 7,
        Datatype::Bytes => 8,
        Datatype::Bool => 9,
        Datatype::Fp16 => 10,
        Datatype::Fp64 => 11,
        Datatype::Uint32 => 12,
        Datatype::Uint64 => 13,
    }
}

fn onnx() -> Vec<u8> {
    let mut graph = Vec::new();
    for datatype in Datatype::ALL {
        let (input, output) = (input_name(*datatype), output_name(*datatype));
        let node = [field(1, input.as_bytes()), field(2, output.as_bytes()), field(4, b"Identity")];
        graph.extend(field(1, &node.concat()));
    }
    graph.extend(field(2, b"echo"));
    for datatype in Datatype::ALL {
        graph.extend(field(11, &value_info(&input_name(*datatype), *datatype)));
        graph.extend(field(12, &value_info(&output_name(*datatype), *datatype)));
    }
    let opset = number(2, 17);
    [number(1, 8), field(7, &graph), field(8, &opset)].concat()
}

fn value_info(name: &str, datatype: Datatype) -> Vec<u8> {
    let dims = [field(1, &field(2, b"N")), field(1, &number(1, WIDTH as u64))].concat();
    let tensor = [number(1, element(datatype)), field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
