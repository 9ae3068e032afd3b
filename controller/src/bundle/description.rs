//! `model.toml`: what a publisher says about a model's folder.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_agent::engine::ONNX_OPSETS;
use tidegate_drift::ROWS_MAX;
use tidegate_trust::{AgentVersion, Requirements};
use tidegate_wire::humility::{self, HumilityRule};
use tidegate_wire::manifest::{FileEntry, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tidegate_wire::{Labels, ModelName, Version};

/// Rows of a report's window where the publisher says nothing: a device with one inference a second
/// reports every eight minutes.
const WINDOW_ROWS: u32 = 500;

/// Fewer rows would say something about single ones (privacy), and decide nothing.
const WINDOW_ROWS_MIN: u32 = 50;

/// What `engine` may say. Whether this program has an engine is another question.
const ENGINES: [&str; 6] =
    ["tract-nnef", "tract-onnx", "trees", "candle-bert", "candle-llama", "onnxruntime"];

/// A folder's `model.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The model.
    pub name: ModelName,
    /// This version of it.
    pub version: Version,
    /// The model file, relative to the folder, as are all files.
    pub model: PathBuf,
    /// What runs it, if that is not left to the tool.
    pub engine: Option<String>,
    /// The network's settings, for models whose file holds weights only; `config.json` beside the
    /// model if it is left out.
    pub config: Option<PathBuf>,
    /// How text becomes numbers, for models that take text; `tokenizer.json` beside the model if it
    /// is left out.
    pub tokenizer: Option<PathBuf>,
    /// The golden set, `.npz` or `.json`.
    pub golden: PathBuf,
    /// The training sample, `.npz`.
    pub reference: Option<PathBuf>,
    /// The model card, Markdown.
    pub card: Option<PathBuf>,
    /// What the first output means.
    pub task: Task,
    /// In the graph's order.
    pub inputs: Vec<InputSection>,
    /// In the graph's order; the first is the one that is watched.
    pub outputs: Vec<OutputSection>,
    /// What it must show on a device.
    #[serde(default)]
    pub gates: Gates,
    /// Rows in a report's window.
    #[serde(default = "window_rows")]
    pub window_rows: u32,
    /// What is done with text before and after the network.
    #[serde(default)]
    pub text: TextSection,
    /// When the model should doubt its own answers, and what then.
    #[serde(default)]
    pub humility: Vec<HumilityRule>,
    /// What a device must have.
    #[serde(default)]
    pub requirements: RequirementsSection,
}

fn window_rows() -> u32 {
    WINDOW_ROWS
}

/// One input tensor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSection {
    /// The graph's name for it.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Row-major, −1 for the batch dimension, which may only stand first.
    pub shape: Vec<i64>,
    /// Smallest and largest value that the model was made for. Without it they are taken from the
    /// training sample. Only the first input is watched.
    pub range: Option<[f32; 2]>,
    /// Smallest and largest value that a request may have; others are refused with an error that
    /// names the input. Without it, any value is taken, and judged by `range`.
    pub limits: Option<[f64; 2]>,
}

/// One output tensor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSection {
    /// The graph's name for it.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Row-major, −1 for the batch dimension, which may only stand first.
    pub shape: Vec<i64>,
    /// Class names of a classifier, in order.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// What is done with text before and after the network; what is left out has the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TextSection {
    /// Sentence encoders: `mean` or `cls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<String>,
    /// Sentence encoders: whether vectors are brought to length 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Sentence encoders: tokens at which a text is cut. Language models: tokens to write at most
    /// where a request does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<usize>,
    /// Language models: tokens of prompt and answer together, which bounds their memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_max: Option<usize>,
    /// Language models: texts end before the first of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
}

/// What a device must have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequirementsSection {
    /// The ONNX operator set that a device's engine must know; without it that of the model file.
    pub opset: Option<u32>,
    /// The oldest agent that can run it, as in `"0.1.0"`.
    pub agent_min: Option<String>,
    /// Memory that the device must have in all, MiB.
    pub memory_mib_min: Option<u32>,
    /// Labels that the device must have.
    #[serde(default)]
    pub labels: Labels,
}

