//! Model folders, good and bad: the real examples, and each with one thing wrong.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD};
use ndarray_npy::{NpzReader, NpzWriter, WritableElement};
use prost::Message;
use tempfile::TempDir;
use tidegate_controller::bundle::Bundle;
use tidegate_controller::bundle::check::check;
use tidegate_drift::BINS;
use tidegate_wire::envelope;
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest};
use tidegate_wire::tensor::GoldenSet;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto};

fn example(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(version)
}

/// A copy of digits 1.1.0 to break.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(example("1.1.0")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn replace(&self, from: &str, to: &str) -> &Self {
        let path = self.path("model.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        self
    }

    fn golden(&self) -> (Array2<f32>, Array2<f32>) {
        let mut npz = NpzReader::new(File::open(self.path("golden.npz")).unwrap()).unwrap();
        (npz.by_name("input.pixels").unwrap(), npz.by_name("output.probabilities").unwrap())
    }

    fn write_golden<A: WritableElement, B: WritableElement>(
        &self,
        inputs: (&str, ArrayD<A>),
        outputs: (&str, ArrayD<B>),
    ) -> &Self {
        let mut npz = NpzWriter::new(File::create(self.path("golden.npz")).unwrap());
        npz.add_array(inputs.0, &inputs.1).unwrap();
        npz.add_array(outputs.0, &outputs.1).unwrap();
        npz.finish().unwrap();
        self
    }

    /// Moves all weights into `file`; says how many there are.
    fn externalise(&self, file: &str) -> usize {
        let mut data = Vec::new();
        let count = self.weights(|tensor| {
            let entry =
                |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            let values = std::mem::take(&mut tensor.float_data);
            let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let length = bytes.len().to_string();
            tensor.external_data = vec![
                entry("location", file.into()),
                entry("offset", data.len().to_string()),
                entry("length", length),
            ];
            data.append(&mut bytes);
            // Offsets are aligned in what PyTorch writes.
            data.resize(data.len().next_multiple_of(64), 0);
            tensor.data_location = Some(DataLocation::External as i32);
        });
        fs::write(self.path(file), data).unwrap();
        count
    }

    /// Says that all weights lie in `location`.
    fn locate(&self, location: &str) {
        self.weights(|tensor| tensor.external_data[0].value = location.into());
    }

    fn weights(&self, change: impl FnMut(&mut TensorProto)) -> usize {
        let path = self.path("model.onnx");
        let mut model = ModelProto::decode(fs::read(&path).unwrap().as_slice()).unwrap();
        let weights = &mut model.graph.as_mut().unwrap().initializer;
        weights.iter_mut().for_each(change);
        let count = weights.len();
        fs::write(path, model.encode_to_vec()).unwrap();
        count
    }

    /// The error with the folder's own name left out.
    fn error(&self) -> String {
        let error = match Bundle::read(self.0.path()) {
            Err(error) => error,
            Ok(bundle) => check(&bundle).expect_err("the folder is bad"),
        };
        let folder = format!("{}/", self.0.path().display());
        format!("{:#}", anyhow::Error::from(error)).replace(&folder, "")
    }
}

const CONVERTED: &str = "converted from ONNX to NNEF; golden outputs are the same";
const INPUT: &str = "input.pixels";
const OUTPUT: &str = "output.probabilities";

#[test]
fn the_examples_bundle_pass_their_golden_sets_and_are_the_same_every_time() {
    let mut digests = BTreeSet::new();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let bundle = Bundle::read(&example(version)).unwrap();
        let checked = check(&bundle).unwrap();
        assert_eq!(checked.rows, 64);
        assert!(checked.worst < 1e-5, "{version}: {}", checked.worst);
        assert_eq!(bundle.notes, Vec::<String>::new());
        let needs = bundle.requirements.to_string();
        assert_eq!(needs, "engine tract-nnef");
        assert_eq!(bundle.rewrites, [CONVERTED]);
        let again = Bundle::read(&example(version)).unwrap();
        assert_eq!(bundle.manifest_bytes, again.manifest_bytes);
        digests.insert(bundle.digest());
    }
    assert_eq!(digests.len(), 3);
}

