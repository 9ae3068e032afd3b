//! The candidate sees live inputs beside the active model.

use tidegate_wire::Reason;
use tidegate_wire::policy::ShadowPolicy;

use super::{Latencies, Verdict, certainly_above};

/// What was counted while the candidate was in the shadow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShadowTally {
    /// Answers compared.
    pub samples: u32,
    /// Answers that agreed.
    pub agreed: u32,
    /// Inputs on which the candidate failed.
    pub errors: u32,
    /// Inputs that were not shown because the candidate was busy.
    pub dropped: u32,
    /// Of the answers compared and the inputs failed on, those that were not live but replayed.
    pub replayed: u32,
    /// Time of the candidate in the engine.
    pub candidate: Latencies,
    /// Time of the active model on the same inputs.
    pub active: Latencies,
}

/// Percent of shadow inputs on which a candidate may fail.
const ERROR_PERCENT_MAX: u8 = 1;
/// Samples before anything is said: below, one unlucky input would decide.
const SAMPLES_FLOOR: u32 = 10;

impl ShadowTally {
    /// The verdict after `elapsed_ms` milliseconds.
    pub fn verdict(&self, policy: &ShadowPolicy, elapsed_ms: u64) -> Verdict {
        let seen = self.samples + self.errors;
        let (have, need) = (seen, policy.samples_min.max(SAMPLES_FLOOR));
        if seen >= SAMPLES_FLOOR {
            if certainly_above(self.errors.into(), seen.into(), ERROR_PERCENT_MAX) {
                return Verdict::Failed(Reason::ShadowErrors);
            }
            let disagreed = u64::from(self.samples - self.agreed);
            let allowed = 100 - policy.agreement_percent_min.min(100);
            if certainly_above(disagreed, self.samples.into(), allowed) {
                return Verdict::Failed(Reason::Disagreement);
            }
        }
        if seen >= need && self.candidate.is_slower(&self.active, policy.latency_percent_max) {
            return Verdict::Failed(Reason::ShadowTooSlow);
        }
        let (agreement, _) = tidegate_drift::wilson(self.agreed.into(), self.samples.into());
        if seen >= need && agreement >= f64::from(policy.agreement_percent_min) / 100.0 {
            Verdict::Passed
        } else if elapsed_ms >= u64::from(policy.seconds_max) * 1_000 {
            Verdict::Inconclusive { have, need }
        } else {
            Verdict::Pending { have, need }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ShadowPolicy = ShadowPolicy {
        sample_percent: 10,
        samples_min: 50,
        seconds_max: 60,
        agreement_percent_min: 80,
        latency_percent_max: 300,
        atol: 0.0,
        rtol: 0.0,
        cosine_min: 0.9,
        idle_seconds: 10,
    };

    fn tally(samples: u32, agreed: u32) -> ShadowTally {
        let mut tally = ShadowTally { samples, agreed, ..Default::default() };
        tally.candidate.observe(u64::from(samples) * 10_000, samples);
        tally.active.observe(u64::from(samples) * 10_000, samples);
        tally
    }

    #[test]
    fn good_bad_and_unclear() {
        assert_eq!(tally(50, 48).verdict(&POLICY, 0), Verdict::Passed);
        assert_eq!(tally(50, 29).verdict(&POLICY, 0), Verdict::Failed(Reason::Disagreement));
        let unclear = Verdict::Pending { have: 50, need: 50 };
        assert_eq!(tally(50, 42).verdict(&POLICY, 0), unclear);
    }

    #[test]
    fn too_few_samples_are_inconclusive_never_a_pass() {
        assert_eq!(tally(9, 9).verdict(&POLICY, 0), Verdict::Pending { have: 9, need: 50 });
        assert_eq!(
            tally(9, 0).verdict(&POLICY, 60_000),
            Verdict::Inconclusive { have: 9, need: 50 }
        );
    }

    #[test]
    fn slow_and_failing_candidates_are_seen() {
        let mut slow = tally(50, 50);
        slow.candidate = Latencies::default();
        slow.candidate.observe(50 * 40_000, 50);
        assert_eq!(slow.verdict(&POLICY, 0), Verdict::Failed(Reason::ShadowTooSlow));
        let failing = ShadowTally { errors: 5, ..tally(20, 20) };
        assert_eq!(failing.verdict(&POLICY, 0), Verdict::Failed(Reason::ShadowErrors));
    }
}