impl Description {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// One sentence that names the key, with its line where TOML knows it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let description: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        description.validate()?;
        Ok(description)
    }

    fn validate(&self) -> Result<(), String> {
        let inputs = self.inputs.iter().map(|t| ("inputs", &t.name, &t.shape));
        let outputs = self.outputs.iter().map(|t| ("outputs", &t.name, &t.shape));
        for (key, empty) in
            [("inputs", self.inputs.is_empty()), ("outputs", self.outputs.is_empty())]
        {
            if empty {
                return Err(format!("{key}: at least one [[{key}]] is needed"));
            }
        }
        let mut names = BTreeSet::new();
        for (key, name, shape) in inputs.chain(outputs) {
            check_shape(shape)
                .map_err(|what| format!("{key} {name:?}: shape {shape:?}: {what}"))?;
            if !names.insert((key, name)) {
                return Err(format!("{key} {name:?} is there twice"));
            }
        }
        for input in &self.inputs {
            if let Some([low, high]) = input.range
                && !(low.is_finite() && high.is_finite() && low < high)
            {
                let name = &input.name;
                return Err(format!("inputs {name:?}: range [{low}, {high}] must rise"));
            }
            if let Some([low, high]) = input.limits
                && !(low.is_finite() && high.is_finite() && low <= high)
            {
                let name = &input.name;
                return Err(format!("inputs {name:?}: limits [{low}, {high}] must rise"));
            }
        }
        if let Some(engine) = self.engine.as_deref().filter(|name| !ENGINES.contains(name)) {
            return Err(format!("engine = {engine:?}: there is no such engine, only {ENGINES:?}"));
        }
        if self.reference.is_some() && self.inputs[0].datatype == Datatype::Bytes {
            let name = &self.inputs[0].name;
            return Err(format!(
                "reference: the first input, {name:?}, is text, whose drift is not watched: remove it"
            ));
        }
        self.check_classes()?;
        let (inputs, outputs) = (self.input_specs(), self.output_specs());
        let model = (self.task, &inputs[0], &outputs[0]);
        if let Some(problem) = humility::problem(&self.humility, model, self.reference.is_some()) {
            return Err(problem);
        }
        if !(WINDOW_ROWS_MIN..=ROWS_MAX).contains(&self.window_rows) {
            let rows = self.window_rows;
            return Err(format!("window_rows = {rows}: {WINDOW_ROWS_MIN} to {ROWS_MAX}"));
        }
        let newest = *ONNX_OPSETS.end();
        if let Some(opset) = self.requirements.opset.filter(|opset| *opset > newest) {
            return Err(format!(
                "requirements.opset = {opset}: devices know ONNX operator sets up to {newest}, so \
                 none would take it"
            ));
        }
        if let Some(text) = &self.requirements.agent_min {
            text.parse::<AgentVersion>()
                .map_err(|error| format!("requirements.agent_min = {text:?}: {error}"))?;
        }
        Ok(())
    }

    fn check_classes(&self) -> Result<(), String> {
        for output in self.output_specs() {
            let (name, classes, labels) = (&output.name, output.row_len(), output.labels.len());
            if labels != 0 && labels != classes {
                return Err(format!("outputs {name:?}: {labels} labels for {classes} classes"));
            }
        }
        let watched = &self.outputs[0];
        if self.task == Task::Classification && watched.datatype != Datatype::Fp32 {
            return Err(format!(
                "outputs {:?}: datatype {}: a classifier's first output must be FP32 probabilities",
                watched.name, watched.datatype
            ));
        }
        Ok(())
    }

    /// The inputs as they stand in the manifest.
    pub fn input_specs(&self) -> Vec<TensorSpec> {
        let spec = |input: &InputSection| TensorSpec {
            name: input.name.clone(),
            datatype: input.datatype,
            shape: input.shape.clone(),
            labels: Vec::new(),
            limits: input.limits,
        };
        self.inputs.iter().map(spec).collect()
    }

    /// The outputs as they stand in the manifest.
    pub fn output_specs(&self) -> Vec<TensorSpec> {
        let spec = |output: &OutputSection| TensorSpec {
            name: output.name.clone(),
            datatype: output.datatype,
            shape: output.shape.clone(),
            labels: output.labels.clone(),
            limits: None,
        };
        self.outputs.iter().map(spec).collect()
    }

    pub(super) fn manifest(&self, engine: &str, files: Vec<FileEntry>) -> Manifest {
        Manifest {
            model: self.name.clone(),
            version: self.version.clone(),
            engine: engine.to_owned(),
            task: self.task,
            files,
            inputs: self.input_specs(),
            outputs: self.output_specs(),
            gates: self.gates,
            window_rows: self.window_rows,
            humility: self.humility.clone(),
        }
    }

    /// What a device must have: what the publisher says, and the operator set `derived` from the
    /// model file unless the publisher says another.
    pub(super) fn requirements(&self, engine: &str, derived: Option<u32>) -> Requirements {
        let section = &self.requirements;
        Requirements {
            engines: vec![engine.to_owned()],
            opset: section.opset.or(derived),
            // Parsed before.
            agent_min: section.agent_min.as_ref().and_then(|text| text.parse().ok()),
            memory_mib_min: section.memory_mib_min,
            labels: section.labels.clone(),
        }
    }
}

