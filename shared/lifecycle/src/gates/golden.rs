//! Golden inputs give golden outputs.

use tidegate_wire::Reason;
use tidegate_wire::policy::SelfTestPolicy;

/// How far a candidate's answers are from the golden ones.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GoldenTally {
    /// Rows compared.
    pub rows: u32,
    /// Rows whose largest output is at the same place.
    pub same_class: u32,
    /// Rows with an output outside the tolerance.
    pub outside: u32,
    /// Largest absolute deviation.
    pub worst: f64,
}

impl GoldenTally {
    /// Compares one row of outputs.
    pub fn observe(&mut self, policy: &SelfTestPolicy, expected: &[f32], got: &[f32]) {
        self.rows += 1;
        self.same_class += u32::from(super::same_class(expected, got));
        let mut outside = expected.len() != got.len();
        for (expected, got) in expected.iter().zip(got) {
            let (expected, got) = (f64::from(*expected), f64::from(*got));
            let deviation = libm::fabs(expected - got);
            let within = deviation <= policy.atol + policy.rtol * libm::fabs(expected);
            // Two equal infinities and two NaNs are the same answer.
            let same = expected == got || expected.is_nan() && got.is_nan();
            if !same {
                outside |= !within;
                self.worst = if deviation > self.worst { deviation } else { self.worst };
                self.worst = if deviation.is_nan() { f64::INFINITY } else { self.worst };
            }
        }
        self.outside += u32::from(outside);
    }

    /// Counts one row of strings, which have no tolerance: they are the same, or they are not.
    pub fn observe_text(&mut self, same: bool) {
        self.rows += 1;
        self.same_class += u32::from(same);
        self.outside += u32::from(!same);
    }

    /// # Errors
    /// [`Reason::GoldenMismatch`] if an output is outside the tolerance, the largest output is
    /// elsewhere too often, or there was nothing to compare.
    pub fn verdict(&self, policy: &SelfTestPolicy) -> Result<(), Reason> {
        let share = f64::from(self.same_class) / f64::from(self.rows.max(1));
        if self.rows == 0 || self.outside > 0 || share < policy.argmax_share_min {
            return Err(Reason::GoldenMismatch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(expected: &[f32], got: &[f32]) -> GoldenTally {
        let mut tally = GoldenTally::default();
        tally.observe(&SelfTestPolicy::default(), expected, got);
        tally
    }

    #[test]
    fn tolerance_is_absolute_plus_relative() {
        let policy = SelfTestPolicy::default();
        assert_eq!(tally(&[100.0, 0.0], &[100.1, 0.0]).verdict(&policy), Ok(()));
        assert!(tally(&[100.0, 0.0], &[100.2, 0.0]).verdict(&policy).is_err());
        assert_eq!(tally(&[0.0, 1.0], &[0.00009, 1.0]).verdict(&policy), Ok(()));
        assert!(tally(&[0.0, 1.0], &[0.0002, 1.0]).verdict(&policy).is_err());
    }

    #[test]
    fn text_is_the_same_or_it_is_not() {
        let policy = SelfTestPolicy { argmax_share_min: 0.0, ..SelfTestPolicy::default() };
        let mut tally = GoldenTally::default();
        tally.observe_text(true);
        assert_eq!(tally.verdict(&policy), Ok(()));
        tally.observe_text(false);
        assert!(tally.verdict(&policy).is_err());
        assert_eq!((tally.rows, tally.same_class, tally.outside), (2, 1, 1));
    }

    #[test]
    fn nothing_and_nan_and_missing_outputs_are_no_match() {
        let policy = SelfTestPolicy::default();
        assert!(GoldenTally::default().verdict(&policy).is_err());
        assert!(tally(&[0.5, 0.5], &[f32::NAN, 0.5]).verdict(&policy).is_err());
        assert!(tally(&[0.5, 0.5], &[0.5]).verdict(&policy).is_err());
    }
}
