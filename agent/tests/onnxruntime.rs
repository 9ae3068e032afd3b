//! The engine `onnxruntime`. Its library comes with `onnxruntime/run.py`, which sets ORT_DYLIB_PATH;
//! without it these tests say that they did not run.
#![cfg(feature = "onnxruntime")]
#![allow(missing_docs)]

mod digits;

use std::fs;
use std::path::PathBuf;

use digits::{example, row, specs, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_agent::engine::{self, Engine, EngineError, ONNXRUNTIME, TRACT_ONNX, Tensor, Values};
use tidegate_wire::Reason;
use tidegate_wire::manifest::{Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, TensorSpec};

/// Whether there is a library.
fn runs() -> bool {
    let there = std::env::var_os("ORT_DYLIB_PATH").is_some();
    if !there {
        println!("not run: ORT_DYLIB_PATH is not set, see agent/tests/onnxruntime/run.py");
    }
    there
}

fn load(
    engine: &str,
    model: &[u8],
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<Box<dyn Engine>, EngineError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model"), model).unwrap();
    // Read rather than built: what is not said here has its default.
    let manifest = json!({
        "model": "some", "version": "1", "engine": engine, "task": Task::Regression, "files": [],
        "inputs": inputs, "outputs": outputs, "gates": Gates::default(), "window_rows": 500,
    });
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    engine::load(folder.path(), &manifest)
}

fn digits_model() -> Vec<u8> {
    fs::read(example("1.1.0/model.onnx")).unwrap()
}

fn floats(answers: &[Tensor]) -> &[f32] {
    let [Tensor { values: Values::F32(values), .. }] = answers else { panic!("{answers:?}") };
    values
}

#[test]
fn it_answers_what_tract_answers() {
    if !runs() {
        return;
    }
    let (inputs, outputs) = specs();
    let ours = load(TRACT_ONNX, &digits_model(), &inputs, &outputs).unwrap();
    let theirs = load(ONNXRUNTIME, &digits_model(), &inputs, &outputs).unwrap();
    let rows = stream();
    for rows in [&rows[..1], &rows[..50]] {
        let question = row(&rows.concat());
        let (ours, theirs) = (ours.run(&question).unwrap(), theirs.run(&question).unwrap());
        assert_eq!(ours[0].shape, theirs[0].shape);
        let off = floats(&ours).iter().zip(floats(&theirs)).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-5);
    }
}

#[test]
fn threads_get_the_same_answers() {
    if !runs() {
        return;
    }
    let (inputs, outputs) = specs();
    let engine = load(ONNXRUNTIME, &digits_model(), &inputs, &outputs).unwrap();
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
fn what_it_cannot_run_is_named() {
    if !runs() {
        return;
    }
    let (inputs, outputs) = specs();
    let problem = |bytes: &[u8], inputs: &[TensorSpec], outputs: &[TensorSpec]| {
        load(ONNXRUNTIME, bytes, inputs, outputs).err().expect("it was loaded")
    };
    let good = digits_model();
    for broken in [&b""[..], b"hello, this is text", &good[..good.len() / 2]] {
        let error = problem(broken, &inputs, &outputs);
        assert_eq!(error.reason(), Reason::LoadFailed);
        assert!(error.to_string().contains("/model"), "{error}");
    }
    let place = good.windows(7).position(|window| window == b"Softmax").unwrap();
    let mut other = good.clone();
    other[place..place + 7].copy_from_slice(b"Hardfax");
    let error = problem(&other, &inputs, &outputs);
    assert!(error.to_string().contains("Hardfax"), "{error}");
    let mut changed = inputs.clone();
    changed[0].name = "image".to_string();
    let error = problem(&good, &changed, &outputs);
    assert_eq!(error.reason(), Reason::SchemaMismatch);
    assert!(error.to_string().contains("\"pixels\""), "{error}");
    let mut changed = outputs.clone();
    changed[0].shape = vec![-1, 11];
    let error = problem(&good, &inputs, &changed);
    assert!(error.to_string().contains("[-1, 11]"), "{error}");
    changed[0] = TensorSpec { datatype: Datatype::Int64, ..outputs[0].clone() };
    let error = problem(&good, &inputs, &changed);
    assert!(error.to_string().contains("INT64"), "{error}");
}

#[derive(Deserialize)]
struct Case {
    inputs: Vec<Described>,
    outputs: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    datatype: Datatype,
    shape: Vec<usize>,
    data: Vec<Value>,
}

impl Described {
    fn spec(&self) -> TensorSpec {
        let mut shape: Vec<i64> = self.shape.iter().map(|dim| *dim as i64).collect();
        shape[0] = -1;
        let (name, datatype) = (self.name.clone(), self.datatype);
        TensorSpec { name, datatype, shape, labels: vec![], limits: None }
    }

    fn tensor(&self) -> Tensor {
        let data = self.data.iter();
        let values = match self.datatype {
            Datatype::Fp32 => Values::F32(data.map(|v| v.as_f64().unwrap() as f32).collect()),
            Datatype::Fp64 => Values::F64(data.map(|v| v.as_f64().unwrap()).collect()),
            Datatype::Int64 => Values::I64(data.map(|v| v.as_i64().unwrap()).collect()),
            Datatype::Int8 => Values::I8(data.map(|v| v.as_i64().unwrap() as i8).collect()),
            Datatype::Bool => Values::Bool(data.map(|v| v.as_bool().unwrap()).collect()),
            Datatype::Bytes => Values::Bytes(data.map(|v| v.as_str().unwrap().into()).collect()),
            other => panic!("no case has {other}"),
        };
        Tensor { shape: self.shape.clone(), values }
    }
}

#[test]
fn its_answers_are_those_of_the_wheel() {
    let Some(folder) = std::env::var_os("TIDEGATE_ORT_MODELS").map(PathBuf::from) else {
        println!("not run: TIDEGATE_ORT_MODELS is not set, see agent/tests/onnxruntime/run.py");
        return;
    };
    let mut names = Vec::new();
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let case: Case = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let specs = |all: &[Described]| all.iter().map(Described::spec).collect::<Vec<_>>();
        let model = fs::read(file.with_extension("onnx")).unwrap();
        let engine =
            load(ONNXRUNTIME, &model, &specs(&case.inputs), &specs(&case.outputs)).unwrap();
        let tensors = |all: &[Described]| all.iter().map(Described::tensor).collect::<Vec<_>>();
        assert_eq!(engine.run(&tensors(&case.inputs)).unwrap(), tensors(&case.outputs));
        names.push(file.file_stem().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["numbers", "one-row", "strings"]);
}