fn check_shape(shape: &[i64]) -> Result<(), &'static str> {
    // 2³¹ elements are beyond any device; the product must not overflow either.
    const ELEMENTS_MAX: i64 = 1 << 31;
    let Some((first, rest)) = shape.split_first() else {
        return Err("at least the batch dimension is needed, as in [-1, 64]");
    };
    if *first != -1 && *first < 1 || rest.iter().any(|dim| *dim < 1) {
        return Err("dimensions are 1 or more; only the first may be -1, the batch");
    }
    let known = shape.iter().filter(|dim| **dim > 0);
    let elements = known.into_iter().try_fold(1_i64, |product, dim| product.checked_mul(*dim));
    match elements {
        Some(elements) if elements <= ELEMENTS_MAX => Ok(()),
        _ => Err("more than 2^31 elements"),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::humility::{Action, Condition};

    use super::*;

    const GOOD: &str = r#"
name = "digits"
version = "1.0.0"
model = "model.onnx"
golden = "golden.npz"
task = "classification"
[[inputs]]
name = "pixels"
datatype = "FP32"
shape = [-1, 64]
[[outputs]]
name = "probabilities"
datatype = "FP32"
shape = [-1, 10]
"#;

    #[test]
    fn what_is_left_out_has_a_default() {
        let description = Description::parse(GOOD).unwrap();
        assert_eq!(description.window_rows, WINDOW_ROWS);
        assert_eq!(description.gates, Gates::default());
        assert_eq!(description.requirements("trees", None).engines, ["trees"]);
    }

    #[test]
    fn gates_and_requirements_can_be_given() {
        let more = "[gates.trial]\nseconds_min = 5\n[requirements]\nagent_min = '0.2.0'\n\
                    [requirements.labels]\nhw = 'pi4'";
        let description = Description::parse(&format!("{GOOD}{more}")).unwrap();
        assert_eq!(description.gates.trial.seconds_min, 5);
        assert_eq!(description.gates.trial.samples_min, Gates::default().trial.samples_min);
        assert_eq!(
            description.requirements("trees", None).agent_min,
            Some(AgentVersion([0, 2, 0]))
        );
        assert_eq!(description.requirements("tract-onnx", Some(13)).opset, Some(13));
        let said = Description::parse(&format!("{GOOD}[requirements]\nopset = 15")).unwrap();
        assert_eq!(said.requirements("tract-onnx", Some(13)).opset, Some(15));
    }

    #[test]
    fn humility_rules_are_read_and_checked() {
        let rules = "[[humility]]\nname = 'unsure'\nwhen.uncertain.confidence_min = 0.6\n\
                     [[humility]]\nname = 'dark'\n\
                     when.outlying-input = { feature = 63, range = [0, 16] }\n\
                     action = 'error'\n";
        let description = Description::parse(&format!("{GOOD}{rules}")).unwrap();
        let [unsure, dark] = description.humility.as_slice() else { panic!() };
        assert_eq!((&unsure.action, &dark.action), (&Action::None, &Action::Error));
        let when = Condition::OutlyingInput { feature: Some(63), range: Some([0.0, 16.0]) };
        assert_eq!((dark.when, dark.name.as_str()), (when, "dark"));
        let cases = [
            ("63", "64", "humility rule \"dark\": feature = 64: a row of \"pixels\" has 64"),
            ("'error'", "{ override = [1.0] }", "1 numbers instead of a row"),
            ("'error'", "'shout'", "unknown variant `shout`"),
            (", range = [0, 16]", "", "needs the drift reference"),
            ("outlying-input", "outlier", "unknown variant `outlier`"),
        ];
        for (from, to, expected) in cases {
            let text = format!("{GOOD}{}", rules.replacen(from, to, 1));
            let error = Description::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{to}\n{error}");
        }
    }

    #[test]
    fn every_error_names_its_key() {
        let cases = [
            ("task = ", "taks = ", "unknown field `taks`"),
            ("[-1, 64]", "[64, -1]", "inputs \"pixels\": shape [64, -1]: dimensions are 1 or more"),
            ("[-1, 64]", "[]", "inputs \"pixels\": shape []: at least the batch dimension"),
            ("[-1, 64]", "[-1, 4294967296, 4294967296]", "more than 2^31 elements"),
            ("[-1, 10]", "[-1, 10]\nlabels = ['a']", "1 labels for 10 classes"),
            ("[-1, 64]", "[-1, 64]\nrange = [1.0, 1.0]", "range [1, 1] must rise"),
            ("version = \"1.0.0\"", "version = \"1/0\"", "\"1/0\" is no version"),
            ("task = ", "engine = 'tract'\ntask = ", "engine = \"tract\": there is no such engine"),
            ("task = ", "window_rows = 9\ntask = ", "window_rows = 9: 50 to 16777215"),
            ("\"FP32\"\nshape = [-1, 10]", "\"INT64\"\nshape = [-1, 10]", "must be FP32 probab"),
            ("\"FP32\"", "\"FP33\"", "unknown variant `FP33`"),
            ("[[outputs]]", "[gates.shadow]\nsamples = 3\n[[outputs]]", "unknown field `samples`"),
            (
                "[[outputs]]",
                "[requirements]\nopset = 99\n[[outputs]]",
                "opset = 99: devices know ONNX operator sets up to 18",
            ),
            (
                "[[outputs]]",
                "[requirements]\nagent_min = '1'\n[[outputs]]",
                "agent_min = \"1\": an",
            ),
        ];
        for (from, to, expected) in cases {
            let error = Description::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{to}\n{error}");
        }
        let twice = GOOD.replace(
            "[[outputs]]",
            "[[inputs]]\nname = 'pixels'\ndatatype = 'FP32'\n\
                                                 shape = [1]\n[[outputs]]",
        );
        assert_eq!(Description::parse(&twice).unwrap_err(), "inputs \"pixels\" is there twice");
    }
}
