//! ONNX models through tract.
//!
//! The batch dimension is fixed at 1 when the model is loaded: a symbolic one costs ten times the
//! speed, and devices mostly ask one row at a time. Several rows are answered one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_wire::tensor::TensorSpec;
use tract_onnx::prelude::{
    Datum, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, TractError, TractResult,
    TypedRunnableModel, TypedSimpleState,
};

use super::graph::{self, check_specs, datum_type, one_row};
use super::tensor::each_fixed;
use super::{Engine, EngineError, Tensor, Values};

/// States kept for reuse, at most: as many calls at a time need none made. Each holds the
/// intermediate tensors of one row.
const IDLE_MAX: usize = 16;

/// A model that tract runs.
pub(super) struct TractEngine {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// Of each input's tensor with one row.
    shapes: Vec<Vec<usize>>,
    batched: bool,
    /// Whether operators keep something from call to call. Then every row gets a new state, or
    /// answers would depend on earlier questions.
    stateful: bool,
    idle: Mutex<Vec<TypedSimpleState>>,
}

/// The operator set of the standard domain that a file names.
pub(super) fn opset(file: &Path) -> Result<Option<u32>, EngineError> {
    let proto = graph::read(&graph::onnx(), file)?;
    let mut imports = proto.opset_import.iter();
    let standard = imports.find(|import| matches!(import.domain.as_str(), "" | "ai.onnx"));
    Ok(standard.and_then(|import| u32::try_from(import.version).ok()))
}

