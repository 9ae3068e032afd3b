//! A graph that is ready to run, for one number of rows.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_wire::tensor::TensorSpec;
use tract_nnef::prelude::{
    Datum, IntoRunnable, TValue, TVec, Tensor as TractTensor, TractResult, TypedModel,
    TypedRunnableModel, TypedSimpleState, tract_ndarray,
};

use super::each_fixed;
use super::{Tensor, Values, schema};

/// States kept for reuse, at most: as many calls at a time need none made. Each holds the
/// intermediate tensors of one run.
const IDLE_MAX: usize = 16;

/// An optimised graph and the states in which it runs.
pub(super) struct Plan {
    runnable: Arc<TypedRunnableModel>,
    /// Rows that one run answers.
    pub(super) rows: usize,
    /// Of each input's tensor.
    shapes: Vec<Vec<usize>>,
    /// Whether operators keep something from call to call. Then every run gets a new state, or
    /// answers would depend on earlier questions.
    stateful: bool,
    idle: Mutex<Vec<TypedSimpleState>>,
}

impl Plan {
    /// Prepares `model`, whose inputs are of `rows` rows each.
    pub(super) fn new(model: TypedModel, inputs: &[TensorSpec], rows: usize) -> TractResult<Self> {
        let runnable = model.into_optimized()?.into_runnable()?;
        let first = runnable.spawn()?;
        let stateful = first.op_states.iter().any(Option::is_some);
        let shapes = inputs.iter().map(|spec| schema::shape(spec, rows)).collect();
        Ok(Self { runnable, rows, shapes, stateful, idle: Mutex::new(vec![first]) })
    }

    /// A state that nobody else uses.
    pub(super) fn take(&self) -> TractResult<TypedSimpleState> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| self.runnable.spawn(), Ok)
    }

    /// Keeps a state for the next call. One that failed or panicked half-way is not given back.
    pub(super) fn give_back(&self, state: TypedSimpleState) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(state);
        }
    }

    /// Answers the rows of `inputs` from `first` on, and appends them to `answers`. Where there
    /// are fewer than the plan's, zeros stand for the missing ones.
    pub(super) fn run(
        &self,
        state: &mut TypedSimpleState,
        inputs: &[Tensor],
        first: usize,
        count: usize,
        answers: &mut [Tensor],
    ) -> TractResult<()> {
        let mut values: TVec<TValue> = TVec::with_capacity(inputs.len());
        for (input, shape) in inputs.iter().zip(&self.shapes) {
            values.push(rows_of(input, shape, self.rows, first, count)?);
        }
        let outputs =
            if self.stateful { self.runnable.spawn()?.run(values)? } else { state.run(values)? };
        for (answer, output) in answers.iter_mut().zip(&outputs) {
            append(&mut answer.values, output, output.len() / self.rows * count)?;
        }
        Ok(())
    }
}

/// Some rows of `input` as tract wants them: one copy, into memory that it has aligned.
fn rows_of(
    input: &Tensor,
    shape: &[usize],
    rows: usize,
    first: usize,
    count: usize,
) -> TractResult<TValue> {
    let len = shape.iter().product::<usize>();
    let row = len / rows;
    let range = first * row..(first + count) * row;
    let tensor = each_fixed!(&input.values, values => {
        if count == rows {
            TractTensor::from_shape(shape, &values[range])?
        } else {
            let mut filled = values[range].to_vec();
            filled.resize(len, Default::default());
            TractTensor::from_shape(shape, &filled)?
        }
    }, values => {
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        let mut values: Vec<String> = values[range].iter().map(text).collect();
        values.resize(len, String::new());
        tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into()
    });
    Ok(tensor.into())
}

/// The first `count` elements of an output.
fn append(values: &mut Values, output: &TractTensor, count: usize) -> TractResult<()> {
    fn copy<T: Datum + Copy>(
        into: &mut Vec<T>,
        output: &TractTensor,
        count: usize,
    ) -> TractResult<()> {
        into.extend_from_slice(&output.try_as_plain_ram()?.as_slice::<T>()?[..count]);
        Ok(())
    }
    each_fixed!(values, into => copy(into, output, count), into => {
        let strings = output.try_as_plain_ram()?.as_slice::<String>()?;
        into.extend(strings[..count].iter().map(|string| string.as_bytes().to_vec()));
        Ok(())
    })
}
