//! The engine of a simulated device, and what is counted around it.
//!
//! Inputs are drawn when somebody looks: a device that nobody looks at costs nothing. What is
//! counted goes into the real sketches and is judged by the real gates.

use std::rc::Rc;

use tidegate_drift::{LatencySummary, NumericSummary, OutputSummary};
use tidegate_lifecycle::gates::{
    Before, GoldenTally, Latencies, ShadowTally, TrialTally, Verdict, same_class,
};
use tidegate_wire::envelope;
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest};
use tidegate_wire::report::Window;
use tidegate_wire::tensor::GoldenSet;
use tidegate_wire::{ArtifactRef, Digest, Reason};

use crate::model::{Behaviour, CLASSES, FEATURES, Weights, answer};
use crate::rng::Stream;

/// Nanoseconds that a good model takes.
const ENGINE_NS: u64 = 50_000;

/// Rows of which a window's sketches may leave the device, as in the agent.
const PRIVATE_ROWS_MIN: u64 = 50;

/// A model that is loaded.
#[derive(Debug)]
pub struct Loaded {
    /// What it is.
    pub artifact: ArtifactRef,
    /// Its manifest.
    pub manifest: Manifest,
    /// What it does.
    pub behaviour: Behaviour,
    /// What its inputs are binned by.
    pub reference: DriftReference,
    /// The reference file's digest.
    pub reference_digest: Digest,
    /// The digest of the bytes that it was loaded from, as they lay on the disk.
    pub loaded_from: Digest,
}

/// One answer of the engine.
enum Answer {
    Row([f32; CLASSES]),
    Failed,
}

impl Loaded {
    /// Reads a model from its files.
    ///
    /// # Errors
    /// [`Reason::LoadFailed`] if its files are not what the engine takes.
    pub fn new(
        artifact: ArtifactRef,
        manifest: Manifest,
        weights: &Weights,
        reference: DriftReference,
    ) -> Result<Self, Reason> {
        if weights.behaviour == Behaviour::DoesNotLoad {
            return Err(Reason::LoadFailed);
        }
        let reference_digest =
            manifest.file(FileRole::Reference).map_or(Digest([0; 32]), |file| file.digest);
        let behaviour = weights.behaviour;
        // One message has one encoding, so these are the bytes that were read.
        let loaded_from = Digest::of(&envelope::seal(weights));
        Ok(Self { artifact, manifest, behaviour, reference, reference_digest, loaded_from })
    }

    /// What the real gate says of the golden set.
    pub fn golden(&self, golden: &GoldenSet) -> Result<(), Reason> {
        let policy = &self.manifest.gates.self_test;
        let mut tally = GoldenTally::default();
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let four = bytes.chunks_exact(4);
            four.map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]])).collect()
        };
        let (inputs, outputs) = (floats(&golden.inputs[0].bytes), floats(&golden.outputs[0].bytes));
        for (input, expected) in inputs.chunks_exact(FEATURES).zip(outputs.chunks_exact(CLASSES)) {
            let mut got = answer(input[0]);
            if self.behaviour == Behaviour::FailsGolden {
                got.rotate_left(1);
            }
            tally.observe(policy, expected, &got);
        }
        tally.verdict(policy)
    }

    fn infer(&self, feature: f32, soured: Sourness, stream: &mut Stream) -> Answer {
        let one_class = [0.9, 0.05, 0.05];
        match (self.behaviour, soured) {
            (Behaviour::Sours { .. }, Sourness::Sour) => Answer::Row(one_class),
            (Behaviour::Lies, _) => {
                let mut wrong = answer(feature);
                wrong.rotate_left(1);
                Answer::Row(wrong)
            }
            (Behaviour::NotNumbers, _) => Answer::Row([f32::NAN; CLASSES]),
            (Behaviour::Errors { permille }, _) if stream.chance(u64::from(permille)) => {
                Answer::Failed
            }
            _ => Answer::Row(answer(feature)),
        }
    }

    fn engine_ns(&self) -> u64 {
        match self.behaviour {
            Behaviour::Slow { percent } => ENGINE_NS * u64::from(percent) / 100,
            _ => ENGINE_NS,
        }
    }

    /// Hours after which it is of no use any more, if that is what it does.
    pub fn sours_after_hours(&self) -> Option<u32> {
        match self.behaviour {
            Behaviour::Sours { after_hours } => Some(after_hours),
            _ => None,
        }
    }
}

