//! The candidate answers, on probation.

use tidegate_drift::{DriftConfig, compare};
use tidegate_wire::Reason;
use tidegate_wire::policy::TrialPolicy;

use super::{Latencies, Verdict, certainly_above};

/// What was counted since the candidate began to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialTally {
    /// Rows answered.
    pub samples: u32,
    /// Inferences that failed in the engine.
    pub errors: u32,
    /// Rows with a NaN or an infinity among the outputs.
    pub invalid: u32,
    /// Input values seen.
    pub values: u64,
    /// Input values outside the range of the candidate's training data.
    pub out_of_range: u64,
    /// Rows that a humility rule with an action applied to.
    pub humble: u32,
    /// Time in the engine.
    pub latency: Latencies,
    /// What the previous model did before.
    pub before: Before,
}

/// What the model before the candidate did lately. All zeros, if that is not known: then time,
/// doubts and predictions are held against the policy alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// Rows answered.
    pub rows: u64,
    /// Of these, those that a humility rule with an action applied to.
    pub humble: u64,
    /// Time in the engine.
    pub latency: Latencies,
}

/// Rows before anything is said.
const SAMPLES_FLOOR: u32 = 10;

impl TrialTally {
    /// The verdict after `elapsed_ms` milliseconds.
    ///
    /// `predictions` are the candidate's and the previous model's, counted per class, or for numbers
    /// per bin of the same edges; none if they cannot be compared. Only they decide, not how sure
    /// the models are: a better model is often a more confident one.
    pub fn verdict(
        &self,
        policy: &TrialPolicy,
        predictions: Option<(&[u32], &[u32])>,
        elapsed_ms: u64,
    ) -> Verdict {
        let seen = self.samples.saturating_add(self.errors);
        let (have, need) = (seen, policy.samples_min.max(SAMPLES_FLOOR));
        if seen >= SAMPLES_FLOOR {
            if let Some(reason) = self.fault(policy, seen) {
                return Verdict::Failed(reason);
            }
            if let Some((new, previous)) = predictions
                && predictions_drifted(new, previous)
            {
                return Verdict::Failed(Reason::PredictionDrift);
            }
        }
        let (latency, before) = (&self.latency, &self.before.latency);
        if latency.is_certainly_slower(before, policy.latency_percent_max) {
            return Verdict::Failed(Reason::Latency);
        }
        if have < need || elapsed_ms < u64::from(policy.seconds_min) * 1_000 {
            return Verdict::Pending { have, need };
        }
        if latency.is_slower(before, policy.latency_percent_max) {
            return Verdict::Failed(Reason::Latency);
        }
        Verdict::Passed
    }

    fn fault(&self, policy: &TrialPolicy, seen: u32) -> Option<Reason> {
        let allowed = policy.error_percent_max;
        if certainly_above(self.errors.into(), seen.into(), allowed) {
            return Some(Reason::ErrorRate);
        }
        if certainly_above(self.invalid.into(), seen.into(), allowed) {
            return Some(Reason::InvalidOutput);
        }
        // The values of a row depend on each other: count rows' worth of them, not values.
        let per_row = self.values / u64::from(self.samples.max(1));
        let rows_outside = self.out_of_range / per_row.max(1);
        if certainly_above(rows_outside, seen.into(), policy.out_of_range_percent_max) {
            return Some(Reason::OutOfRange);
        }
        certainly_above(self.humble.into(), seen.into(), self.humble_percent_max(policy))
            .then_some(Reason::Humility)
    }

    /// If the previous model doubted as many of its answers, then going back does not help.
    fn humble_percent_max(&self, policy: &TrialPolicy) -> u8 {
        let Before { humble, rows, .. } = self.before;
        let share = humble.saturating_mul(100).div_ceil(rows.max(1)).min(100);
        policy.humble_percent_max.max(share as u8)
    }
}

fn predictions_drifted(new: &[u32], previous: &[u32]) -> bool {
    let verdict =
        (new.len() == previous.len()).then(|| compare(new, previous, 1, &DriftConfig::default()));
    matches!(verdict, Some(tidegate_drift::Verdict::Alarm { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: TrialPolicy = TrialPolicy {
        seconds_min: 10,
        samples_min: 100,
        error_percent_max: 1,
        out_of_range_percent_max: 10,
        latency_percent_max: 300,
        attempts_max: 3,
        humble_percent_max: 50,
    };

    fn latency(row_ns: u64) -> Latencies {
        let mut latency = Latencies::default();
        latency.observe(row_ns * 100, 100);
        latency
    }

    fn healthy() -> TrialTally {
        TrialTally {
            samples: 100,
            values: 6_400,
            latency: latency(10_000),
            before: Before { rows: 100, humble: 0, latency: latency(10_000) },
            ..TrialTally::default()
        }
    }

    #[test]
    fn time_and_samples_are_both_needed() {
        assert_eq!(healthy().verdict(&POLICY, None, 10_000), Verdict::Passed);
        let pending = Verdict::Pending { have: 100, need: 100 };
        assert_eq!(healthy().verdict(&POLICY, None, 9_999), pending);
        let few = TrialTally { samples: 99, ..healthy() };
        assert_eq!(few.verdict(&POLICY, None, 99_999), Verdict::Pending { have: 99, need: 100 });
    }

    #[test]
    fn each_fault_has_its_reason_before_the_window_ends() {
        let faults = [
            (TrialTally { errors: 9, ..healthy() }, Reason::ErrorRate),
            (TrialTally { invalid: 9, ..healthy() }, Reason::InvalidOutput),
            (TrialTally { out_of_range: 1_600, ..healthy() }, Reason::OutOfRange),
            (TrialTally { latency: latency(45_000), ..healthy() }, Reason::Latency),
            (TrialTally { humble: 65, ..healthy() }, Reason::Humility),
        ];
        for (tally, reason) in faults {
            assert_eq!(tally.verdict(&POLICY, None, 0), Verdict::Failed(reason));
        }
    }

    #[test]
    fn doubts_that_the_previous_model_had_too_are_the_worlds() {
        let humble = TrialTally { humble: 65, ..healthy() };
        let before = Before { humble: 60, ..humble.before };
        assert_eq!(TrialTally { before, ..humble }.verdict(&POLICY, None, 10_000), Verdict::Passed);
    }

    #[test]
    fn drifted_predictions_fail_before_the_window_ends() {
        let (new, previous) = ([300, 0, 0], [100, 100, 100]);
        let verdict = healthy().verdict(&POLICY, Some((&new, &previous)), 0);
        assert_eq!(verdict, Verdict::Failed(Reason::PredictionDrift));
        let same = healthy().verdict(&POLICY, Some((&previous, &previous)), 10_000);
        assert_eq!(same, Verdict::Passed);
    }
}
