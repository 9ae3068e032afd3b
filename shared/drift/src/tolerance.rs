//! The tolerance box: how far each bin's probability may lie from the reference without alarm.
//!
//! Two reasons widen a bin: the tolerance τ that the operator grants, and the finite reference,
//! whose true probabilities are known only up to a Clopper–Pearson interval. The wider one wins.
//! Computed once, when the bundle is made (or when two groups are compared); the device that only
//! tests against a shipped box needs no beta quantile.

use crate::count::{Number, total};
use crate::special::{beta_cdf, beta_quantile};

/// Fills `lo` and `hi` with the tolerance box around the reference counts.
///
/// `tau` is the granted relative movement of each bin, 0 to 1. `alpha_reference` is the chance,
/// over all bins together, that the true reference distribution lies outside; the decision uses
/// α / (10 F). Upper ends may exceed 1, which is the same as 1. Without any reference rows the box
/// is `[0, 1]`.
///
/// Bins cut at quantiles of the same sample are covered too: the probability between two order
/// statistics that are R apart has the Beta(R, M − R + 1) distribution that the interval uses.
///
/// # Panics
///
/// When the slices differ in length.
///
/// # Source
///
/// Clopper and Pearson, *The use of confidence or fiducial limits* (Biometrika 1934).
pub fn tolerance_box<R: Number>(
    reference: &[R],
    tau: f64,
    alpha_reference: f64,
    lo: &mut [f64],
    hi: &mut [f64],
) {
    assert_eq!(reference.len(), lo.len(), "one lower bound per bin");
    assert_eq!(reference.len(), hi.len(), "one upper bound per bin");
    let rows = total(reference);
    let tail = alpha_reference / (2.0 * reference.len() as f64);
    for ((&count, lo), hi) in reference.iter().zip(lo).zip(hi) {
        *lo = lower(count.to_f64(), rows, tau, tail);
        *hi = upper(count.to_f64(), rows, tau, tail);
    }
}

fn lower(count: f64, rows: f64, tau: f64, tail: f64) -> f64 {
    if count <= 0.0 {
        return 0.0;
    }
    let granted = (1.0 - tau) * count / rows;
    let (a, b) = (count, rows - count + 1.0);
    // One evaluation tells which of the two is smaller; large references need no root search.
    if beta_cdf(a, b, granted) <= tail {
        return granted;
    }
    beta_quantile(tail, a, b)
}

fn upper(count: f64, rows: f64, tau: f64, tail: f64) -> f64 {
    if rows <= 0.0 {
        return 1.0;
    }
    let granted = (1.0 + tau) * count / rows;
    if count >= rows || granted >= 1.0 {
        return granted.max(1.0);
    }
    // The upper quantile of Beta(R + 1, M − R) by its mirror image, to keep the small tail small.
    let (a, b) = (rows - count, count + 1.0);
    if beta_cdf(a, b, 1.0 - granted) <= tail {
        return granted;
    }
    1.0 - beta_quantile(tail, a, b)
}

/// The nearest `f32` that is not above `x`: boxes are shipped rounded outwards, so the shipped
/// test is never more eager than the exact one.
pub(crate) fn round_down(x: f64) -> f32 {
    let near = x as f32;
    let down = if f64::from(near) > x { near.next_down() } else { near };
    down.max(0.0)
}

/// The nearest `f32` that is not below `x`, at most 1.
pub(crate) fn round_up(x: f64) -> f32 {
    let near = x as f32;
    let up = if f64::from(near) < x { near.next_up() } else { near };
    up.min(1.0)
}

/// Whether some probability vector lies inside the box.
pub(crate) fn holds_probabilities(lo: &[f32], hi: &[f32]) -> bool {
    // Rounding of the sums: far below anything that a decision could notice.
    const SLACK: f64 = 1e-6;
    let ordered = lo.iter().zip(hi).all(|(&lo, &hi)| lo >= 0.0 && lo <= hi && hi <= 1.0);
    ordered && total(lo) <= 1.0 + SLACK && total(hi) >= 1.0 - SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_outwards() {
        for x in [0.0, 1e-9, 0.1, 1.0 / 3.0, 0.7, 1.0 - 1e-12, 1.0] {
            assert!(f64::from(round_down(x)) <= x);
            assert!(f64::from(round_up(x)) >= x);
        }
    }

    #[test]
    fn empty_and_full_bins_reach_the_ends() {
        let (mut lo, mut hi) = ([0.0; 2], [0.0; 2]);
        tolerance_box(&[0_u32, 500], 0.2, 1e-4, &mut lo, &mut hi);
        assert_eq!((lo[0], hi[1]), (0.0, 1.2));
        assert!(hi[0] > 0.0 && hi[0] < 0.05 && lo[1] < 1.0 && lo[1] > 0.7);
        tolerance_box(&[0_u32, 0], 0.2, 1e-4, &mut lo, &mut hi);
        assert_eq!((lo, hi), ([0.0; 2], [1.0; 2]));
    }
}