/// Whether a model that sours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sourness {
    /// Not yet.
    Fresh,
    /// It has.
    Sour,
}

/// What is counted for one active model.
#[derive(Debug)]
pub struct Serving {
    /// What answers.
    pub loaded: Rc<Loaded>,
    /// Since when, milliseconds.
    pub since_ms: u64,
    open: Sketch,
    last: Option<Figures>,
    /// On probation: since when, and what was counted.
    pub trial: Option<Trial>,
}

/// A probation.
#[derive(Debug)]
pub struct Trial {
    /// Since when, milliseconds.
    pub since_ms: u64,
    tally: TrialTally,
    outputs: OutputSummary,
    previous: Option<OutputSummary>,
}

/// Recent figures, against which a successor is held.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    outputs: OutputSummary,
    engine: Latencies,
    rows: u64,
}

#[derive(Debug)]
struct Sketch {
    opened: u64,
    closed: u64,
    rows: u64,
    errors: u64,
    features: Vec<NumericSummary>,
    outputs: OutputSummary,
    latency: LatencySummary,
    engine: Latencies,
}

impl Sketch {
    fn new(at: u64) -> Self {
        Self {
            opened: at,
            closed: at,
            rows: 0,
            errors: 0,
            features: vec![NumericSummary::default(); FEATURES],
            outputs: OutputSummary::new(CLASSES),
            latency: LatencySummary::default(),
            engine: Latencies::default(),
        }
    }

    fn size(&self) -> u64 {
        self.rows + self.errors
    }
}

impl Serving {
    /// A model begins to answer.
    pub fn new(loaded: Rc<Loaded>, now_ms: u64, unix: u64) -> Self {
        Self { loaded, since_ms: now_ms, open: Sketch::new(unix), last: None, trial: None }
    }

    /// Begins a probation; `previous` are the figures of what answered before.
    pub fn start_trial(&mut self, now_ms: u64, previous: Option<Figures>) {
        let before = previous.map(|Figures { rows, engine, .. }| Before {
            rows,
            humble: 0,
            latency: engine,
        });
        self.trial = Some(Trial {
            since_ms: now_ms,
            tally: TrialTally { before: before.unwrap_or_default(), ..TrialTally::default() },
            outputs: OutputSummary::new(CLASSES),
            previous: previous.map(|figures| figures.outputs),
        });
    }

    /// The last closed window and the open one together.
    pub fn recent(&self) -> Option<Figures> {
        let open =
            Figures { outputs: self.open.outputs, engine: self.open.engine, rows: self.open.rows };
        let Some(mut sum) = self.last else { return Some(open).filter(|it| it.rows > 0) };
        sum.engine.merge(&open.engine);
        sum.rows += open.rows;
        // A sum that would overflow keeps the older half.
        let _ = sum.outputs.merge(&open.outputs);
        Some(sum)
    }

    /// Answers `rows` inputs, the last of them at `unix`; a candidate in the shadow sees them too.
    pub fn answer(
        &mut self,
        rows: u64,
        unix: u64,
        sourness: Sourness,
        stream: &mut Stream,
        mut shadow: Option<&mut Shadow>,
    ) {
        let room = u64::from(self.loaded.manifest.window_rows).saturating_sub(self.open.size());
        if self.open.size() == 0 {
            self.open.opened = unix;
        }
        // A clock that was set back must not close a window before it was opened.
        self.open.closed = unix.max(self.open.opened);
        for _ in 0..rows.min(room) {
            self.answer_one(sourness, stream, shadow.as_deref_mut());
        }
    }

