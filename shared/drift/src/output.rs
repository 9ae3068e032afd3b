//! What a classifier says: its classes, and how sure it was.

use libm::{log, logf};
use serde::{Deserialize, Serialize};

use crate::count::{Counter, DecodeError, MergeError, add, add_one, total_u64};
use crate::{BINS, CategoricalSummary};

/// Bin edges of the top probability and of the margin: finer near 1, where classifiers live.
pub const CONFIDENCE_EDGES: [f32; BINS - 1] =
    [0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90, 0.95, 0.99];

/// Bin edges of the entropy as a share of ln(classes): finer near 0, the sure end.
pub const ENTROPY_EDGES: [f32; BINS - 1] =
    [0.01, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90];

/// A window of a classifier's answers. `T` is `u32` on a device and `u64` where a fleet is summed.
///
/// The edges are fixed, so no reference is needed: groups are compared with one another
/// ([`crate::compare`]) on each of the four. Regressions are numeric features instead.
///
/// Serialised as `[classes, top, margin, entropy, invalid]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "Wire<T>",
    into = "Wire<T>",
    bound(serialize = "T: Counter + Serialize", deserialize = "T: Counter + Deserialize<'de>")
)]
pub struct OutputSummary<T: Counter = u32> {
    classes: CategoricalSummary<T>,
    top: [T; BINS],
    margin: [T; BINS],
    entropy: [T; BINS],
    invalid: T,
}

impl OutputSummary {
    /// An empty window over `classes` classes; those beyond the 31st count as `other`.
    pub fn new(classes: usize) -> Self {
        Self::empty(CategoricalSummary::new(classes))
    }

    /// Takes one answer: a probability per class, shape `[classes]`, logits already through
    /// softmax.
    ///
    /// They are normalised to sum 1, since quantised models miss it by a few percent. A single
    /// number is read as the probability of the second of two classes. An answer that is empty,
    /// sums to 0 or has an entry that is negative or not finite counts as invalid and as nothing
    /// else.
    pub fn observe(&mut self, probabilities: &[f32]) {
        let answer = match *probabilities {
            [yes] if yes <= 1.0 => Answer::of(&[1.0 - yes, yes]),
            [_] => None,
            _ => Answer::of(probabilities),
        };
        let Some(answer) = answer else {
            self.invalid = self.invalid.saturating_add(1);
            return;
        };
        self.classes.observe(answer.class);
        count(&mut self.top, &CONFIDENCE_EDGES, answer.top);
        count(&mut self.margin, &CONFIDENCE_EDGES, answer.margin);
        count(&mut self.entropy, &ENTROPY_EDGES, answer.entropy);
    }
}

impl OutputSummary<u64> {
    /// An empty sum over many windows and devices.
    pub fn total(classes: usize) -> Self {
        Self::empty(CategoricalSummary::total(classes))
    }
}

impl<T: Counter> OutputSummary<T> {
    fn empty(classes: CategoricalSummary<T>) -> Self {
        Self {
            classes,
            top: [T::default(); BINS],
            margin: [T::default(); BINS],
            entropy: [T::default(); BINS],
            invalid: T::default(),
        }
    }

    /// Answers per class; the class is the first one with the largest probability.
    pub fn classes(&self) -> &CategoricalSummary<T> {
        &self.classes
    }

    /// Answers per bin of the largest probability, [`CONFIDENCE_EDGES`].
    pub fn top(&self) -> &[T; BINS] {
        &self.top
    }

    /// Answers per bin of the lead over the second class, [`CONFIDENCE_EDGES`].
    pub fn margin(&self) -> &[T; BINS] {
        &self.margin
    }

    /// Answers per bin of the entropy over ln(classes), [`ENTROPY_EDGES`].
    pub fn entropy(&self) -> &[T; BINS] {
        &self.entropy
    }

    /// Answers that were no probabilities.
    pub fn invalid(&self) -> T {
        self.invalid
    }

    /// Valid answers.
    pub fn n(&self) -> u64 {
        total_u64(&self.top)
    }

    /// Adds another summary over the same classes.
    ///
    /// # Errors
    ///
    /// [`MergeError`] for another number of classes or a counter that overflows; `self` is then
    /// unchanged.
    pub fn merge<U: Counter>(&mut self, other: &OutputSummary<U>) -> Result<(), MergeError> {
        let mut classes = self.classes;
        classes.merge(&other.classes)?;
        *self = Self {
            classes,
            top: add(&self.top, &other.top)?,
            margin: add(&self.margin, &other.margin)?,
            entropy: add(&self.entropy, &other.entropy)?,
            invalid: add_one(self.invalid, other.invalid)?,
        };
        Ok(())
    }
}

/// One valid answer in figures between 0 and 1.
struct Answer {
    class: usize,
    top: f32,
    margin: f32,
    entropy: f32,
}

