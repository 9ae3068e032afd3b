//! The decision: an anytime-valid e-test of "every bin is within its tolerance".
//!
//! `E` is a Dirichlet-multinomial mixture over alternatives, divided by the best likelihood that
//! any probability vector inside the tolerance box gives. For each fixed vector in the box the
//! ratio is a martingale with mean 1, and taking the best one only lowers it; so by Ville's
//! inequality it ever reaches `F/α` with a chance of at most `α/F`, however often one looks.

use libm::{exp, lgamma, log, sqrt};

use crate::count::{Number, total};
use crate::reference::ReferenceError;
use crate::tolerance::tolerance_box;

/// Most bins that one test takes: 31 categories and `other`.
pub const SLOTS_MAX: usize = 32;

/// Concentrations of the mixture. From "anything may have happened" to "close to the reference":
/// a factor of four between neighbours costs at most ln 4 against the best single one.
const CONCENTRATIONS: [f64; 4] = [32.0, 128.0, 512.0, 2048.0];

/// What the operator grants and risks. Serialised as `[alpha, tau, rows_min]`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "(f64, f64, u32)", into = "(f64, f64, u32)")]
pub struct DriftConfig {
    /// Chance of ever falsely alarming, over all features and looks; 0 to 1, .01 by default.
    pub alpha: f64,
    /// Relative movement of a bin that is no drift; 0 to 1, .20 by default.
    pub tau: f64,
    /// Rows below which nothing is said, 50 by default. It is a matter of privacy more than of
    /// statistics: the test itself is valid for any number of rows.
    pub rows_min: u32,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self { alpha: 0.01, tau: 0.20, rows_min: 50 }
    }
}

impl DriftConfig {
    /// The share of α that the tolerance box may spend on one feature's reference: α / (10 F).
    pub fn alpha_reference(&self, features: u32) -> f64 {
        self.alpha / (10.0 * f64::from(features.max(1)))
    }
}

impl DriftConfig {
    /// Refuses shares that are none.
    pub(crate) fn check(&self) -> Result<(), ReferenceError> {
        let valid_alpha = self.alpha > 0.0 && self.alpha < 1.0;
        let valid_tau = (0.0..=1.0).contains(&self.tau);
        let valid = valid_alpha && valid_tau;
        valid.then_some(()).ok_or(ReferenceError::Config)
    }
}

impl From<(f64, f64, u32)> for DriftConfig {
    fn from((alpha, tau, rows_min): (f64, f64, u32)) -> Self {
        Self { alpha, tau, rows_min }
    }
}

impl From<DriftConfig> for (f64, f64, u32) {
    fn from(config: DriftConfig) -> Self {
        (config.alpha, config.tau, config.rows_min)
    }
}

/// What the test says, with the figures that made it say so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// No evidence of drift beyond the tolerance. Not a proof of its absence.
    Quiet {
        /// Natural logarithm of the evidence.
        ln_e: f64,
        /// What it would have had to reach.
        threshold: f64,
    },
    /// Drift beyond the tolerance.
    Alarm {
        /// Natural logarithm of the evidence.
        ln_e: f64,
        /// What it had to reach.
        threshold: f64,
    },
    /// Inconclusive: one side has too few rows. Never to be read as a pass.
    TooFew {
        /// Rows of the smaller side, rounded down where counts were corrected.
        have: u64,
        /// Rows needed.
        need: u64,
    },
}

impl Verdict {
    /// The verdict on evidence `ln_e` from `rows` rows.
    pub(crate) fn from_evidence(ln_e: f64, threshold: f64) -> Self {
        if ln_e >= threshold {
            Self::Alarm { ln_e, threshold }
        } else {
            Self::Quiet { ln_e, threshold }
        }
    }
}

/// What is tested against: reference counts and the tolerance box around them.
#[derive(Clone, Copy, Debug)]
pub struct Null<'a> {
    /// Reference counts, one per bin.
    pub counts: &'a [u32],
    /// Lower ends of the box, probabilities.
    pub box_lo: &'a [f32],
    /// Upper ends of the box, probabilities.
    pub box_hi: &'a [f32],
}

