//! The Wilson score interval of a share.

/// Two-sided 95 % quantile of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// The 95 % confidence interval, each bound in 0..=1, of a share of which `hits` of `trials` were
/// seen. Without trials it is everything.
///
/// # Source
/// E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
///
/// ```
/// let (low, high) = tidegate_drift::wilson(8, 10);
/// assert!((low - 0.4901).abs() < 1e-3 && (high - 0.9433).abs() < 1e-3);
/// ```
pub fn wilson(hits: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (trials as f64, hits as f64 / trials as f64);
    let z2 = Z_95 * Z_95;
    let centre = share + z2 / (2.0 * n);
    let spread = Z_95 * libm::sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n));
    let scale = 1.0 + z2 / n;
    (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
}
