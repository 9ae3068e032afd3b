//! tract on real and on broken files, ONNX and NNEF.
#![allow(missing_docs)]

mod digits;

use std::path::Path;

use digits::{PIXELS, example, row, specs, stream};
use tidegate_agent::engine::{
    self, Engine, EngineError, TRACT_NNEF, TRACT_ONNX, Tensor, Values, nnef_from_onnx,
};
use tidegate_wire::Reason;
use tidegate_wire::manifest::{Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, TensorSpec};

/// Loads `file` as a device does: from a slot, where it is called `model`.
fn load(
    engine: &str,
    file: &Path,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<Box<dyn Engine>, EngineError> {
    let slot = tempfile::tempdir().unwrap();
    if file.exists() {
        std::fs::copy(file, slot.path().join("model")).unwrap();
    }
    let manifest = Manifest {
        model: digits::model_name(),
        version: "1".parse().unwrap(),
        engine: engine.to_string(),
        task: Task::Classification,
        files: Vec::new(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        gates: Gates::default(),
        humility: Vec::new(),
        window_rows: 100,
    };
    engine::load(slot.path(), &manifest)
}

fn load_digits(file: &Path) -> Result<Box<dyn Engine>, EngineError> {
    let (inputs, outputs) = specs();
    load(TRACT_ONNX, file, &inputs, &outputs)
}

fn broken(bytes: &[u8]) -> EngineError {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model");
    std::fs::write(&file, bytes).unwrap();
    load_digits(&file).err().expect("a broken file was loaded")
}

fn floats(tensor: &Tensor) -> &[f32] {
    let Values::F32(values) = &tensor.values else { panic!("not FP32") };
    values
}

#[test]
fn rows_are_answered_alike_alone_and_together() {
    let engine = load_digits(&example("1.1.0/model.onnx")).unwrap();
    let rows = &stream()[..20];
    let together = engine.run(&row(&rows.concat())).unwrap();
    assert_eq!(together[0].shape, [20, 10]);
    for (index, pixels) in rows.iter().enumerate() {
        let alone = engine.run(&row(pixels)).unwrap();
        assert_eq!(alone[0].shape, [1, 10]);
        assert_eq!(floats(&alone[0]), &floats(&together[0])[index * 10..index * 10 + 10]);
    }
}

#[test]
fn threads_get_the_same_answers() {
    let engine = load_digits(&example("1.2.0/model.onnx")).unwrap();
    let rows = stream();
    let expected: Vec<_> = rows.iter().map(|pixels| engine.run(&row(pixels)).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (pixels, expected) in rows.iter().zip(&expected) {
                    assert_eq!(engine.run(&row(pixels)).unwrap(), *expected);
                }
            });
        }
    });
}

#[test]
fn what_is_not_onnx_says_so_and_names_the_file() {
    let png = b"\x89PNG\r\n\x1a\n and so on";
    let zeros = [0; 64];
    for bytes in [&b""[..], b"hello, this is text", png, &zeros] {
        let error = broken(bytes);
        assert_eq!(error.reason(), Reason::LoadFailed);
        let text = error.to_string();
        assert!(text.contains("is not an ONNX model") && text.contains("/model"), "{text}");
    }
    let error = load_digits(Path::new("/nowhere/model")).err().unwrap();
    assert!(matches!(error, EngineError::Unreadable { .. }), "{error}");
}

#[test]
fn an_unsupported_operator_is_named_with_its_node() {
    let bytes = std::fs::read(example("1.0.0/model.onnx")).unwrap();
    let place = bytes.windows(7).position(|window| window == b"Softmax").unwrap();
    let mut other = bytes.clone();
    other[place..place + 7].copy_from_slice(b"Hardfax");
    let error = broken(&other);
    assert_eq!(error.reason(), Reason::UnsupportedOperator);
    let text = error.to_string();
    assert!(text.contains("Hardfax") && text.contains("\"probabilities\""), "{text}");
}