impl Null<'_> {
    /// Natural logarithm of the evidence that `counts` hold against this null.
    ///
    /// # Panics
    ///
    /// When the number of bins differs.
    pub fn ln_e<C: Number>(&self, counts: &[C]) -> f64 {
        ln_e(counts, self.counts, self.box_lo, self.box_hi)
    }

    /// Tests `counts` as one of `features` features that are tested together.
    ///
    /// # Panics
    ///
    /// When the number of bins differs.
    pub fn test<C: Number>(&self, counts: &[C], features: u32, config: &DriftConfig) -> Verdict {
        let have = total(counts);
        if have < f64::from(config.rows_min) {
            return too_few(have, config);
        }
        Verdict::from_evidence(self.ln_e(counts), threshold(features, config.alpha))
    }
}

fn too_few(have: f64, config: &DriftConfig) -> Verdict {
    Verdict::TooFew { have: have as u64, need: u64::from(config.rows_min) }
}

/// What ln E must reach when `features` features are watched: ln(F/α).
pub fn threshold(features: u32, alpha: f64) -> f64 {
    log(f64::from(features.max(1)) / alpha)
}

/// ln of the mixture's probability for the counts in their order of arrival:
/// the mean over κ of Γ(κ)/Γ(κ+n) · Π Γ(κp0+C)/Γ(κp0).
///
/// # Panics
///
/// When the slices differ in length.
///
/// # Source
///
/// Lindon and Malek (NeurIPS 2022), with a mixture over four concentrations.
pub fn ln_mixture<C: Number, R: Number>(counts: &[C], reference: &[R]) -> f64 {
    assert_eq!(counts.len(), reference.len(), "one reference count per bin");
    let n = total(counts);
    // Half a row in every bin keeps the prior proper where the reference is empty.
    let norm = total(reference) + 0.5 * reference.len() as f64;
    let mut terms = [0.0; CONCENTRATIONS.len()];
    for (term, kappa) in terms.iter_mut().zip(CONCENTRATIONS) {
        *term = lgamma(kappa) - lgamma(kappa + n);
        for (&count, &base) in counts.iter().zip(reference) {
            let count = count.to_f64();
            // An empty bin contributes Γ(x)/Γ(x) = 1.
            if count > 0.0 {
                let prior = kappa * (base.to_f64() + 0.5) / norm;
                *term += lgamma(prior + count) - lgamma(prior);
            }
        }
    }
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|term| exp(term - largest)).sum();
    largest + log(sum / CONCENTRATIONS.len() as f64)
}

/// Writes to `out` the probability vector inside the box under which `counts` are most likely:
/// clip(C/λ, lo, hi) with λ such that it sums to 1.
///
/// Where the bins that have rows cannot use up the probability even at their upper ends, those
/// ends are the best and the vector sums to less than 1: the rest lies in bins without rows, where
/// it makes no difference.
///
/// # Panics
///
/// When the slices differ in length.
pub fn box_mle<C: Number, P: Number>(counts: &[C], lo: &[P], hi: &[P], out: &mut [f64]) {
    let bins = counts.len();
    assert!(
        lo.len() == bins && hi.len() == bins && out.len() == bins,
        "one lower and one upper end per bin"
    );
    let mut fill = |lambda: f64| -> f64 {
        let mut sum = 0.0;
        for j in 0..bins {
            let (lo, hi) = (lo[j].to_f64(), hi[j].to_f64());
            out[j] = (counts[j].to_f64() / lambda).max(lo).min(hi);
            sum += out[j];
        }
        sum
    };
    let n = total(counts);
    // Σp falls as λ rises. λ lies near n; a box is never so lopsided as to move it by 2⁶⁰.
    const REACH: f64 = (1_u64 << 60) as f64;
    let (mut small, mut large) = (n / REACH, n * REACH);
    if n <= 0.0 || fill(small) <= 1.0 {
        fill(if n > 0.0 { small } else { 1.0 });
        return;
    }
    // Geometric bisection until λ has no more bits to give.
    for _ in 0..80 {
        let middle = sqrt(small) * sqrt(large);
        if middle <= small || middle >= large {
            break;
        }
        if fill(middle) > 1.0 {
            small = middle;
        } else {
            large = middle;
        }
    }
    fill(large);
}