impl TractEngine {
    /// Reads, checks and optimises the graph in `file`.
    pub(super) fn load(
        file: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, EngineError> {
        let prepare = |detail: String| EngineError::Prepare { file: file.to_path_buf(), detail };
        // Some malformed graphs make tract panic instead of return.
        catch_unwind(|| Self::prepare(file, inputs, outputs))
            .unwrap_or_else(|panic| Err(prepare(format!("it panicked: {}", words(&panic)))))
    }

    fn prepare(
        file: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, EngineError> {
        let prepare = |error: TractError| EngineError::Prepare {
            file: file.to_path_buf(),
            detail: format!("{error:#}"),
        };
        let batched = check_specs(inputs, outputs)?;
        // Shapes noted for intermediate values speak of a symbolic batch; ours is 1.
        let onnx = graph::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let proto = graph::read(&onnx, file)?;
        let empty = Default::default();
        let described = proto.graph.as_ref().unwrap_or(&empty);
        graph::check_operators(&onnx, described)?;
        let folder = file.parent().and_then(Path::to_str);
        let parsed = onnx.parse(&proto, folder).map_err(prepare)?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            let missing = format!("the graph uses {name:?}, which nothing computes");
            return Err(EngineError::Prepare { file: file.to_path_buf(), detail: missing });
        }
        let mut model = parsed.model;
        let input_outlets = graph::match_inputs(&model, inputs)?;
        let output_outlets = graph::match_outputs(&model, described, outputs)?;
        drop(proto);
        model.set_input_outlets(&input_outlets).map_err(prepare)?;
        model.select_output_outlets(&output_outlets).map_err(prepare)?;
        for (index, spec) in inputs.iter().enumerate() {
            let fact = InferenceFact::dt_shape(datum_type(spec.datatype), one_row(spec));
            model.set_input_fact(index, fact).map_err(prepare)?;
        }
        let model = model.into_optimized().map_err(prepare)?;
        for (index, spec) in outputs.iter().enumerate() {
            let fact = InferenceFact::from(model.output_fact(index).map_err(prepare)?);
            graph::check_fact(spec, "output", &fact)?;
        }
        let plan = model.into_runnable().map_err(prepare)?;
        let first = plan.spawn().map_err(prepare)?;
        let stateful = first.op_states.iter().any(Option::is_some);
        Ok(Self {
            plan,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            shapes: inputs.iter().map(one_row).collect(),
            batched,
            stateful,
            idle: Mutex::new(vec![first]),
        })
    }

    /// Rows in `inputs`, if they are what the specifications say.
    fn rows_of(&self, inputs: &[Tensor]) -> Result<usize, EngineError> {
        let wrong = |name: &str, detail: String| EngineError::Input { name: name.into(), detail };
        if inputs.len() != self.inputs.len() {
            let detail = format!("{} inputs given, {} needed", inputs.len(), self.inputs.len());
            return Err(wrong(&self.inputs[0].name, detail));
        }
        let rows = if self.batched { inputs[0].shape.first().copied().unwrap_or(0) } else { 1 };
        for ((input, spec), row) in inputs.iter().zip(&self.inputs).zip(&self.shapes) {
            let (found, wanted) = (input.values.datatype(), spec.datatype);
            if found != wanted {
                return Err(wrong(&spec.name, format!("{found} given, {wanted} needed")));
            }
            let needed = row.iter().product::<usize>() * rows;
            if input.values.len() != needed || rows == 0 {
                let have = input.values.len();
                return Err(wrong(&spec.name, format!("{have} values given, {needed} needed")));
            }
        }
        Ok(rows)
    }

    fn run_rows(
        &self,
        state: &mut TypedSimpleState,
        inputs: &[Tensor],
        rows: usize,
    ) -> TractResult<Vec<Tensor>> {
        let mut answers: Vec<Tensor> = Vec::with_capacity(self.outputs.len());
        for row in 0..rows {
            let mut values: TVec<TValue> = TVec::with_capacity(inputs.len());
            for (input, shape) in inputs.iter().zip(&self.shapes) {
                values.push(row_of(input, shape, row)?);
            }
            let outputs =
                if self.stateful { self.plan.spawn()?.run(values)? } else { state.run(values)? };
            for (index, (output, spec)) in outputs.iter().zip(&self.outputs).enumerate() {
                if row == 0 {
                    let mut shape = output.shape().to_vec();
                    if self.batched {
                        shape[0] = rows;
                    }
                    let room = output.len() * rows;
                    let values = Values::with_capacity(spec.datatype, room);
                    answers.push(Tensor { shape, values });
                }
                append(&mut answers[index].values, output)?;
            }
        }
        Ok(answers)
    }
}

impl Engine for TractEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let rows = self.rows_of(inputs)?;
        let failed = |detail: String| EngineError::Run { detail };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = match idle {
            Some(state) => state,
            None => self.plan.spawn().map_err(|error| failed(format!("{error:#}")))?,
        };
        // A state that failed or panicked half-way is dropped, not reused.
        let answers = catch_unwind(AssertUnwindSafe(|| self.run_rows(&mut state, inputs, rows)))
            .map_err(|panic| failed(format!("the engine panicked: {}", words(&panic))))?
            .map_err(|error| failed(format!("{error:#}")))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(state);
        }
        Ok(answers)
    }
}

/// One row of `input` as tract wants it: one copy, into memory that it has aligned.
fn row_of(input: &Tensor, shape: &[usize], row: usize) -> TractResult<TValue> {
    let len: usize = shape.iter().product();
    let range = row * len..(row + 1) * len;
    let tensor = each_fixed!(&input.values, values => {
        tract_onnx::prelude::Tensor::from_shape(shape, &values[range])?
    }, values => {
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        let values: Vec<String> = values[range].iter().map(text).collect();
        tract_onnx::prelude::tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into()
    });
    Ok(tensor.into())
}

fn append(values: &mut Values, output: &tract_onnx::prelude::Tensor) -> TractResult<()> {
    fn copy<T: Datum + Copy>(
        into: &mut Vec<T>,
        output: &tract_onnx::prelude::Tensor,
    ) -> TractResult<()> {
        into.extend_from_slice(output.try_as_plain_ram()?.as_slice::<T>()?);
        Ok(())
    }
    each_fixed!(values, into => copy(into, output), into => {
        let strings = output.try_as_plain_ram()?.as_slice::<String>()?;
        into.extend(strings.iter().map(|string| string.as_bytes().to_vec()));
        Ok(())
    })
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
