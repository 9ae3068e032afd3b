//! What came of labels: how often a model was right, as applications learnt later.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Classes of which each pair of truth and prediction is counted. More would not fit a report.
pub const CONFUSION_CLASSES_MAX: usize = 16;

/// Labels counted over some time. Sums of counts are exact and in any order; that of errors is as
/// exact as an `f64`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feedback {
    /// Labels whose row was remembered.
    pub matched: u64,
    /// Of these, those whose prediction was right: the class, or within the shadow's tolerance.
    pub correct: u64,
    /// Regression: sum of |label − prediction|, of the matched.
    #[serde(skip_serializing_if = "is_zero")]
    pub error_sum: f64,
    /// Labels for ids that are not remembered: never seen, or gone.
    pub unmatched: u64,
    /// Labels that had come before, and said the same.
    pub repeated: u64,
    /// Labels that contradict an earlier one, which stays.
    pub conflicting: u64,
    /// Rows that were forgotten before a label came.
    pub evicted: u64,
    /// Rows by truth and prediction, row-major, truth first, of at most
    /// [`CONFUSION_CLASSES_MAX`] classes; empty if there are more, for regressions, and until enough
    /// labels came that single ones do not show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<u64>,
}

fn is_zero(sum: &f64) -> bool {
    *sum == 0.0
}

impl Feedback {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Share of matched labels whose prediction was right, 0 to 1; none without labels.
    pub fn accuracy(&self) -> Option<f64> {
        (self.matched > 0).then(|| self.correct as f64 / self.matched as f64)
    }

    /// Mean of |label − prediction|; none without labels.
    pub fn mean_error(&self) -> Option<f64> {
        (self.matched > 0 && self.error_sum > 0.0).then(|| self.error_sum / self.matched as f64)
    }

    /// Counts a label of class `truth` for a row that was predicted as `predicted`, both below
    /// `classes`.
    pub fn count_class(&mut self, truth: usize, predicted: usize, classes: usize) {
        self.matched = self.matched.saturating_add(1);
        self.correct = self.correct.saturating_add(u64::from(truth == predicted));
        if classes > CONFUSION_CLASSES_MAX || truth >= classes || predicted >= classes {
            return;
        }
        if self.confusion.len() != classes * classes {
            self.confusion = vec![0; classes * classes];
        }
        let cell = &mut self.confusion[truth * classes + predicted];
        *cell = cell.saturating_add(1);
    }

    /// Counts a number as label, `error` away from the prediction.
    pub fn count_number(&mut self, error: f64, is_within: bool) {
        self.matched = self.matched.saturating_add(1);
        self.correct = self.correct.saturating_add(u64::from(is_within));
        if error.is_finite() {
            self.error_sum += error.abs();
        }
    }

    /// Adds what another window says, which may be anything: what cannot be is left out.
    pub fn merge(&mut self, other: &Self) {
        let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
        add(&mut self.matched, other.matched);
        add(&mut self.correct, other.correct.min(other.matched));
        add(&mut self.unmatched, other.unmatched);
        add(&mut self.repeated, other.repeated);
        add(&mut self.conflicting, other.conflicting);
        add(&mut self.evicted, other.evicted);
        if other.error_sum.is_finite() && other.error_sum > 0.0 {
            self.error_sum = (self.error_sum + other.error_sum).min(f64::MAX);
        }
        let cells = other.confusion.len();
        let square = cells.isqrt() * cells.isqrt() == cells;
        if cells == 0 || !square || cells > CONFUSION_CLASSES_MAX * CONFUSION_CLASSES_MAX {
            return;
        }
        if self.confusion.is_empty() {
            self.confusion = vec![0; cells];
        }
        if self.confusion.len() == cells {
            self.confusion.iter_mut().zip(&other.confusion).for_each(|(sum, n)| add(sum, *n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_addition_in_any_order() {
        let (mut one, mut two) = (Feedback::default(), Feedback::default());
        one.count_class(1, 1, 3);
        one.count_class(1, 2, 3);
        two.count_class(0, 0, 3);
        two.evicted = 4;
        let (mut forth, mut back) = (one.clone(), two.clone());
        forth.merge(&two);
        back.merge(&one);
        assert_eq!(forth, back);
        assert_eq!((forth.matched, forth.correct, forth.evicted), (3, 2, 4));
        assert_eq!(forth.confusion, [1, 0, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(forth.accuracy(), Some(2.0 / 3.0));
    }

    #[test]
    fn what_cannot_be_does_not_spoil_a_sum() {
        let mut sum = Feedback::default();
        sum.count_number(0.5, true);
        let lies = Feedback {
            matched: u64::MAX,
            correct: u64::MAX,
            error_sum: f64::NAN,
            confusion: vec![1; 7],
            ..Feedback::default()
        };
        sum.merge(&lies);
        sum.merge(&Feedback { confusion: vec![1; 1_000_000], ..Feedback::default() });
        assert_eq!((sum.matched, sum.correct, sum.error_sum), (u64::MAX, u64::MAX, 0.5));
        assert!(sum.confusion.is_empty());
    }

    #[test]
    fn many_classes_have_an_accuracy_and_no_table() {
        let mut sum = Feedback::default();
        sum.count_class(3, 16, 17);
        assert_eq!((sum.accuracy(), sum.confusion.len()), (Some(0.0), 0));
    }
}
