//! Models through tract, whatever file they came from.
//!
//! The batch dimension is fixed when the model is loaded: a symbolic one costs ten times the speed.
//! One row is what devices mostly ask. Where several at once take less time, which is measured,
//! there is a second plan for [`ROWS`] of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tidegate_wire::tensor::TensorSpec;
use tract_nnef::prelude::{TractError, TractResult, TypedModel};

use super::layout::{self, Measured, ROWS};
use super::plan::Plan;
use super::schema::{check_specs, check_typed, shape};
use super::{Engine, EngineError, Tensor, Values};

/// A graph that was read and found to agree with the manifest: gives itself for a number of rows,
/// with inputs and outputs in the manifest's order.
pub(super) type Graph = Box<dyn Fn(usize) -> TractResult<TypedModel>>;

/// Reads a file of one kind.
pub(super) type Read = fn(&Path, &[TensorSpec], &[TensorSpec]) -> Result<Graph, EngineError>;

/// A model that tract runs.
struct TractEngine {
    one: Plan,
    many: Option<Many>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batched: bool,
}

/// A plan for several rows.
struct Many {
    plan: Plan,
    /// Rows from which on it takes less time than one row at a time, the missing ones included.
    rows_min: usize,
}

/// Reads, checks and optimises the graph in `file`.
pub(super) fn load(
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    file: &Path,
    read: Read,
) -> Result<Box<dyn Engine>, EngineError> {
    // Some malformed graphs make tract panic instead of return.
    let engine = caught(file, || prepare(inputs, outputs, file, read))??;
    Ok(Box::new(engine))
}

/// What `work` returns, or an error where it panics.
pub(super) fn caught<T>(file: &Path, work: impl FnOnce() -> T) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| EngineError::Prepare {
        file: file.to_path_buf(),
        detail: format!("it panicked: {}", words(panic.as_ref())),
    })
}

/// What tract says of a file that it cannot prepare.
pub(super) fn unprepared(file: &Path) -> impl Fn(TractError) -> EngineError {
    |error| EngineError::Prepare { file: file.to_path_buf(), detail: format!("{error:#}") }
}

fn prepare(
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    file: &Path,
    read: Read,
) -> Result<TractEngine, EngineError> {
    let unprepared = unprepared(file);
    let batched = check_specs(inputs, outputs)?;
    let graph = read(file, inputs, outputs)?;
    let model = graph(1).map_err(&unprepared)?;
    for (index, spec) in outputs.iter().enumerate() {
        let fact = model.output_fact(index).map_err(&unprepared)?;
        check_typed(spec, "output", fact, 1)?;
    }
    let mut measured = Measured::read(file);
    let one = layout::plan(model, inputs, outputs, &mut measured).map_err(&unprepared)?;
    let many = if batched { many(&graph, &one, inputs, outputs, &mut measured) } else { None };
    measured.write(file);
    let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
    Ok(TractEngine { one, many, inputs, outputs, batched })
}

/// A plan for several rows, if there is one that pays. Many graphs have a 1 built in somewhere, so
/// that this fails is no news.
fn many(
    graph: &Graph,
    one: &Plan,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    measured: &mut Measured,
) -> Option<Many> {
    if measured.rows_min == Some(0) {
        return None;
    }
    let build = || -> TractResult<Option<Many>> {
        let plan = layout::batch_plan(graph(ROWS)?, inputs, outputs, one, measured)?;
        Ok(plan.zip(measured.rows_min).map(|(plan, rows_min)| Many { plan, rows_min }))
    };
    let built = catch_unwind(AssertUnwindSafe(build)).ok().and_then(Result::ok).flatten();
    if built.is_none() {
        measured.rows_min = Some(0);
    }
    built
}

impl TractEngine {
    /// Rows in `inputs`, if they are what the specifications say.
    fn rows_of(&self, inputs: &[Tensor]) -> Result<usize, EngineError> {
        let wrong = |name: &str, detail: String| EngineError::Input { name: name.into(), detail };
        if inputs.len() != self.inputs.len() {
            let detail = format!("{} inputs given, {} needed", inputs.len(), self.inputs.len());
            return Err(wrong(&self.inputs[0].name, detail));
        }
        let rows = if self.batched { inputs[0].shape.first().copied().unwrap_or(0) } else { 1 };
        for (input, spec) in inputs.iter().zip(&self.inputs) {
            let (found, wanted) = (input.values.datatype(), spec.datatype);
            if found != wanted {
                return Err(wrong(&spec.name, format!("{found} given, {wanted} needed")));
            }
            let needed = spec.row_len() * rows;
            if input.values.len() != needed || rows == 0 {
                let have = input.values.len();
                return Err(wrong(&spec.name, format!("{have} values given, {needed} needed")));
            }
        }
        Ok(rows)
    }

    fn run_rows(&self, inputs: &[Tensor], rows: usize) -> TractResult<Vec<Tensor>> {
        let mut answers = room(&self.outputs, rows);
        let mut next = 0;
        while let Some(many) = self.many.as_ref().filter(|many| rows - next >= many.rows_min) {
            let count = many.plan.rows.min(rows - next);
            let mut state = many.plan.take()?;
            many.plan.run(&mut state, inputs, next, count, &mut answers)?;
            many.plan.give_back(state);
            next += count;
        }
        if next < rows {
            let mut state = self.one.take()?;
            for row in next..rows {
                self.one.run(&mut state, inputs, row, 1, &mut answers)?;
            }
            self.one.give_back(state);
        }
        Ok(answers)
    }
}

/// Outputs without values yet.
pub(super) fn room(outputs: &[TensorSpec], rows: usize) -> Vec<Tensor> {
    let empty = |spec: &TensorSpec| {
        let shape = shape(spec, rows);
        let values = Values::with_capacity(spec.datatype, shape.iter().product());
        Tensor { shape, values }
    };
    outputs.iter().map(empty).collect()
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
        catch_unwind(AssertUnwindSafe(|| self.run_rows(inputs, rows)))
            .map_err(|panic| failed(format!("the engine panicked: {}", words(panic.as_ref()))))?
            .map_err(|error| failed(format!("{error:#}")))
    }

    fn batch_max(&self) -> usize {
        self.many.as_ref().map_or(1, |many| many.plan.rows)
    }
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