#[test]
fn a_bundle_is_what_devices_read() {
    let bundle = Bundle::read(&example("1.1.0")).unwrap();
    let manifest: Manifest = envelope::open(&bundle.manifest_bytes).unwrap();
    assert_eq!(manifest, bundle.manifest);
    assert_eq!(manifest.engine, "tract-nnef");
    let roles: Vec<FileRole> = manifest.files.iter().map(|file| file.role).collect();
    assert_eq!(roles, [FileRole::Model, FileRole::Golden, FileRole::Reference, FileRole::Card]);
    let golden = &bundle.file(FileRole::Golden).unwrap().bytes;
    let golden: GoldenSet = envelope::open(golden).unwrap();
    assert_eq!(
        (golden.inputs[0].shape.as_slice(), golden.outputs[0].name.as_str()),
        ([64, 64].as_slice(), "probabilities")
    );
    let reference = &bundle.file(FileRole::Reference).unwrap().bytes;
    let reference: DriftReference = envelope::open(reference).unwrap();
    assert_eq!(reference.features.len(), 64);
    assert_eq!(reference.outputs.unwrap().n(), 1233);
}

/// What 1.2.0 got wrong: it knows pixels of 0…1, devices feed 0…16. The range in its reference is
/// that of its training data, so live data lies outside.
#[test]
fn the_range_of_the_training_data_is_in_the_reference() {
    let ranges = |version| {
        let bundle = Bundle::read(&example(version)).unwrap();
        let reference = &bundle.file(FileRole::Reference).unwrap().bytes;
        let reference: DriftReference = envelope::open(reference).unwrap();
        // Element 36 is in the middle of the image; element 0 is always blank.
        let range = |n: usize| (reference.features[n].range_lo, reference.features[n].range_hi);
        assert_eq!(reference.features[36].counts.iter().sum::<u32>(), 1233);
        assert_eq!(reference.features[36].edges.len() + 1, BINS);
        (range(0), range(36))
    };
    assert_eq!(ranges("1.1.0"), ((f32::MIN, f32::MAX), (-8.0, 24.0)));
    assert_eq!(ranges("1.2.0"), ((f32::MIN, f32::MAX), (-0.5, 1.5)));
}

#[test]
fn a_named_engine_is_taken_and_asks_for_the_operator_set() {
    let folder = Folder::new();
    folder.replace("task = ", "engine = \"tract-onnx\"\ntask = ");
    let bundle = Bundle::read(folder.0.path()).unwrap();
    assert_eq!(bundle.requirements.to_string(), "engine tract-onnx, ONNX operator set 18");
    assert_eq!(bundle.rewrites, Vec::<String>::new());
    let model = &bundle.file(FileRole::Model).unwrap().bytes;
    assert_eq!(*model, fs::read(folder.path("model.onnx")).unwrap());
    assert_eq!(check(&bundle).unwrap().rows, 64);

    folder.replace("\"tract-onnx\"", "\"tract-nnef\"");
    assert_eq!(Bundle::read(folder.0.path()).unwrap().manifest.engine, "tract-nnef");
    folder.replace("task = ", "requirements = { opset = 18 }\ntask = ");
    let error = folder.error();
    assert!(error.starts_with("model.toml: requirements.opset = 18: devices get"), "{error}");
}

/// As PyTorch writes it: weights of more than a kilobyte lie in a second file.
#[test]
fn weights_beside_the_model_are_put_into_it() {
    let whole = Bundle::read(&example("1.1.0")).unwrap();
    let folder = Folder::new();
    let count = folder.externalise("model.onnx.data");
    let bundle = Bundle::read(folder.0.path()).unwrap();
    let line = format!("{count} tensors put into the model file from model.onnx.data");
    assert_eq!(bundle.rewrites, [line.as_str(), CONVERTED]);
    assert_eq!(bundle.file(FileRole::Model), whole.file(FileRole::Model));
    assert_eq!(check(&bundle).unwrap().rows, 64);

    folder.replace("task = ", "engine = \"tract-onnx\"\ntask = ");
    let bundle = Bundle::read(folder.0.path()).unwrap();
    assert_eq!(check(&bundle).unwrap().rows, 64);
}

#[test]
fn weights_that_are_missing_cut_or_elsewhere_are_refused() {
    let folder = Folder::new();
    folder.externalise("weights.bin");
    let data = fs::read(folder.path("weights.bin")).unwrap();
    fs::write(folder.path("weights.bin"), &data[..data.len() / 2]).unwrap();
    let error = folder.error();
    assert!(error.starts_with("model.onnx: tensor ") && error.contains("copied whole"), "{error}");
    fs::remove_file(folder.path("weights.bin")).unwrap();
    let error = folder.error();
    assert!(error.starts_with("model.onnx: it keeps weights in weights.bin, which"), "{error}");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), &data).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path("weights.bin")).unwrap();
    let error = folder.error();
    assert!(error.contains("\"weights.bin\", outside its own folder"), "{error}");
    for location in ["../secret", "/etc/passwd", "a/../../secret"] {
        let folder = Folder::new();
        folder.externalise("weights.bin");
        folder.locate(location);
        let error = folder.error();
        assert!(error.contains("outside its own folder"), "{location}: {error}");
    }
}

