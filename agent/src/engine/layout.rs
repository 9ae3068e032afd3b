//! What is faster on this device is found by measuring once, and remembered beside the model.
//!
//! Two things differ from device to device and build to build: whether convolutions run faster with
//! channels last (1.3 times as fast on x86-64-v3, a third as fast when built for size), and whether
//! several rows at once take less time than one by one. Neither may change an answer: a plan whose
//! answers differ is not taken.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_wire::tensor::{Datatype, TensorSpec};
use tract_nnef::prelude::{TractResult, TypedModel};
use tract_nnef::tract_core::ops::cnn::Conv;
use tract_nnef::tract_core::transform::get_transform;

use super::plan::Plan;
use super::tract::room;
use super::{Tensor, Values};

/// Rows that the second plan answers at once. Gains come from weights that are read once for all of
/// them; beyond eight rows there is little left to gain, and missing rows cost.
pub(super) const ROWS: usize = 8;

/// Time for measuring one plan. Three runs are made in any case: the first is slow, and one may be
/// interrupted.
const BUDGET: Duration = Duration::from_millis(20);

/// How much faster another plan must be to be taken: less is noise.
const GAIN_MIN: f64 = 1.1;

/// How far answers of two layouts may lie apart, absolute and relative: sums are made in another
/// order.
const TOLERANCE: f32 = 1e-4;

/// The name of the file beside the model.
const FILE: &str = "measured";

/// How convolutions are laid out in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    ChannelsFirst,
    ChannelsLast,
}

/// What was measured on this device with this build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Measured {
    layout: Option<Layout>,
    /// Rows from which on a plan for several pays, 0 if never.
    pub(super) rows_min: Option<usize>,
}

impl Measured {
    /// What was measured for this file before; nothing if another build measured it.
    pub(super) fn read(model_file: &Path) -> Self {
        let text = std::fs::read_to_string(beside(model_file)).unwrap_or_default();
        let mut words = text.split_whitespace();
        if words.next() != Some(&build()) {
            return Self::default();
        }
        let layout = match words.next() {
            Some("channels-first") => Some(Layout::ChannelsFirst),
            Some("channels-last") => Some(Layout::ChannelsLast),
            _ => None,
        };
        Self { layout, rows_min: words.next().and_then(|word| word.parse().ok()) }
    }

    /// Remembers it. Where nothing can be written it is measured again next time.
    pub(super) fn write(self, model_file: &Path) {
        if self == Self::read(model_file) {
            return;
        }
        let layout = match self.layout {
            Some(Layout::ChannelsFirst) => "channels-first",
            Some(Layout::ChannelsLast) => "channels-last",
            None => "-",
        };
        let rows_min = self.rows_min.map_or("-".to_string(), |rows| rows.to_string());
        let text = format!("{} {layout} {rows_min}\n", build());
        if let Err(error) = std::fs::write(beside(model_file), text) {
            tracing::debug!("what was measured is not remembered: {error}");
        }
    }
}

fn beside(model_file: &Path) -> PathBuf {
    model_file.with_file_name(FILE)
}

/// What tells builds apart: a small one has other favourites than a fast one.
fn build() -> String {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    format!("{}/{}", env!("CARGO_PKG_VERSION"), program.map_or(0, |program| program.len()))
}

/// The faster plan for one row.
pub(super) fn plan(
    model: TypedModel,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    measured: &mut Measured,
) -> TractResult<Plan> {
    if !model.nodes.iter().any(|node| node.op_is::<Conv>()) {
        return Plan::new(model, inputs, 1);
    }
    match measured.layout {
        Some(Layout::ChannelsFirst) => return Plan::new(model, inputs, 1),
        Some(Layout::ChannelsLast) => return Plan::new(channels_last(model)?, inputs, 1),
        None => {}
    }
    let first = Plan::new(model.clone(), inputs, 1)?;
    let Ok((answers, first_time)) = time(&first, inputs, outputs) else {
        return Ok(first);
    };
    let last = channels_last(model).and_then(|model| {
        let plan = Plan::new(model, inputs, 1)?;
        let (found, last_time) = time(&plan, inputs, outputs)?;
        let faster = first_time.as_secs_f64() > GAIN_MIN * last_time.as_secs_f64();
        Ok((faster && alike(&answers, &found)).then_some((plan, last_time)))
    });
    let (layout, plan) = match last {
        Ok(Some((plan, last_time))) => {
            tracing::debug!("channels last: {last_time:?}, channels first {first_time:?}");
            (Layout::ChannelsLast, plan)
        }
        Ok(None) | Err(_) => (Layout::ChannelsFirst, first),
    };
    measured.layout = Some(layout);
    Ok(plan)
}

