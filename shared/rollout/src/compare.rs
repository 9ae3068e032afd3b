//! Devices with the new artifact against control devices, which still have the old one.

use alloc::vec::Vec;
use core::fmt;

use tidegate_drift::{Counter, DriftConfig, Verdict, compare};
use tidegate_wire::Reason;
use tidegate_wire::report::Window;

use crate::Percent;
use crate::policy::{Gate, OnInputDrift, OnRegression};

/// What the devices' reports say about a rollout, merged by the caller.
///
/// `new` holds the windows of the new artifact since the rollout began, `control` those of the old
/// artifact in the same time from devices that still have it. The same time matters: then both saw
/// the same day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Answers of the new artifact.
    pub new: Group,
    /// Answers of the old artifact on control devices.
    pub control: Group,
    /// What the new artifact's inputs look like.
    pub inputs: Inputs,
}

/// Counts of one group of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Inferences that were answered.
    pub rows: u64,
    /// Inferences that failed, or whose outputs were no numbers.
    pub errors: u64,
    /// Answers per class, shape `[classes + 1]`, the last for all others; empty if the model is no
    /// classifier.
    pub classes: Vec<u64>,
    /// Answers per bin of the largest probability; empty if the model is no classifier.
    pub top: Vec<u64>,
}

impl Group {
    /// Adds one window. Windows are distinct: the caller drops those that it has counted before.
    pub fn add(&mut self, window: &Window) {
        self.rows = self.rows.saturating_add(window.rows);
        self.errors = self.errors.saturating_add(window.errors);
        if let Some(outputs) = &window.outputs {
            self.errors = self.errors.saturating_add(outputs.invalid().into());
            add_counts(&mut self.classes, outputs.classes().counts());
            add_counts(&mut self.top, outputs.top());
        }
    }

    fn is_empty(&self) -> bool {
        self.rows == 0 && self.errors == 0
    }
}

fn add_counts<T: Counter>(into: &mut Vec<u64>, counts: &[T]) {
    if into.len() < counts.len() {
        into.resize(counts.len(), 0);
    }
    for (slot, &count) in into.iter_mut().zip(counts) {
        *slot = slot.saturating_add(count.into());
    }
}

/// What the inputs of the new artifact look like beside its training sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Inputs {
    /// The artifact has no drift reference, or nobody looked.
    #[default]
    Unknown,
    /// Too few rows to say.
    TooFew {
        /// Rows so far.
        have: u64,
        /// Rows needed.
        need: u64,
    },
    /// As in the training sample.
    Quiet,
    /// These features moved, by their index.
    Drifted(Vec<u32>),
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// How often each class is predicted.
    Predictions,
    /// The largest probability.
    Confidence,
    /// The share of inferences that fail.
    Errors,
    /// The inputs, against the training sample.
    Inputs,
}

impl Metric {
    /// The reason code of a revert for it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Errors => Reason::ControlErrors,
            Self::Predictions | Self::Confidence | Self::Inputs => Reason::ControlDrift,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Predictions => "predictions",
            Self::Confidence => "confidence",
            Self::Errors => "error rate",
            Self::Inputs => "inputs",
        })
    }
}

/// One metric's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What was compared.
    pub metric: Metric,
    /// What came of it.
    pub outcome: Outcome,
    /// What the policy does about a regression. Never [`OnRegression::Revert`] for inputs.
    pub action: OnRegression,
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// No evidence of a regression.
    Pass,
    /// Too few rows on one side. Never a pass.
    Inconclusive {
        /// Rows of the smaller side.
        have: u64,
        /// Rows that it needs.
        need: u64,
    },
    /// The new artifact differs from the control devices.
    Regressed(Figures),
    /// The inputs differ from the training sample in these features.
    Drifted(Vec<u32>),
    /// There is nothing to compare.
    Skipped(Skip),
}

/// The figures behind a regression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// The class or bin that moved most; none where the metric is one share.
    pub bin: Option<usize>,
    /// Its share with the new artifact.
    pub new: Percent,
    /// Its share on the control devices.
    pub control: Percent,
    /// Natural logarithm of the evidence.
    pub ln_e: f64,
}

