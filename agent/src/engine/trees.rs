//! Models that are one ensemble of trees, from a file of our own: no graph, no tract.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tidegate_trees::{Ensemble, Labels, Scores};
use tidegate_wire::tensor::{Datatype, TensorSpec};

use super::schema::{check_specs, schema};
use super::{Engine, EngineError, Tensor, Values};

/// Buffers kept for reuse, at most: as many calls at a time need no new one.
const IDLE_MAX: usize = 16;

/// An ensemble that answers.
pub(super) struct TreesEngine {
    ensemble: Ensemble,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// What each output is.
    parts: Vec<Part>,
    batched: bool,
    idle: Mutex<Vec<Scores>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Label,
    Scores,
}

impl TreesEngine {
    /// Reads and checks the ensemble in `file`.
    pub(super) fn load(
        file: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, EngineError> {
        let bytes = std::fs::read(file)
            .map_err(|source| EngineError::Unreadable { file: file.to_path_buf(), source })?;
        let ensemble = Ensemble::decode(&bytes).map_err(|error| EngineError::Prepare {
            file: file.to_path_buf(),
            detail: error.to_string(),
        })?;
        let batched = check_specs(inputs, outputs)?;
        check_input(&ensemble, inputs)?;
        let parts = outputs.iter().map(|spec| part(&ensemble, spec)).collect::<Result<_, _>>()?;
        let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
        Ok(Self { ensemble, inputs, outputs, parts, batched, idle: Mutex::default() })
    }

    fn answer(&self, input: &Tensor, rows: usize, scores: &mut Scores) -> Vec<Tensor> {
        match (&input.values, self.ensemble.is_double()) {
            (Values::F64(values), true) => self.ensemble.run_f64(values, rows, scores),
            (values, _) => self.ensemble.run_f32(&values.as_f32(), rows, scores),
        }
        let tensor = |(part, spec): (&Part, &TensorSpec)| {
            let mut shape: Vec<usize> =
                spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(1)).collect();
            if self.batched {
                shape[0] = rows;
            }
            let values = match part {
                Part::Scores => Values::F32(scores.values.clone()),
                Part::Label => self.label_values(&scores.classes),
            };
            Tensor { shape, values }
        };
        self.parts.iter().zip(&self.outputs).map(tensor).collect()
    }

    fn label_values(&self, classes: &[u32]) -> Values {
        let classes = classes.iter().map(|class| *class as usize);
        match self.ensemble.labels() {
            Some(Labels::Strings(labels)) => {
                Values::Bytes(classes.map(|class| labels[class].clone().into_bytes()).collect())
            }
            Some(Labels::Ints(labels)) => Values::I64(classes.map(|class| labels[class]).collect()),
            None => Values::I64(Vec::new()),
        }
    }
}

fn check_input(ensemble: &Ensemble, inputs: &[TensorSpec]) -> Result<(), EngineError> {
    let [input] = inputs else {
        return Err(schema(format!("trees have one input, the manifest {}", inputs.len())));
    };
    let (name, known) = (&input.name, &ensemble.names.input);
    if !known.is_empty() && known != name {
        return Err(schema(format!("the trees have no input {name:?}, only {known:?}")));
    }
    let columns = ensemble.columns();
    match input.shape[..] {
        [_, width] if width >= columns as i64 => {}
        _ => {
            let shape = &input.shape;
            return Err(schema(format!(
                "the trees look at {columns} columns of {name:?}, which is {shape:?} in the manifest"
            )));
        }
    }
    if input.datatype == Datatype::Bytes {
        return Err(schema(format!("trees look at numbers, and {name:?} is BYTES")));
    }
    Ok(())
}

fn part(ensemble: &Ensemble, spec: &TensorSpec) -> Result<Part, EngineError> {
    let (name, shape, datatype) = (&spec.name, &spec.shape, spec.datatype);
    let names = &ensemble.names;
    let (part, wanted, fits) = if *name == names.scores {
        let targets = ensemble.targets();
        let fits = shape.len() == 2 && spec.shape[1] == targets as i64;
        (Part::Scores, Datatype::Fp32, fits)
    } else if let (true, Some(labels)) = (*name == names.label, ensemble.labels()) {
        let wanted = match labels {
            Labels::Ints(_) => Datatype::Int64,
            Labels::Strings(_) => Datatype::Bytes,
        };
        (Part::Label, wanted, shape.len() == 1)
    } else {
        let (label, scores) = (&names.label, &names.scores);
        return Err(schema(format!(
            "the trees have no output {name:?}, only {scores:?} and {label:?}"
        )));
    };
    if datatype != wanted || !fits {
        let shown = match part {
            Part::Scores => format!("[-1, {}]", ensemble.targets()),
            Part::Label => "[-1]".to_string(),
        };
        return Err(schema(format!(
            "output {name:?} is {wanted} {shown} in the trees, {datatype} {shape:?} in the manifest"
        )));
    }
    Ok(part)
}

