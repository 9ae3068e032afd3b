//! The candidate sees live inputs beside the active model.

use tidegate_wire::Reason;
use tidegate_wire::policy::ShadowPolicy;

use super::{Verdict, certainly_above, slower};

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
    /// Time of the candidate in the engine, nanoseconds, over all samples.
    pub candidate_ns: u64,
    /// Time of the active model on the same inputs.
    pub active_ns: u64,
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
        let samples = u64::from(self.samples);
        let times = ((self.candidate_ns, samples), (self.active_ns, samples));
        if seen >= need && slower(times.0, times.1, policy.latency_percent_max) {
            return Verdict::Failed(Reason::ShadowTooSlow);
        }
        let (agreement, _) = tidegate_drift::wilson(self.agreed.into(), samples);
        if seen >= need && agreement >= f64::from(policy.agreement_percent_min) / 100.0 {
            Verdict::Passed
        } else if elapsed_ms >= u64::from(policy.seconds_max) * 1_000 {
            Verdict::Inconclusive { have, need }
        } else {
            Verdict::Pending { have, need }
        }
    }
}

/// Whether two answers name the same class: the place of the largest value. NaN names none.
pub fn same_class(one: &[f32], two: &[f32]) -> bool {
    let largest = |row: &[f32]| {
        let mut best: Option<(usize, f32)> = None;
        for (index, value) in row.iter().enumerate() {
            if value.is_nan() {
                return None;
            }
            if best.is_none_or(|(_, largest)| *value > largest) {
                best = Some((index, *value));
            }
        }
        best.map(|(index, _)| index)
    };
    one.len() == two.len() && largest(one).is_some() && largest(one) == largest(two)
}

/// Whether two rows of numbers are within 5 % of each other, or within 1e-3 near zero.
pub fn same_numbers(one: &[f32], two: &[f32]) -> bool {
    let near = |(a, b): (&f32, &f32)| libm::fabsf(a - b) <= 1e-3 + 0.05 * libm::fabsf(*a);
    one.len() == two.len() && one.iter().zip(two).all(near)
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
        let times = (u64::from(samples) * 10_000, u64::from(samples) * 10_000);
        ShadowTally {
            samples,
            agreed,
            candidate_ns: times.0,
            active_ns: times.1,
            ..Default::default()
        }
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
        let slow = ShadowTally { candidate_ns: 50 * 31_000, ..tally(50, 50) };
        assert_eq!(slow.verdict(&POLICY, 0), Verdict::Failed(Reason::ShadowTooSlow));
        let failing = ShadowTally { errors: 5, ..tally(20, 20) };
        assert_eq!(failing.verdict(&POLICY, 0), Verdict::Failed(Reason::ShadowErrors));
    }

    #[test]
    fn nan_agrees_with_nothing() {
        assert!(!same_class(&[f32::NAN, 1.0], &[f32::NAN, 1.0]));
        assert!(same_class(&[0.1, 0.9], &[0.4, 0.6]));
        assert!(!same_numbers(&[f32::NAN], &[f32::NAN]));
    }
}