#[test]
fn a_packed_model_is_what_a_slot_has() {
    let bundle = Bundle::read(&example("1.1.0")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let packed = place.path().join("packed");
    bundle.write(&packed).unwrap();
    assert!(bundle.write(&packed).is_err(), "nothing is overwritten");
    let loaded = tidegate_agent::alone::load(&packed).unwrap();
    assert_eq!(loaded.artifact.digest, bundle.digest());
    // What was measured is remembered beside the model.
    assert!(packed.join("measured").exists());
}

#[test]
fn a_declared_range_wins() {
    let folder = Folder::new();
    folder.replace("shape = [-1, 64]", "shape = [-1, 64]\nrange = [0.0, 16.0]");
    let bundle = Bundle::read(folder.0.path()).unwrap();
    let reference = &bundle.file(FileRole::Reference).unwrap().bytes;
    let reference: DriftReference = envelope::open(reference).unwrap();
    assert!(reference.features.iter().all(|f| (f.range_lo, f.range_hi) == (0.0, 16.0)));
}

#[test]
fn without_a_reference_the_publisher_is_told() {
    let folder = Folder::new();
    folder.replace("reference = \"reference.npz\"\n", "");
    let bundle = Bundle::read(folder.0.path()).unwrap();
    let told = ["no `reference` in model.toml: drift of live inputs is not watched"];
    assert_eq!(bundle.notes, told);
}

#[test]
fn a_folder_without_description() {
    let folder = Folder::new();
    fs::remove_file(folder.path("model.toml")).unwrap();
    assert_eq!(folder.error(), "cannot read model.toml: No such file or directory (os error 2)");
}

#[test]
fn an_unknown_key() {
    let folder = Folder::new();
    folder.replace("golden = ", "goldne = ");
    let expected = "model.toml: TOML parse error at line 4, column 1\n  |\n4 | goldne = \"golden.npz\"\n  \
                    | ^^^^^^\nunknown field `goldne`, expected one of `name`, `version`, `model`, \
                    `engine`, `config`, `tokenizer`, `golden`, `reference`, `card`, `task`, `inputs`, \
                    `outputs`, `gates`, `window_rows`, `text`, `humility`, `requirements`";
    assert_eq!(folder.error(), expected);
}

#[test]
fn files_that_are_no_onnx() {
    let folder = Folder::new();
    for (bytes, detail) in [
        (&b""[..], "the file is empty"),
        (&b"PK\x03\x04 a zip file"[..], "its bytes are no protocol buffer"),
        (&b"\x08\x08"[..], "it holds no graph"),
    ] {
        fs::write(folder.path("model.onnx"), bytes).unwrap();
        let error = folder.error();
        let expected = format!("model.onnx is not an ONNX model: {detail}");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with("; export the model as ONNX and push it again"), "{error}");
    }
}

#[test]
fn an_operator_that_the_engine_lacks() {
    let folder = Folder::new();
    let mut model = fs::read(folder.path("model.onnx")).unwrap();
    // Field 4 of a node, as protocol buffers write it: the operator.
    let place = model.windows(6).position(|six| six == b"\x22\x04Relu").unwrap();
    model[place + 2..place + 6].copy_from_slice(b"Rule");
    fs::write(folder.path("model.onnx"), model).unwrap();
    let expected = "model.onnx: node \"Relu\" uses the operator Rule, which the engine tract-onnx \
                    lacks; export the model without it";
    assert_eq!(folder.error(), expected);
}

#[test]
fn tensors_that_the_model_does_not_have() {
    let folder = Folder::new();
    let (inputs, outputs) = folder.golden();
    folder
        .replace("name = \"pixels\"", "name = \"image\"")
        .replace("reference = \"reference.npz\"\n", "");
    folder.write_golden(("input.image", inputs.into_dyn()), (OUTPUT, outputs.into_dyn()));
    let expected = "model.onnx: the graph has no input \"image\", only [\"pixels\"]; correct the \
                    tensors in the model's description and push it again";
    assert_eq!(folder.error(), expected);
}

