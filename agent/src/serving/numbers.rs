//! What a model that answers with numbers answered lately, and whether its successor answers alike.

use std::collections::VecDeque;

use crate::engine::Tensor;

/// Answers that are remembered: 25 a bin, of which the drift test sees a shift of a decile.
const KEPT: usize = 250;

/// Fewer say nothing of a model.
const KEPT_MIN: usize = 100;

/// Bins, cut at the deciles of what is remembered.
const BINS: usize = 10;

/// The last answers, the newest at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers(VecDeque<f32>);

impl Numbers {
    pub(super) fn observe(&mut self, output: Option<&Tensor>) {
        let Some(output) = output else { return };
        let values = output.values.as_f32();
        for value in values.iter().filter(|value| value.is_finite()) {
            if self.0.len() == KEPT {
                self.0.pop_front();
            }
            self.0.push_back(*value);
        }
    }

    /// Bins by the deciles of these answers; none if they are too few.
    pub(super) fn sorted(&self) -> Option<Sorted> {
        if self.0.len() < KEPT_MIN {
            return None;
        }
        let mut values: Vec<f32> = self.0.iter().copied().collect();
        values.sort_unstable_by(f32::total_cmp);
        let edge = |index: usize| values[(index + 1) * values.len() / BINS];
        let edges = std::array::from_fn(edge);
        let mut sorted = Sorted { edges, new: [0; BINS], before: [0; BINS] };
        values.iter().for_each(|value| sorted.before[sorted.bin(*value)] += 1);
        Some(sorted)
    }
}

/// Two models' answers in the same bins.
#[derive(Debug, Clone)]
pub(super) struct Sorted {
    edges: [f32; BINS - 1],
    new: [u32; BINS],
    before: [u32; BINS],
}

impl Sorted {
    pub(super) fn observe(&mut self, output: Option<&Tensor>) {
        let Some(output) = output else { return };
        let values = output.values.as_f32();
        for value in values.iter().filter(|value| value.is_finite()) {
            let bin = self.bin(*value);
            self.new[bin] = self.new[bin].saturating_add(1);
        }
    }

    /// The new model's, and the one's before.
    pub(super) fn counts(&self) -> (&[u32], &[u32]) {
        (&self.new, &self.before)
    }

    fn bin(&self, value: f32) -> usize {
        self.edges.iter().filter(|edge| value >= **edge).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Values;

    fn tensor(values: Vec<f32>) -> Tensor {
        Tensor { shape: vec![values.len()], values: Values::F32(values) }
    }

    #[test]
    fn bins_are_deciles_of_the_last_answers() {
        let mut numbers = Numbers::default();
        numbers.observe(Some(&tensor(vec![1e9; 300])));
        assert!(numbers.sorted().is_some());
        numbers.observe(Some(&tensor((0..250).map(|n| n as f32).collect())));
        let mut sorted = numbers.sorted().unwrap();
        assert_eq!(sorted.counts().1, [25; BINS]);
        sorted.observe(Some(&tensor(vec![-5.0, 0.0, 24.0, 25.0, 1e9, f32::NAN])));
        assert_eq!(sorted.counts().0, [3, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_few_answers_say_nothing() {
        let mut numbers = Numbers::default();
        numbers.observe(Some(&tensor(vec![1.0; KEPT_MIN - 1])));
        numbers.observe(Some(&tensor(vec![f32::NAN; 10])));
        assert!(numbers.sorted().is_none());
    }
}