/// Natural logarithm of the evidence `E` in `counts` against "every bin's probability lies inside
/// its box". Counts may be sums over any number of windows, devices and waves.
///
/// # Panics
///
/// When the slices differ in length or have more than [`SLOTS_MAX`] bins.
pub fn ln_e<C: Number, R: Number, P: Number>(
    counts: &[C],
    reference: &[R],
    box_lo: &[P],
    box_hi: &[P],
) -> f64 {
    let bins = counts.len();
    assert!(bins <= SLOTS_MAX, "at most {SLOTS_MAX} bins");
    let mut best = [0.0; SLOTS_MAX];
    box_mle(counts, box_lo, box_hi, &mut best[..bins]);
    let mut ln_best = 0.0;
    for (&count, &p) in counts.iter().zip(&best[..bins]) {
        if count.to_f64() > 0.0 {
            ln_best += count.to_f64() * log(p);
        }
    }
    ln_mixture(counts, reference) - ln_best
}

/// Compares a group with a control group: the control's counts serve as the reference, and the box
/// is computed from them. For predictions and confidence of a new model against the control cohort,
/// or against the previous model in shadow.
///
/// The bound on false alarms holds for a control that is counted once. Each time the box is
/// computed anew from a grown control, another α/(10 F) per feature is risked; ten such looks
/// double the bound, so compare at wave boundaries, not on every report.
///
/// # Panics
///
/// When the slices differ in length or have more than [`SLOTS_MAX`] bins.
pub fn compare<C: Number, R: Number>(
    new: &[C],
    control: &[R],
    features: u32,
    config: &DriftConfig,
) -> Verdict {
    let bins = control.len();
    assert!(bins <= SLOTS_MAX, "at most {SLOTS_MAX} bins");
    let have = total(new).min(total(control));
    if have < f64::from(config.rows_min) {
        return too_few(have, config);
    }
    let (mut lo, mut hi) = ([0.0; SLOTS_MAX], [0.0; SLOTS_MAX]);
    let (lo, hi) = (&mut lo[..bins], &mut hi[..bins]);
    let alpha_reference = config.alpha_reference(features);
    tolerance_box(control, config.tau, alpha_reference, lo, hi);
    let evidence = ln_e(new, control, lo, hi);
    Verdict::from_evidence(evidence, threshold(features, config.alpha))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rows_are_no_evidence() {
        let evidence = ln_e(&[0_u32; 3], &[5_u32; 3], &[0.2; 3], &[0.5; 3]);
        assert_eq!(evidence, 0.0);
    }

    #[test]
    fn too_few_on_either_side_is_inconclusive() {
        let config = DriftConfig::default();
        let expected = Verdict::TooFew { have: 49, need: 50 };
        assert_eq!(compare(&[49_u32, 0], &[0_u32, 900], 1, &config), expected);
        assert_eq!(compare(&[900_u32, 0], &[0_u32, 49], 1, &config), expected);
    }

    #[test]
    fn an_opposite_group_alarms_and_an_equal_one_does_not() {
        let config = DriftConfig::default();
        let new = compare(&[90_u32, 10], &[100_u32, 900], 5, &config);
        assert!(matches!(new, Verdict::Alarm { .. }), "{new:?}");
        let same = compare(&[10_u64, 90], &[100_u32, 900], 5, &config);
        assert!(matches!(same, Verdict::Quiet { .. }), "{same:?}");
    }

    #[test]
    fn a_bin_outside_every_box_is_infinite_evidence_not_a_panic() {
        let evidence = ln_e(&[10_u32, 90], &[0_u32, 900], &[0.0, 0.5], &[0.0, 1.0]);
        assert_eq!(evidence, f64::INFINITY);
    }
}