/// Why there is nothing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The policy has turned it off.
    TurnedOff,
    /// In the last wave no device is left that has the old artifact.
    LastWave,
    /// The rollout is a first install: there is no old artifact.
    FirstInstall,
    /// Every device that takes part has the new artifact already.
    NoControl,
    /// The model is no classifier, or has no drift reference.
    NotMeasured,
    /// The two artifacts have different classes.
    DifferentClasses,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TurnedOff => "turned off by the policy",
            Self::LastWave => "no control device is left in the last wave",
            Self::FirstInstall => "a first install has nothing to compare with",
            Self::NoControl => "no control device is left",
            Self::NotMeasured => "the model does not report it",
            Self::DifferentClasses => "old and new model have different classes",
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.metric)?;
        match &self.outcome {
            Outcome::Pass => f.write_str("no regression"),
            Outcome::Inconclusive { have, need } => write!(f, "{have} of {need} rows"),
            Outcome::Regressed(figures) => write!(f, "{figures}"),
            Outcome::Drifted(features) => write!(f, "{} features drifted", features.len()),
            Outcome::Skipped(skip) => write!(f, "not compared, {skip}"),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bin) = self.bin {
            write!(f, "bin {bin} has ")?;
        }
        write!(f, "{}, on control devices {}", self.new, self.control)
    }
}

/// Metrics that are tested together: the chance of a false alarm is shared among them.
const METRICS: u32 = 3;

/// Tests every metric once. Each look at a grown control group risks a further α/10, so the gate
/// asks at the end of a wave, not on every report; [`samples`] asks for nothing but the numbers.
pub fn comparisons(gate: &Gate, evidence: &Evidence, skip: Option<Skip>) -> Vec<Comparison> {
    let mut results = samples(gate, evidence, skip);
    for result in &mut results {
        if result.outcome == Outcome::Pass {
            result.outcome = test(result.metric, gate, evidence);
        }
    }
    results
}

/// What would be compared and whether there are rows enough, without a test: `Pass` here only
/// means that nothing is missing.
pub fn samples(gate: &Gate, evidence: &Evidence, skip: Option<Skip>) -> Vec<Comparison> {
    let inputs = match gate.input_drift {
        OnInputDrift::Hold => OnRegression::Hold,
        OnInputDrift::Off => OnRegression::Off,
    };
    let metrics = [
        (Metric::Predictions, gate.prediction_drift),
        (Metric::Confidence, gate.confidence_drift),
        (Metric::Errors, gate.error_rate),
        (Metric::Inputs, inputs),
    ];
    let compared = metrics.into_iter().map(|(metric, action)| {
        let outcome = match (action, metric) {
            (OnRegression::Off, _) => Outcome::Skipped(Skip::TurnedOff),
            (_, Metric::Inputs) => match evidence.inputs {
                Inputs::Unknown => Outcome::Skipped(Skip::NotMeasured),
                Inputs::TooFew { have, need } => Outcome::Inconclusive { have, need },
                Inputs::Quiet | Inputs::Drifted(_) => Outcome::Pass,
            },
            _ => skip.map_or_else(|| rows(metric, gate, evidence), Outcome::Skipped),
        };
        Comparison { metric, outcome, action }
    });
    compared.collect()
}

/// Whether both sides have rows enough for one metric.
fn rows(metric: Metric, gate: &Gate, evidence: &Evidence) -> Outcome {
    let [new, control] = counts(metric, evidence);
    let silent = evidence.new.is_empty() || evidence.control.is_empty();
    if !silent && new.is_empty() && control.is_empty() {
        return Outcome::Skipped(Skip::NotMeasured);
    }
    let total = |counts: &[u64]| counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    let (have, need) = (total(&new).min(total(&control)), u64::from(gate.min_rows));
    if have < need {
        return Outcome::Inconclusive { have, need };
    }
    if new.len() != control.len() {
        return Outcome::Skipped(Skip::DifferentClasses);
    }
    Outcome::Pass
}

/// Counts of the new and the control group for one metric.
fn counts(metric: Metric, evidence: &Evidence) -> [Vec<u64>; 2] {
    [&evidence.new, &evidence.control].map(|group| match metric {
        Metric::Predictions => group.classes.clone(),
        Metric::Confidence => group.top.clone(),
        Metric::Errors => [group.errors, group.rows].to_vec(),
        Metric::Inputs => Vec::new(),
    })
}

