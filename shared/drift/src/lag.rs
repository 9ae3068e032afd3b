//! Dependence between consecutive rows, and how much it shrinks what they count for.
//!
//! Counts of a sensor that barely moves between rows vary more than independent ones do: at a
//! lag-1 correlation ρ like a sample that is smaller by (1+ρ)/(1−ρ). Uncorrected, an
//! autoregressive input with ρ = .8 raised 23 % false alarms where 1 % was promised.

use crate::BINS;
use crate::count::{Counter, total};

/// Marks that no bin was seen yet.
const NONE: u8 = u8::MAX;

/// Where ρ is cut off: 1,999 dependent rows then count for one.
const RHO_MAX: f64 = 0.999;

/// Estimates the lag-1 correlation of one numeric feature from its bin numbers, in 12 bytes of
/// integers. It stays on the device: the sum of squared steps is no part of a summary.
///
/// Bin numbers are ranks with respect to the reference, so outliers weigh no more than others, and
/// they are exactly what the test counts. The estimate is von Neumann's: half the mean squared step
/// over the variance, taken from 1. Gaussian inputs come out slightly low (.79 for .80), which the
/// correction can afford, since indicators of bins are less correlated than the values.
///
/// # Source
///
/// von Neumann, *Distribution of the Ratio of the Mean Square Successive Difference to the
/// Variance* (Annals of Mathematical Statistics 1941).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagCorrelation {
    sum_step2: u32,
    pairs: u32,
    last: u8,
}

impl Default for LagCorrelation {
    fn default() -> Self {
        Self { sum_step2: 0, pairs: 0, last: NONE }
    }
}

impl LagCorrelation {
    /// Takes the bin (0 to 11) of the next finite value.
    #[inline]
    pub fn observe(&mut self, bin: usize) {
        let bin = bin.min(BINS - 1) as u8;
        if self.last != NONE {
            let step = u32::from(bin.abs_diff(self.last));
            // 35 million rows of the largest step fit; a full window has 17 million.
            self.sum_step2 = self.sum_step2.saturating_add(step * step);
            self.pairs = self.pairs.saturating_add(1);
        }
        self.last = bin;
    }

    /// Breaks the chain, where a row is missing: what follows is not consecutive.
    pub fn skip(&mut self) {
        self.last = NONE;
    }

    /// The estimate, −1 to 1, given the counts of the same rows. 0 where all lie in one bin: see
    /// [`crate::NumericReference::with_lag_of`] for inputs that move that slowly.
    pub fn rho<C: Counter>(&self, counts: &[C; BINS]) -> f64 {
        let n = total(counts);
        if n < 2.0 || self.pairs == 0 {
            return 0.0;
        }
        let moment = |power: fn(f64) -> f64| -> f64 {
            let terms = counts.iter().enumerate();
            terms.map(|(j, &count)| power(j as f64) * count.to_f64()).sum::<f64>() / n
        };
        let mean = moment(|j| j);
        let variance = moment(|j| j * j) - mean * mean;
        if variance <= 1e-9 {
            return 0.0;
        }
        let step2 = f64::from(self.sum_step2) / f64::from(self.pairs);
        (1.0 - 0.5 * step2 / variance).clamp(-1.0, 1.0)
    }
}

/// By how much rows with lag-1 correlation `rho` count for less: (1+ρ)/(1−ρ), at least 1, with ρ
/// cut off at .999. Also the k of "take every k-th row", rounded up.
pub fn variance_factor(rho: f64) -> f64 {
    if rho.is_nan() {
        return 1.0;
    }
    let rho = rho.clamp(0.0, RHO_MAX);
    (1.0 + rho) / (1.0 - rho)
}

/// Counts divided by what dependence between rows costs. Reports that were decided on these say so,
/// and name the factor.
///
/// The test accepts fractions of rows. Its bound on false alarms is then an approximation, checked
/// by simulation (`tests/false_alarms.rs`), and no longer a theorem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EffectiveCounts {
    /// Rows per bin, in units of independent rows.
    pub counts: [f64; BINS],
    /// What they were divided by, at least 1.
    pub factor: f64,
}

impl EffectiveCounts {
    /// Corrects counts for a lag-1 correlation. [`crate::NumericReference::effective_counts`] knows
    /// which one to take.
    pub fn new<C: Counter>(counts: &[C; BINS], rho: f64) -> Self {
        let factor = variance_factor(rho);
        Self { counts: counts.map(|count| count.to_f64() / factor), factor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rho_of(bins: impl Iterator<Item = usize>) -> f64 {
        let (mut lag, mut counts) = (LagCorrelation::default(), [0_u32; BINS]);
        for bin in bins {
            lag.observe(bin);
            counts[bin] += 1;
        }
        lag.rho(&counts)
    }

    #[test]
    fn extremes_are_recognised() {
        assert!(rho_of((0..1_000).map(|i| i / 100)) > 0.99);
        assert!(rho_of((0..1_000).map(|i| i % 2 * 11)) < -0.99);
        assert!(rho_of((0..12_000).map(|i| i * 7919 % 12_007 % 12)).abs() < 0.05);
        assert_eq!(rho_of(core::iter::repeat_n(4, 100)), 0.0);
        assert_eq!(rho_of(core::iter::empty()), 0.0);
    }

    #[test]
    fn factors_of_known_correlations() {
        assert_eq!(variance_factor(-0.5), 1.0);
        assert_eq!(variance_factor(f64::NAN), 1.0);
        assert!((variance_factor(0.8) - 9.0).abs() < 1e-12);
        assert!((variance_factor(1.0) - 1999.0).abs() < 1e-9);
        assert_eq!(EffectiveCounts::new(&[9_u32; BINS], 0.8).counts[3].round(), 1.0);
    }
}