/// A plan for [`ROWS`] rows if it pays. Convolutions have work enough with one row.
pub(super) fn batch_plan(
    model: TypedModel,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    one: &Plan,
    measured: &mut Measured,
) -> TractResult<Option<Plan>> {
    if model.nodes.iter().any(|node| node.op_is::<Conv>()) {
        return Ok(None);
    }
    let plan = Plan::new(model, inputs, ROWS)?;
    if measured.rows_min.is_some() {
        return Ok(Some(plan));
    }
    let (alone, one_time) = time(one, inputs, outputs)?;
    let (together, many_time) = time(&plan, inputs, outputs)?;
    // All rows of the probe are the same, so are its answers to the last bit: what a row is answered
    // must not depend on its company.
    let same = alone.iter().zip(&together).all(|(alone, together)| {
        let (alone, together) = (alone.values.as_f32(), together.values.as_f32());
        together.chunks(alone.len().max(1)).all(|row| row == alone.as_ref())
    });
    let rows_min = 1 + (many_time.as_secs_f64() / one_time.as_secs_f64()) as usize;
    tracing::debug!("{ROWS} rows at once: {many_time:?}, one {one_time:?}, alike {same}");
    if !same || rows_min > ROWS / 2 {
        return Ok(None);
    }
    measured.rows_min = Some(rows_min);
    Ok(Some(plan))
}

fn channels_last(mut model: TypedModel) -> TractResult<TypedModel> {
    if let Some(transform) = get_transform("conv_nhwc")? {
        transform.transform(&mut model)?;
    }
    Ok(model)
}

/// The plan's answers to the probe, and its least time.
fn time(
    plan: &Plan,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> TractResult<(Vec<Tensor>, Duration)> {
    let probe: Vec<Tensor> = inputs.iter().map(|spec| probe(spec, plan.rows)).collect();
    let mut state = plan.take()?;
    let (begun, mut least, mut runs) = (Instant::now(), Duration::MAX, 0);
    let mut answers = room(outputs, plan.rows);
    while runs < 3 || begun.elapsed() < BUDGET {
        answers = room(outputs, plan.rows);
        let one = Instant::now();
        plan.run(&mut state, &probe, 0, plan.rows, &mut answers)?;
        least = least.min(one.elapsed());
        runs += 1;
    }
    plan.give_back(state);
    Ok((answers, least))
}

/// Rows that a model should be able to answer: small numbers that differ, within the limits; zero
/// where numbers are whole, since they may name something.
fn probe(spec: &TensorSpec, rows: usize) -> Tensor {
    let shape = super::schema::shape(spec, rows);
    let len = shape.iter().product();
    let [low, high] = spec.limits.unwrap_or([0.0, 1.0]);
    // Between 0 and 1, the same for every row, never the same for neighbours.
    let share = |index: usize| ((index % spec.row_len()) * 37 % 101) as f64 / 101.0;
    let value = |index: usize| low + (high - low) * share(index);
    let values = match spec.datatype {
        Datatype::Fp32 => Values::F32((0..len).map(|index| value(index) as f32).collect()),
        Datatype::Fp64 => Values::F64((0..len).map(value).collect()),
        other => Values::zeros(other, len),
    };
    Tensor { shape, values }
}

fn alike(first: &[Tensor], other: &[Tensor]) -> bool {
    first.iter().zip(other).all(|(first, other)| {
        let (first, other) = (first.values.as_f32(), other.values.as_f32());
        let near = |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= TOLERANCE * (1.0 + a.abs());
        first.iter().zip(other.iter()).all(near)
    })
}
