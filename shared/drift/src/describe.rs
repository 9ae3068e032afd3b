//! Figures for people: how far two sets of bin counts lie apart.
//!
//! Reported, never decided on. On data without drift the usual thresholds on these raise alarms in
//! up to every window; [`psi_null_quantile`] shows what to expect by chance alone.
//!
//! All functions take live counts first, reference counts second, and panic when their lengths
//! differ. With no rows on one side they return 0, except the smoothed PSI, which is defined.

use libm::{log, log2, sqrt};

use crate::count::{Number, total};
use crate::special::chi2_quantile;

fn assert_bins<A, B>(live: &[A], reference: &[B]) {
    assert_eq!(live.len(), reference.len(), "one reference count per bin");
}

/// Population stability index with half a row added to every bin, natural logarithm, 0 and up.
///
/// # Source
///
/// Siddiqi, *Credit Risk Scorecards* (2006); the smoothing keeps empty bins finite.
pub fn psi<C: Number, R: Number>(live: &[C], reference: &[R]) -> f64 {
    assert_bins(live, reference);
    let half = 0.5 * live.len() as f64;
    let (n, m) = (total(live) + half, total(reference) + half);
    let shares = live.iter().zip(reference);
    shares
        .map(|(&c, &r)| {
            let (p, q) = ((r.to_f64() + 0.5) / m, (c.to_f64() + 0.5) / n);
            (q - p) * log(q / p)
        })
        .sum()
}

/// The PSI that `n` live and `m` reference rows without any drift stay below with probability `p`
/// (0 to 1, usually .99): (1/n + 1/m) times the χ² quantile with `bins − 1` degrees of freedom.
///
/// # Source
///
/// Yurdakul and Naranjo, *Statistical properties of the population stability index* (Journal of
/// Risk Model Validation 2020).
pub fn psi_null_quantile(p: f64, n: f64, m: f64, bins: usize) -> f64 {
    (1.0 / n + 1.0 / m) * chi2_quantile(p, bins.saturating_sub(1) as f64)
}

/// Jensen–Shannon distance to base 2: the square root of the divergence, 0 to 1.
///
/// # Source
///
/// Endres and Schindelin, *A new metric for probability distributions* (IEEE Transactions on
/// Information Theory 2003).
pub fn js_distance<C: Number, R: Number>(live: &[C], reference: &[R]) -> f64 {
    assert_bins(live, reference);
    let (n, m) = (total(live), total(reference));
    if n <= 0.0 || m <= 0.0 {
        return 0.0;
    }
    let part = |share: f64, middle: f64| {
        if share > 0.0 { share * log2(share / middle) } else { 0.0 }
    };
    let mut sum = 0.0;
    for (&c, &r) in live.iter().zip(reference) {
        let (p, q) = (r.to_f64() / m, c.to_f64() / n);
        let middle = 0.5 * (p + q);
        sum += part(p, middle) + part(q, middle);
    }
    sqrt((0.5 * sum).max(0.0))
}

/// Bounds of the Kolmogorov–Smirnov distance, 0 to 1: the unbinned one lies between them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KsBounds {
    /// Largest gap of the two distribution functions at an edge.
    pub lower: f64,
    /// Largest gap that values inside one bin could open up.
    pub upper: f64,
}

/// What binned counts say about the Kolmogorov–Smirnov distance.
pub fn ks_bounds<C: Number, R: Number>(live: &[C], reference: &[R]) -> KsBounds {
    assert_bins(live, reference);
    let (n, m) = (total(live), total(reference));
    let mut bounds = KsBounds::default();
    if n <= 0.0 || m <= 0.0 {
        return bounds;
    }
    let (mut p, mut q) = (0.0, 0.0);
    for (&c, &r) in live.iter().zip(reference) {
        let (p_next, q_next) = (p + r.to_f64() / m, q + c.to_f64() / n);
        bounds.lower = bounds.lower.max((p_next - q_next).abs());
        // All rows of one side at the bin's lower end, all of the other at its upper end.
        bounds.upper = bounds.upper.max(p_next - q).max(q_next - p);
        (p, q) = (p_next, q_next);
    }
    bounds
}

/// Wasserstein-1 distance between the binned distributions, each bin's rows standing at its
/// representative ([`crate::NumericReference::representatives`]), in the feature's unit.
///
/// # Panics
///
/// When there is not one representative per bin.
pub fn wasserstein_1<C: Number, R: Number>(
    live: &[C],
    reference: &[R],
    representatives: &[f64],
) -> f64 {
    assert_bins(live, reference);
    assert_eq!(live.len(), representatives.len(), "one value per bin");
    let (n, m) = (total(live), total(reference));
    if n <= 0.0 || m <= 0.0 {
        return 0.0;
    }
    let (mut p, mut q, mut distance) = (0.0, 0.0, 0.0);
    for j in 0..live.len().saturating_sub(1) {
        p += reference[j].to_f64() / m;
        q += live[j].to_f64() / n;
        distance += (p - q).abs() * (representatives[j + 1] - representatives[j]);
    }
    distance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_are_no_distance_and_disjoint_ones_the_largest() {
        let (same, reference) = ([10_u32, 30, 0], [100_u32, 300, 0]);
        assert!(js_distance(&same, &reference) < 1e-7);
        assert_eq!(ks_bounds(&same, &reference).lower, 0.0);
        assert_eq!(wasserstein_1(&same, &reference, &[0.0, 1.0, 2.0]), 0.0);
        let other = [0_u32, 0, 7];
        assert!((js_distance(&other, &reference) - 1.0).abs() < 1e-12);
        assert_eq!(ks_bounds(&other, &reference).upper, 1.0);
        assert!(psi(&other, &reference) > 1.0);
    }

    #[test]
    fn no_rows_are_no_distance() {
        assert_eq!(js_distance(&[0_u32; 3], &[1_u32; 3]), 0.0);
        assert_eq!(ks_bounds(&[0_u32; 3], &[1_u32; 3]), KsBounds::default());
    }

    #[test]
    fn psi_expected_by_chance() {
        // Twelve bins, 100 against 1,000 rows: 24.725 · (1/100 + 1/1,000).
        assert!((psi_null_quantile(0.99, 100.0, 1_000.0, 12) - 0.271_975).abs() < 1e-6);
    }
}