#[test]
fn a_damaged_graph_is_an_error_and_never_a_panic() {
    let bytes = std::fs::read(example("1.0.0/model.onnx")).unwrap();
    // Cut anywhere, and every name of a value spoilt in turn.
    for end in (0..bytes.len()).step_by(97) {
        broken(&bytes[..end]);
    }
    for name in [&b"product"[..], b"logits", b"probabilities", b"coefficient"] {
        for (place, _) in bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name) {
            let mut other = bytes.clone();
            other[place] = b'#';
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("model");
            std::fs::write(&file, other).unwrap();
            if let Err(error) = load_digits(&file) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn a_manifest_that_disagrees_with_the_graph_is_refused() {
    let file = example("1.1.0/model.onnx");
    let (inputs, outputs) = specs();
    let refuse = |inputs: &[_], outputs: &[_], words: &[&str]| {
        let error = load(TRACT_ONNX, &file, inputs, outputs).err().expect("it was loaded");
        assert_eq!(error.reason(), Reason::SchemaMismatch, "{error}");
        let text = error.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{text}: {word}"));
    };
    let mut other = inputs.clone();
    other[0].name = "image".to_string();
    refuse(&other, &outputs, &["image", "pixels"]);
    let mut other = inputs.clone();
    other[0].shape = vec![-1, 63];
    refuse(&other, &outputs, &["pixels", "64", "63"]);
    let mut other = inputs.clone();
    other[0].datatype = Datatype::Int64;
    refuse(&other, &outputs, &["pixels", "INT64", "F32"]);
    let mut other = inputs.clone();
    other[0].shape = vec![-1, -1];
    refuse(&other, &outputs, &["pixels", "first"]);
    let mut other = outputs.clone();
    other[0].shape = vec![-1, 11];
    refuse(&inputs, &other, &["probabilities", "10", "11"]);
    let mut other = outputs.clone();
    other[0].name = "label".to_string();
    refuse(&inputs, &other, &["label", "probabilities"]);
    refuse(&[], &outputs, &["no input"]);
    let error = load("no-such-engine", &file, &inputs, &outputs).err().unwrap();
    assert_eq!(error.reason(), Reason::Incompatible);
}

#[test]
fn inputs_of_the_wrong_size_or_type_are_refused_by_name() {
    let engine = load_digits(&example("1.0.0/model.onnx")).unwrap();
    let wrong = [
        vec![],
        row(&[]),
        vec![Tensor { shape: vec![1, 64], values: Values::F32(vec![0.0; PIXELS - 1]) }],
        vec![Tensor { shape: vec![1, 64], values: Values::F64(vec![0.0; PIXELS]) }],
        vec![Tensor { shape: vec![], values: Values::F32(vec![0.0; PIXELS]) }],
    ];
    for inputs in wrong {
        let error = engine.run(&inputs).unwrap_err();
        assert!(matches!(&error, EngineError::Input { name, .. } if name == "pixels"), "{error}");
    }
    assert!(engine.run(&row(&[0.0; PIXELS])).is_ok());
}

#[test]
fn nnef_answers_as_onnx_does_and_is_the_same_bytes_every_time() {
    let (inputs, outputs) = specs();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let onnx = example(&format!("{version}/model.onnx"));
        let archive = nnef_from_onnx(&onnx, &inputs, &outputs).unwrap();
        assert_eq!(archive, nnef_from_onnx(&onnx, &inputs, &outputs).unwrap(), "{version}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("archive");
        std::fs::write(&file, archive).unwrap();
        let nnef = load(TRACT_NNEF, &file, &inputs, &outputs).unwrap();
        let onnx = load_digits(&onnx).unwrap();
        let rows = row(&stream()[..50].concat());
        assert_eq!(nnef.run(&rows).unwrap(), onnx.run(&rows).unwrap(), "{version}");
    }
}

#[test]
fn an_nnef_archive_that_disagrees_with_the_manifest_or_is_damaged_is_refused() {
    let (inputs, outputs) = specs();
    let archive = nnef_from_onnx(&example("1.1.0/model.onnx"), &inputs, &outputs).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("archive");
    std::fs::write(&file, &archive).unwrap();
    let mut other = inputs.clone();
    other[0].shape = vec![-1, 63];
    let error = load(TRACT_NNEF, &file, &other, &outputs).err().expect("it was loaded");
    assert_eq!(error.reason(), Reason::SchemaMismatch, "{error}");
    let mut other = outputs.clone();
    other[0].datatype = Datatype::Int64;
    let error = load(TRACT_NNEF, &file, &inputs, &other).err().expect("it was loaded");
    assert_eq!(error.reason(), Reason::SchemaMismatch, "{error}");
    for end in (0..archive.len()).step_by(997) {
        std::fs::write(&file, &archive[..end]).unwrap();
        // A tar file that ends between two entries may still be whole as far as it goes.
        if let Err(error) = load(TRACT_NNEF, &file, &inputs, &outputs) {
            assert_eq!(error.reason(), Reason::LoadFailed, "{error}");
        }
    }
    let error = load(TRACT_NNEF, Path::new("/nowhere/model"), &inputs, &outputs).err().unwrap();
    assert!(matches!(error, EngineError::Unreadable { .. }), "{error}");
}