#[test]
fn golden_outputs_that_do_not_come_out() {
    let folder = Folder::new();
    let (inputs, mut outputs) = folder.golden();
    outputs[[3, 7]] = 5.0;
    outputs[[9, 1]] = 4.0;
    folder.write_golden((INPUT, inputs.into_dyn()), (OUTPUT, outputs.into_dyn()));
    let error = folder.error();
    let start = "the golden outputs do not come out: worst in tensor \"probabilities\", row 3, \
                 element 7: expected 5, got ";
    let end = "; 2 of 64 rows are outside the tolerance (atol 0.0001, rtol 0.001), 2 have their \
               largest output elsewhere. Was the golden set made with this very model, and with \
               the same preprocessing?";
    assert!(error.starts_with(start) && error.ends_with(end), "{error}");
}

#[test]
fn a_tensor_that_is_missing_in_the_golden_set() {
    let folder = Folder::new();
    let (inputs, outputs) = folder.golden();
    folder.write_golden((INPUT, inputs.into_dyn()), ("output.probabilites", outputs.into_dyn()));
    let expected = "golden.npz: unknown array \"output.probabilites\": model.toml has \
                    \"input.pixels\", \"output.probabilities\"";
    assert_eq!(folder.error(), expected);

    let folder = Folder::new();
    let more = "[[inputs]]\nname = \"mask\"\ndatatype = \"FP32\"\nshape = [-1]\n\n[[outputs]]";
    folder.replace("[[outputs]]", more);
    let expected = "golden.npz: the array \"input.mask\" is missing; it has \"input.pixels\", \
                    \"output.probabilities\"";
    assert_eq!(folder.error(), expected);
}

#[test]
fn arrays_of_another_type_or_shape() {
    let folder = Folder::new();
    let (inputs, outputs) = folder.golden();
    let wide = inputs.mapv(f64::from).into_dyn();
    folder.write_golden((INPUT, wide), (OUTPUT, outputs.clone().into_dyn()));
    let expected = "golden.npz: the array \"input.pixels\" is float64, model.toml says FP32: store \
                    it with .astype(\"float32\")";
    assert_eq!(folder.error(), expected);

    let odd = inputs.mapv(|value| value > 0.0).into_dyn();
    folder.write_golden((INPUT, odd), (OUTPUT, outputs.clone().into_dyn()));
    let expected = "golden.npz: the array \"input.pixels\" is bool, model.toml says FP32: store it \
                    with .astype(\"float32\")";
    assert_eq!(folder.error(), expected);

    let images = inputs.clone().into_shape_with_order((64, 8, 8)).unwrap().into_dyn();
    folder.write_golden((INPUT, images), (OUTPUT, outputs.clone().into_dyn()));
    let expected = "golden.npz: the array \"input.pixels\" has shape [64, 8, 8], model.toml asks \
                    for [rows, 64]";
    assert_eq!(folder.error(), expected);

    let few = outputs.slice(ndarray::s![..63, ..]).to_owned().into_dyn();
    folder.write_golden((INPUT, inputs.into_dyn()), (OUTPUT, few));
    let expected = "golden.npz: \"probabilities\" has 63 rows, \"pixels\" has 64";
    assert_eq!(folder.error(), expected);
}

#[test]
fn files_that_are_no_npz() {
    let folder = Folder::new();
    fs::write(folder.path("reference.npz"), "no zip").unwrap();
    let error = folder.error();
    let expected = "reference.npz is no .npz file: write it with numpy.savez_compressed (";
    assert!(error.starts_with(expected), "{error}");
    let whole = fs::read(folder.path("golden.npz")).unwrap();
    fs::write(folder.path("golden.npz"), &whole[..whole.len() / 2]).unwrap();
    let error = folder.error();
    assert!(error.starts_with("golden.npz is no .npz file"), "{error}");
}

/// Truncated, bit-flipped and foreign bytes end in an error, never in a panic.
#[test]
fn damaged_files_are_errors() {
    let folder = Folder::new();
    for name in ["golden.npz", "model.onnx"] {
        let whole = fs::read(folder.path(name)).unwrap();
        for step in 0..40 {
            let mut bytes = whole.clone();
            let place = step * whole.len() / 40;
            bytes[place] ^= 0x55;
            fs::write(folder.path(name), &bytes).unwrap();
            if let Ok(bundle) = Bundle::read(folder.0.path()) {
                // A flip in a name or a comment may harm nothing.
                let _ = check(&bundle);
            }
        }
        fs::write(folder.path(name), whole).unwrap();
    }
}
