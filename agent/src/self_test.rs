//! The candidate answers its golden set: the inputs and outputs that its training framework gave.

use std::time::Instant;

use tidegate_lifecycle::gates::GoldenTally;
use tidegate_wire::Reason;
use tidegate_wire::tensor::{GoldenSet, TensorData, TensorSpec};

use crate::engine::{Tensor, Values};
use crate::serving::LoadedModel;

/// What a self-test found.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTestOutcome {
    /// What was compared.
    pub tally: GoldenTally,
    /// Whether it passed, or why not.
    pub verdict: Result<(), Reason>,
    /// The figures, for people; at most 200 bytes.
    pub detail: String,
}

/// Runs the golden set and compares. Blocks; also measures the time for one row.
pub fn self_test(loaded: &LoadedModel, golden: &GoldenSet) -> SelfTestOutcome {
    let mut tally = GoldenTally::default();
    let (verdict, detail) = match compare(loaded, golden, &mut tally) {
        Ok(()) => (tally.verdict(&loaded.manifest.gates.self_test), figures(loaded, &tally)),
        Err((reason, detail)) => (Err(reason), detail),
    };
    SelfTestOutcome { tally, verdict, detail: cut(detail) }
}

type Fault = (Reason, String);

fn compare(loaded: &LoadedModel, golden: &GoldenSet, tally: &mut GoldenTally) -> Result<(), Fault> {
    let manifest = &loaded.manifest;
    let inputs = match_inputs(&manifest.inputs, &golden.inputs)?;
    let batched = manifest.inputs.first().is_some_and(|spec| spec.shape.first() == Some(&-1));
    let rows = if batched { inputs.first().map_or(0, |input| input.shape[0]) } else { 1 };
    if golden.outputs.is_empty() || rows == 0 {
        return Err((Reason::GoldenMismatch, "the golden set has nothing to compare".to_string()));
    }
    let begun = Instant::now();
    let answers = loaded.run(&inputs).map_err(|error| (error.reason(), error.to_string()))?;
    let took = begun.elapsed();
    loaded.measured(took / u32::try_from(rows).unwrap_or(u32::MAX));
    for expected in &golden.outputs {
        let place = manifest.outputs.iter().position(|spec| spec.name == expected.name);
        let Some(index) = place else {
            let name = &expected.name;
            let text = format!("the golden set has output {name:?}, which the manifest lacks");
            return Err((Reason::SchemaMismatch, text));
        };
        let expected = check(&manifest.outputs[index], expected)?.values;
        let got = &answers[index].values;
        if expected.len() != got.len() {
            let name = &manifest.outputs[index].name;
            let (have, need) = (got.len(), expected.len());
            let text = format!("output {name:?} has {have} values, the golden set {need}");
            return Err((Reason::GoldenMismatch, text));
        }
        let row = (got.len() / rows).max(1);
        if let (Values::Bytes(expected), Values::Bytes(got)) = (&expected, got) {
            let rows = expected.chunks_exact(row).zip(got.chunks_exact(row));
            rows.for_each(|(expected, got)| tally.observe_text(expected == got));
            continue;
        }
        let (expected, got) = (expected.as_f32(), got.as_f32());
        for (expected, got) in expected.chunks_exact(row).zip(got.chunks_exact(row)) {
            tally.observe(&manifest.gates.self_test, expected, got);
        }
    }
    Ok(())
}

fn match_inputs(specs: &[TensorSpec], golden: &[TensorData]) -> Result<Vec<Tensor>, Fault> {
    let find = |spec: &TensorSpec| {
        let found = golden.iter().find(|data| data.name == spec.name).ok_or_else(|| {
            let name = &spec.name;
            (Reason::SchemaMismatch, format!("the golden set lacks the input {name:?}"))
        })?;
        check(spec, found)
    };
    specs.iter().map(find).collect()
}

/// Whether golden values have the shape and type of their specification, and fill it.
fn check(spec: &TensorSpec, data: &TensorData) -> Result<Tensor, Fault> {
    let fits = data.shape.len() == spec.shape.len()
        && data.shape.iter().zip(&spec.shape).all(|(have, want)| {
            *want == -1 || u64::try_from(*want).is_ok_and(|want| want == *have)
        });
    let product = data.shape.iter().try_fold(1_u64, |all, dim| all.checked_mul(*dim));
    let count = Values::from_le_bytes(data.datatype, &data.bytes).len() as u64;
    let whole = data.datatype.width().is_none_or(|width| data.bytes.len().is_multiple_of(width));
    if data.datatype != spec.datatype || !fits || product != Some(count) || !whole {
        let (name, have, want) = (&spec.name, &data.shape, &spec.shape);
        let text = format!(
            "golden {name:?} is {} {have:?} in {} bytes, the manifest says {} {want:?}",
            data.datatype,
            data.bytes.len(),
            spec.datatype
        );
        return Err((Reason::SchemaMismatch, text));
    }
    Ok(Tensor::from(data))
}

fn figures(loaded: &LoadedModel, tally: &GoldenTally) -> String {
    let policy = &loaded.manifest.gates.self_test;
    format!(
        "{} of {} golden rows within tolerance (atol {:e}, rtol {:e}), {} with the same largest \
         output, worst deviation {:.2e}; loaded in {} ms with {} MiB",
        tally.rows - tally.outside,
        tally.rows,
        policy.atol,
        policy.rtol,
        tally.same_class,
        tally.worst,
        loaded.load_ms,
        loaded.rss_mib
    )
}

/// At most 200 bytes: what a report's detail may have.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(200));
    text
}
