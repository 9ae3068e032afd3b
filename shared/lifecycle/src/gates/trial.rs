//! The candidate answers, on probation.

use tidegate_drift::{DriftConfig, OutputSummary, compare};
use tidegate_wire::Reason;
use tidegate_wire::policy::TrialPolicy;

use super::{Verdict, certainly_above, slower};

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
    /// Time in the engine, nanoseconds, over all samples.
    pub engine_ns: u64,
    /// The previous model's time in the engine and its rows.
    pub previous: (u64, u64),
}

/// Rows before anything is said.
const SAMPLES_FLOOR: u32 = 10;

impl TrialTally {
    /// The verdict after `elapsed_ms` milliseconds.
    ///
    /// `outputs` are the candidate's and the previous model's output summaries, if both are
    /// classifiers with the same classes. Only the predicted classes decide: a better model is
    /// often a more confident one, so its confidence may differ from the previous model's.
    pub fn verdict(
        &self,
        policy: &TrialPolicy,
        outputs: Option<(&OutputSummary, &OutputSummary)>,
        elapsed_ms: u64,
    ) -> Verdict {
        let seen = self.samples.saturating_add(self.errors);
        let (have, need) = (seen, policy.samples_min.max(SAMPLES_FLOOR));
        if seen >= SAMPLES_FLOOR {
            if let Some(reason) = self.fault(policy, seen) {
                return Verdict::Failed(reason);
            }
            if let Some((new, previous)) = outputs
                && predictions_drifted(new, previous)
            {
                return Verdict::Failed(Reason::PredictionDrift);
            }
        }
        if have < need || elapsed_ms < u64::from(policy.seconds_min) * 1_000 {
            return Verdict::Pending { have, need };
        }
        let new = (self.engine_ns, self.samples.into());
        if slower(new, self.previous, policy.latency_percent_max) {
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
        certainly_above(rows_outside, seen.into(), policy.out_of_range_percent_max)
            .then_some(Reason::OutOfRange)
    }
}

fn predictions_drifted(new: &OutputSummary, previous: &OutputSummary) -> bool {
    let (new, previous) = (new.classes().counts(), previous.classes().counts());
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
    const HEALTHY: TrialTally = TrialTally {
        samples: 100,
        errors: 0,
        invalid: 0,
        values: 6_400,
        out_of_range: 0,
        engine_ns: 1_000_000,
        previous: (1_000_000, 100),
    };

    #[test]
    fn time_and_samples_are_both_needed() {
        assert_eq!(HEALTHY.verdict(&POLICY, None, 10_000), Verdict::Passed);
        let pending = Verdict::Pending { have: 100, need: 100 };
        assert_eq!(HEALTHY.verdict(&POLICY, None, 9_999), pending);
        let few = TrialTally { samples: 99, ..HEALTHY };
        assert_eq!(few.verdict(&POLICY, None, 99_999), Verdict::Pending { have: 99, need: 100 });
    }

    #[test]
    fn each_fault_has_its_reason() {
        let faults = [
            (TrialTally { errors: 9, ..HEALTHY }, Reason::ErrorRate),
            (TrialTally { invalid: 9, ..HEALTHY }, Reason::InvalidOutput),
            (TrialTally { out_of_range: 1_600, ..HEALTHY }, Reason::OutOfRange),
            (TrialTally { engine_ns: 3_100_000, ..HEALTHY }, Reason::Latency),
        ];
        for (tally, reason) in faults {
            assert_eq!(tally.verdict(&POLICY, None, 10_000), Verdict::Failed(reason));
        }
    }

    #[test]
    fn drifted_predictions_fail_before_the_window_ends() {
        let (mut new, mut previous) = (OutputSummary::new(3), OutputSummary::new(3));
        for row in 0..300 {
            previous
                .observe([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]][row % 3].as_slice());
            new.observe(&[0.9, 0.1, 0.0]);
        }
        let verdict = HEALTHY.verdict(&POLICY, Some((&new, &previous)), 0);
        assert_eq!(verdict, Verdict::Failed(Reason::PredictionDrift));
        let same = HEALTHY.verdict(&POLICY, Some((&previous, &previous)), 10_000);
        assert_eq!(same, Verdict::Passed);
    }
}
