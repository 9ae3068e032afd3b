//! Candidates are loaded in a process of their own first, which may be hungry, slow or crash.
#![allow(missing_docs)]

mod digits;

use std::fs;
use std::path::{Path, PathBuf};

use digits::slot;
use prost::Message;
use tidegate_agent::rehearsal::Rehearsal;
use tidegate_agent::serving::LoadError;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::policy::Gates;
use tidegate_wire::{Reason, envelope};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::{self, Value};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto,
};

fn agent() -> Rehearsal {
    Rehearsal::new(PathBuf::from(env!("CARGO_BIN_EXE_tidegate-agent")), &["--rehearse"])
}

fn put(folder: &Path, manifest: &Manifest) {
    fs::write(folder.join("manifest"), envelope::seal(manifest)).unwrap();
}

fn tensor(name: &str) -> ValueInfoProto {
    let dim = |size| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: vec![dim(1), dim(64)] };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

/// A file of a few bytes with a constant of 512 MiB in it, which is made when it is loaded.
fn hungry() -> Vec<u8> {
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|name| (*name).to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    };
    let shape = TensorProto {
        name: "shape".into(),
        dims: vec![2],
        data_type: DataType::Int64 as i32,
        int64_data: vec![1 << 21, 64],
        ..Default::default()
    };
    let graph = GraphProto {
        name: "hungry".into(),
        node: vec![
            node("ConstantOfShape", &["shape"], "zeros"),
            node("Add", &["pixels", "zeros"], "sums"),
            node("ReduceSum", &["sums"], "probabilities"),
        ],
        initializer: vec![shape],
        input: vec![tensor("pixels")],
        output: vec![tensor("probabilities")],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 11 };
    let model = ModelProto {
        ir_version: 6,
        opset_import: vec![opset],
        graph: Some(graph),
        ..Default::default()
    };
    model.encode_to_vec()
}

#[test]
fn a_model_that_fits_is_measured_where_nothing_answers() {
    let slot = slot("1.1.0", Gates::default());
    put(slot.dir.path(), &slot.manifest);
    agent().run(slot.dir.path(), &slot.manifest).unwrap();
    assert!(slot.dir.path().join("measured").exists());
}

#[test]
fn a_hungry_model_is_stopped_by_its_limit() {
    let mut slot = slot("1.1.0", Gates::default());
    slot.manifest.gates.self_test.rss_mib_max = 16;
    fs::write(slot.dir.path().join("model"), hungry()).unwrap();
    put(slot.dir.path(), &slot.manifest);
    let error = agent().run(slot.dir.path(), &slot.manifest).unwrap_err();
    assert!(matches!(error, LoadError::OutOfMemory { max_mib: 16 }), "{error}");
    assert_eq!(error.reason(), Reason::TooMuchMemory);
}

#[test]
fn one_that_hangs_is_ended_and_one_that_crashes_takes_nobody_along() {
    let mut slot = slot("1.1.0", Gates::default());
    slot.manifest.gates.self_test.load_ms_max = 0;
    let shell = |words| Rehearsal::new(PathBuf::from("/bin/sh"), &["-c", words]);
    let hangs = shell("exec sleep 3600").run(slot.dir.path(), &slot.manifest).unwrap_err();
    assert_eq!(hangs.reason(), Reason::LoadTooSlow, "{hangs}");
    let crashes = shell("kill -SEGV $$").run(slot.dir.path(), &slot.manifest).unwrap_err();
    assert_eq!(crashes.reason(), Reason::LoadFailed, "{crashes}");
    assert!(crashes.to_string().contains("signal 11"), "{crashes}");
    let killed = shell("kill -KILL $$").run(slot.dir.path(), &slot.manifest).unwrap_err();
    assert_eq!(killed.reason(), Reason::TooMuchMemory, "{killed}");
    // Then it is loaded without.
    let missing = Rehearsal::new(PathBuf::from("/no/such/program"), &[]);
    assert!(missing.run(slot.dir.path(), &slot.manifest).is_ok());
}