impl Engine for TreesEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let spec = &self.inputs[0];
        let wrong = |detail: String| EngineError::Input { name: spec.name.clone(), detail };
        let [input] = inputs else {
            return Err(wrong(format!("{} inputs given, 1 needed", inputs.len())));
        };
        let (found, wanted) = (input.values.datatype(), spec.datatype);
        if found != wanted {
            return Err(wrong(format!("{found} given, {wanted} needed")));
        }
        let rows = match self.batched {
            true => input.shape.first().copied().unwrap_or(0),
            false => usize::try_from(spec.shape[0]).unwrap_or(1),
        };
        let width = usize::try_from(spec.shape[1]).unwrap_or(1);
        let (have, needed) = (input.values.len(), rows * width);
        if rows == 0 || have != needed {
            return Err(wrong(format!("{have} values given, {needed} needed")));
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scores = idle.unwrap_or_default();
        let answers = self.answer(input, rows, &mut scores);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(scores);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_trees::{Attributes, Mode, Names};

    use super::*;

    fn stump(labels: Labels) -> Vec<u8> {
        let attributes = Attributes {
            tree_ids: vec![0, 0, 0],
            node_ids: vec![0, 1, 2],
            feature_ids: vec![1, 0, 0],
            modes: vec![Mode::Leq, Mode::Leaf, Mode::Leaf],
            values: vec![0.5, 0.0, 0.0],
            yes_ids: vec![1, 0, 0],
            no_ids: vec![2, 0, 0],
            weight_tree_ids: vec![0, 0],
            weight_node_ids: vec![1, 2],
            weight_targets: vec![0, 0],
            weights: vec![0.25, 0.75],
            ..Attributes::classifier(labels)
        };
        let mut ensemble = Ensemble::build(&attributes).unwrap();
        let name = |name: &str| name.to_string();
        ensemble.names = Names { input: name("x"), label: name("label"), scores: name("p") };
        ensemble.encode()
    }

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        let (name, shape) = (name.to_string(), shape.to_vec());
        TensorSpec { name, datatype, shape, labels: vec![], limits: None }
    }

    fn load(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Result<TreesEngine, EngineError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model");
        let labels = Labels::Strings(vec!["no".into(), "yes".into()]);
        std::fs::write(&file, stump(labels)).unwrap();
        TreesEngine::load(&file, inputs, outputs)
    }

    #[test]
    fn labels_are_words_and_scores_are_numbers() {
        let input = spec("x", Datatype::Int64, &[-1, 2]);
        let outputs = [spec("p", Datatype::Fp32, &[-1, 2]), spec("label", Datatype::Bytes, &[-1])];
        let engine = load(&[input], &outputs).unwrap();
        let rows = Tensor { shape: vec![2, 2], values: Values::I64(vec![7, 0, 7, 1]) };
        let answers = engine.run(&[rows]).unwrap();
        assert_eq!(answers[0].values, Values::F32(vec![0.75, 0.25, 0.25, 0.75]));
        assert_eq!(answers[1].values, Values::Bytes(vec![b"no".to_vec(), b"yes".to_vec()]));
        assert_eq!((&answers[0].shape, &answers[1].shape), (&vec![2, 2], &vec![2]));
        let short = Tensor { shape: vec![1, 1], values: Values::I64(vec![7]) };
        assert!(matches!(engine.run(&[short]), Err(EngineError::Input { .. })));
    }

    #[test]
    fn a_manifest_of_other_tensors_is_refused() {
        let good = [spec("p", Datatype::Fp32, &[-1, 2])];
        let wrong = |inputs: &[TensorSpec], outputs: &[TensorSpec]| {
            load(inputs, outputs).err().unwrap().to_string()
        };
        let input = spec("x", Datatype::Fp32, &[-1, 2]);
        let narrow = wrong(&[spec("x", Datatype::Fp32, &[-1, 1])], &good);
        assert!(narrow.contains("2 columns of \"x\""), "{narrow}");
        let other = wrong(&[spec("y", Datatype::Fp32, &[-1, 2])], &good);
        assert!(other.contains("no input \"y\", only \"x\""), "{other}");
        let three = wrong(std::slice::from_ref(&input), &[spec("p", Datatype::Fp32, &[-1, 3])]);
        assert!(three.contains("FP32 [-1, 2] in the trees"), "{three}");
        let label = wrong(&[input], &[spec("label", Datatype::Int64, &[-1])]);
        assert!(label.contains("BYTES [-1] in the trees"), "{label}");
    }
}