impl Answer {
    fn of(probabilities: &[f32]) -> Option<Self> {
        let (mut sum, mut class, mut first, mut second) = (0.0_f32, 0, -1.0_f32, 0.0_f32);
        for (index, &p) in probabilities.iter().enumerate() {
            // NaN fails this comparison too.
            if !(p >= 0.0 && p.is_finite()) {
                return None;
            }
            sum += p;
            if p > first {
                (second, first, class) = (first.max(0.0), p, index);
            } else if p > second {
                second = p;
            }
        }
        if !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        let mut entropy = 0.0;
        for &p in probabilities.iter().filter(|&&p| p > 0.0) {
            let share = p / sum;
            // A share that underflows to 0 carries no entropy.
            if share > 0.0 {
                entropy -= share * logf(share);
            }
        }
        let most = log(probabilities.len() as f64) as f32;
        Some(Self {
            class,
            top: first / sum,
            margin: (first - second) / sum,
            entropy: if most > 0.0 { entropy / most } else { 0.0 },
        })
    }
}

fn count(bins: &mut [u32; BINS], edges: &[f32; BINS - 1], value: f32) {
    let bin = edges.iter().filter(|&&edge| value >= edge).count();
    bins[bin] = bins[bin].saturating_add(1);
}

/// Estimated accuracy without labels, 0 to 1: the mean of P(correct | top-probability bin), which
/// the bundle carries, over the live answers. `None` without answers.
///
/// It assumes that sure answers are as often right as they were at validation. It cannot see pure
/// concept drift, and whatever shows it must say so.
pub fn estimated_accuracy<T: Counter>(top: &[T; BINS], correct: &[f32; BINS]) -> Option<f64> {
    let n = crate::count::total(top);
    let hits = top.iter().zip(correct);
    let hits: f64 = hits.map(|(&c, &p)| c.to_f64() * f64::from(p)).sum();
    (n > 0.0).then(|| hits / n)
}

#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "T: Counter + Serialize",
    deserialize = "T: Counter + Deserialize<'de>"
))]
struct Wire<T: Counter>(CategoricalSummary<T>, [T; BINS], [T; BINS], [T; BINS], T);

impl<T: Counter> From<OutputSummary<T>> for Wire<T> {
    fn from(s: OutputSummary<T>) -> Self {
        Self(s.classes, s.top, s.margin, s.entropy, s.invalid)
    }
}

impl<T: Counter> TryFrom<Wire<T>> for OutputSummary<T> {
    type Error = DecodeError;

    fn try_from(wire: Wire<T>) -> Result<Self, DecodeError> {
        let Wire(classes, top, margin, entropy, invalid) = wire;
        let n = total_u64(&top);
        // Every answer is counted once in each of the four.
        let same = n == classes.n() && n == total_u64(&margin) && n == total_u64(&entropy);
        if !same {
            return Err(DecodeError::Impossible);
        }
        Ok(Self { classes, top, margin, entropy, invalid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(bins: &[u32; BINS]) -> usize {
        assert_eq!(bins.iter().sum::<u32>(), 1);
        bins.iter().position(|&count| count == 1).unwrap()
    }

    #[test]
    fn sure_unsure_and_single_answers() {
        let mut sure = OutputSummary::new(3);
        sure.observe(&[0.0, 1.0, 0.0]);
        let bins = (only(sure.top()), only(sure.margin()), only(sure.entropy()));
        assert_eq!(bins, (11, 11, 0));
        assert_eq!(sure.classes().counts(), [0, 1, 0, 0]);

        let mut unsure = OutputSummary::new(4);
        unsure.observe(&[0.25; 4]);
        let bins = (only(unsure.top()), only(unsure.margin()), only(unsure.entropy()));
        assert_eq!(bins, (2, 0, 11));

        let mut binary = OutputSummary::new(2);
        binary.observe(&[0.75]);
        assert_eq!(binary.classes().counts(), [0, 1, 0]);
        assert_eq!((only(binary.top()), only(binary.margin())), (7, 5));
    }

    #[test]
    fn answers_are_normalised() {
        let (mut exact, mut scaled) = (OutputSummary::new(2), OutputSummary::new(2));
        exact.observe(&[0.625, 0.375]);
        scaled.observe(&[0.640, 0.384]);
        exact.observe(&[0.5, 0.5]);
        scaled.observe(&[2.0, 2.0]);
        assert_eq!(exact, scaled);
    }

    #[test]
    fn what_is_no_probability_is_invalid_and_nothing_else() {
        let mut summary = OutputSummary::new(2);
        let invalid: [&[f32]; 8] = [
            &[],
            &[f32::NAN],
            &[1.5],
            &[-0.1],
            &[f32::NAN, 1.0],
            &[f32::INFINITY, 0.0],
            &[-0.5, 1.5],
            &[0.0, 0.0],
        ];
        for answer in invalid {
            summary.observe(answer);
        }
        assert_eq!((summary.invalid(), summary.n(), summary.classes().n()), (8, 0, 0));
    }

    #[test]
    fn accuracy_is_estimated_from_confidence() {
        let mut top = [0_u32; BINS];
        (top[5], top[11]) = (10, 30);
        let mut correct = [0.0; BINS];
        (correct[5], correct[11]) = (0.5, 1.0);
        assert_eq!(estimated_accuracy(&top, &correct), Some(0.875));
        assert_eq!(estimated_accuracy(&[0_u32; BINS], &correct), None);
    }
}