fn test(metric: Metric, gate: &Gate, evidence: &Evidence) -> Outcome {
    if metric == Metric::Inputs {
        return match &evidence.inputs {
            Inputs::Drifted(features) => Outcome::Drifted(features.clone()),
            _ => Outcome::Pass,
        };
    }
    let [new, control] = counts(metric, evidence);
    // Errors have a tolerance of their own, in points, since their share is near nothing.
    let tau = match metric {
        Metric::Errors => DriftConfig::default().tau,
        _ => gate.drift_tolerance.fraction(),
    };
    let config = DriftConfig { tau, rows_min: gate.min_rows, ..DriftConfig::default() };
    let Verdict::Alarm { ln_e, .. } = compare(&new, &control, METRICS, &config) else {
        return Outcome::Pass;
    };
    let share = |counts: &[u64], bin: usize| {
        let rows = counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        Percent::share(counts[bin], rows)
    };
    if metric == Metric::Errors {
        let (new, control) = (share(&new, 0), share(&control, 0));
        let allowed = control.thousandths() + gate.error_margin.thousandths();
        if new.thousandths() <= allowed {
            return Outcome::Pass; // Fewer errors, or too few more to matter.
        }
        return Outcome::Regressed(Figures { bin: None, new, control, ln_e });
    }
    let moved =
        |bin: &usize| share(&new, *bin).thousandths().abs_diff(share(&control, *bin).thousandths());
    let bin = (0..new.len()).max_by_key(moved).unwrap_or(0);
    let (new, control) = (share(&new, bin), share(&control, bin));
    Outcome::Regressed(Figures { bin: Some(bin), new, control, ln_e })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn group(errors: u64, classes: &[u64]) -> Group {
        let rows = classes.iter().sum();
        Group { rows, errors, classes: classes.to_vec(), top: vec![rows / 2, rows - rows / 2] }
    }

    fn outcome(metric: Metric, new: Group, control: Group) -> Outcome {
        let evidence = Evidence { new, control, inputs: Inputs::Unknown };
        let results = comparisons(&Gate::default(), &evidence, None);
        results.into_iter().find(|result| result.metric == metric).unwrap().outcome
    }

    #[test]
    fn alike_groups_pass_and_a_collapsed_model_regresses() {
        let control = group(0, &[100, 110, 90, 0]);
        let alike = outcome(Metric::Predictions, group(0, &[30, 30, 35, 0]), control.clone());
        assert_eq!(alike, Outcome::Pass);
        let collapsed = outcome(Metric::Predictions, group(0, &[2, 90, 3, 0]), control);
        let Outcome::Regressed(figures) = collapsed else { panic!("{collapsed:?}") };
        assert_eq!(figures.to_string(), "bin 1 has 94.736 %, on control devices 36.666 %");
    }

    #[test]
    fn too_few_rows_are_inconclusive_on_either_side() {
        let (few, many) = (group(0, &[24, 25]), group(0, &[250, 250]));
        let expected = Outcome::Inconclusive { have: 49, need: 50 };
        assert_eq!(outcome(Metric::Predictions, few.clone(), many.clone()), expected);
        assert_eq!(outcome(Metric::Predictions, many.clone(), few), expected);
        assert_eq!(outcome(Metric::Predictions, group(0, &[25, 25]), many.clone()), Outcome::Pass);
        let silent = Outcome::Inconclusive { have: 0, need: 50 };
        assert_eq!(outcome(Metric::Predictions, Group::default(), many), silent);
    }

    #[test]
    fn only_more_errors_beyond_the_margin_are_a_regression() {
        let control = group(100, &[5000, 5000]);
        let worse = outcome(Metric::Errors, group(300, &[5000, 5000]), control.clone());
        let Outcome::Regressed(figures) = worse else { panic!("{worse:?}") };
        assert_eq!(figures.to_string(), "2.912 %, on control devices 0.99 %");
        let better = outcome(Metric::Errors, group(0, &[5000, 5000]), control.clone());
        assert_eq!(better, Outcome::Pass);
        let within_margin = outcome(Metric::Errors, group(190, &[5000, 5000]), control);
        assert_eq!(within_margin, Outcome::Pass);
    }

    #[test]
    fn what_cannot_be_compared_is_skipped_with_a_reason() {
        let plain = |rows| Group { rows, ..Group::default() };
        let skipped = Outcome::Skipped(Skip::NotMeasured);
        assert_eq!(outcome(Metric::Predictions, plain(90), plain(90)), skipped);
        let other = Outcome::Skipped(Skip::DifferentClasses);
        let (two, three) = (group(0, &[50, 50]), group(0, &[50, 50, 50]));
        assert_eq!(outcome(Metric::Predictions, two.clone(), three), other);
        let off = Outcome::Skipped(Skip::TurnedOff);
        assert_eq!(outcome(Metric::Confidence, two.clone(), two), off);
    }

    #[test]
    fn inputs_are_judged_without_a_control_group() {
        let inputs = Inputs::Drifted(vec![3, 9]);
        let evidence = Evidence { inputs, ..Evidence::default() };
        let results = comparisons(&Gate::default(), &evidence, Some(Skip::LastWave));
        assert_eq!(results[3].outcome, Outcome::Drifted(vec![3, 9]));
        assert_eq!(results[3].action, OnRegression::Hold);
        assert_eq!(results[0].outcome, Outcome::Skipped(Skip::LastWave));
    }
}