    fn answer_one(&mut self, sourness: Sourness, stream: &mut Stream, shadow: Option<&mut Shadow>) {
        let draw = stream.any();
        let feature = |bits: u64| (bits & 0xFF_FFFF) as f32 / (1 << 24) as f32;
        let row = [feature(draw), feature(draw >> 32)];
        let answered = self.loaded.infer(row[0], sourness, stream);
        let Answer::Row(answered) = answered else {
            self.open.errors += 1;
            if let Some(trial) = &mut self.trial {
                trial.tally.errors += 1;
            }
            return;
        };
        let engine_ns = self.loaded.engine_ns();
        self.open.rows += 1;
        self.open.engine.observe(engine_ns, 1);
        self.open.latency.observe((engine_ns / 1_000) as u32);
        self.open.outputs.observe(&answered);
        let mut outside = 0;
        let references = self.loaded.reference.features.iter();
        for ((summary, reference), value) in self.open.features.iter_mut().zip(references).zip(row)
        {
            summary.observe(reference, value);
            outside += u64::from(value < reference.range_lo || value > reference.range_hi);
        }
        if let Some(trial) = &mut self.trial {
            trial.tally.samples += 1;
            trial.tally.invalid += u32::from(answered.iter().any(|value| !value.is_finite()));
            trial.tally.values += FEATURES as u64;
            trial.tally.out_of_range += outside;
            trial.tally.latency.observe(engine_ns, 1);
            trial.outputs.observe(&answered);
        }
        if let Some(shadow) = shadow {
            shadow.observe(row[0], &answered, engine_ns, stream);
        }
    }

    /// Rows until the open window is full.
    pub fn rows_to_go(&self) -> u64 {
        u64::from(self.loaded.manifest.window_rows).saturating_sub(self.open.size())
    }

    /// Closes the open window if there is anything in it.
    pub fn close(&mut self, boot: u64, number: u64, unix: u64) -> Option<Window> {
        if self.open.size() == 0 {
            return None;
        }
        let sketch = std::mem::replace(&mut self.open, Sketch::new(unix));
        let Sketch { outputs, engine, rows, .. } = sketch;
        self.last = Some(Figures { outputs, engine, rows });
        let large = rows >= PRIVATE_ROWS_MIN;
        Some(Window {
            model: self.loaded.manifest.model.clone(),
            artifact: self.loaded.artifact.clone(),
            boot,
            window: number,
            opened: sketch.opened,
            closed: sketch.closed,
            rows,
            errors: sketch.errors,
            reference: large.then_some(self.loaded.reference_digest),
            features: if large { sketch.features } else { Vec::new() },
            outputs: large.then_some(outputs),
            latency: sketch.latency,
            bad_inputs: 0,
            humility: Default::default(),
            feedback: None,
        })
    }

    /// What the real gate says of the probation.
    pub fn judge(&self, now_ms: u64) -> Option<(Verdict, String)> {
        let trial = self.trial.as_ref()?;
        let policy = &self.loaded.manifest.gates.trial;
        let classes = |summary: &OutputSummary| summary.classes().counts().to_vec();
        let before = trial.previous.as_ref().map(classes);
        let new = classes(&trial.outputs);
        let predictions = before.as_deref().map(|before| (new.as_slice(), before));
        let elapsed_ms = now_ms.saturating_sub(trial.since_ms);
        let verdict = trial.tally.verdict(policy, predictions, elapsed_ms);
        Some((verdict, format!("{} rows", trial.tally.samples)))
    }
}

/// A candidate that sees inputs.
#[derive(Debug)]
pub struct Shadow {
    /// What it is.
    pub candidate: Rc<Loaded>,
    since_ms: u64,
    tally: ShadowTally,
}

impl Shadow {
    /// A candidate begins to see inputs.
    pub fn new(candidate: Rc<Loaded>, now_ms: u64) -> Self {
        Self { candidate, since_ms: now_ms, tally: ShadowTally::default() }
    }

    fn observe(&mut self, feature: f32, answer: &[f32], active_ns: u64, stream: &mut Stream) {
        match self.candidate.infer(feature, Sourness::Fresh, stream) {
            Answer::Failed => self.tally.errors += 1,
            Answer::Row(row) => {
                self.tally.samples += 1;
                self.tally.agreed += u32::from(same_class(&row, answer));
                self.tally.candidate.observe(self.candidate.engine_ns(), 1);
                self.tally.active.observe(active_ns, 1);
            }
        }
    }

    /// What the real gate says.
    pub fn judge(&self, now_ms: u64) -> (Verdict, String) {
        let policy = &self.candidate.manifest.gates.shadow;
        let verdict = self.tally.verdict(policy, now_ms.saturating_sub(self.since_ms));
        (verdict, format!("{} of {} agree", self.tally.agreed, self.tally.samples))
    }
}
