//! The special functions behind the tolerance box and the χ² quantile, in `f64` over `libm`.
//!
//! Every quantile is asked for by its *small* tail, so that nothing is lost to `1 − tiny`.

use libm::{exp, fabs, lgamma, log, log1p, sqrt};

/// Relative size at which a continued fraction or series has converged.
const CONVERGED: f64 = 1e-16;

/// The fraction takes O(√max(a, b)) steps; 2¹⁷ covers counts up to 2³².
const STEPS_MAX: u32 = 1 << 17;

/// Guards the modified Lentz recurrences against division by zero.
const TINY: f64 = 1e-300;

fn off_zero(x: f64) -> f64 {
    if fabs(x) < TINY { TINY } else { x }
}

/// ln of x^a (1−x)^b / B(a, b), the factor shared by the density and the distribution function.
fn ln_beta_front(a: f64, b: f64, x: f64) -> f64 {
    lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)
}

/// Continued fraction of the incomplete beta function (modified Lentz).
///
/// # Source
/// DLMF 8.17.22.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let mut c = 1.0;
    let mut d = 1.0 / off_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for step in 1..STEPS_MAX {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / off_zero(1.0 + even * d);
        c = off_zero(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / off_zero(1.0 + odd * d);
        c = off_zero(1.0 + odd / c);
        let change = d * c;
        value *= change;
        if fabs(change - 1.0) <= CONVERGED * 2.0 {
            break;
        }
    }
    value
}

/// Regularised incomplete beta function I_x(a, b) for a, b > 0 and x in [0, 1].
pub(crate) fn beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = exp(ln_beta_front(a, b, x));
    // Each side of the mean has the fraction that converges fast there.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

/// The x with I_x(a, b) = p, for small p (the lower tail).
///
/// Newton on ln I, which is concave, inside a bracket that bisects whenever a step leaves it.
pub(crate) fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut below, mut above) = (0.0, 1.0);
    let mut x = a / (a + b);
    for _ in 0..200 {
        let cdf = beta_cdf(a, b, x);
        if cdf < p {
            below = x;
        } else {
            above = x;
        }
        let density = exp(ln_beta_front(a, b, x)) / (x * (1.0 - x));
        let mut next = x - log(cdf / p) * cdf / density;
        // Also catches the NaN of a density that underflowed.
        if !(next > below && next < above) {
            next = 0.5 * (below + above);
        }
        if fabs(next - x) <= 4.0 * f64::EPSILON * x {
            return next;
        }
        x = next;
    }
    x
}

/// Regularised lower incomplete gamma function P(a, x) for a > 0 and x ≥ 0.
///
/// # Source
/// DLMF 8.11.4 (series) and 8.9.2 (continued fraction).
fn gamma_cdf(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let front = exp(a * log(x) - x - lgamma(a));
    if x < a + 1.0 {
        let mut term = 1.0 / a;
        let mut sum = term;
        let mut k = a;
        while term > sum * CONVERGED {
            k += 1.0;
            term *= x / k;
            sum += term;
        }
        return front * sum;
    }
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / off_zero(b);
    let mut value = d;
    for step in 1..10_000 {
        let m = f64::from(step);
        b += 2.0;
        let factor = -m * (m - a);
        d = 1.0 / off_zero(factor * d + b);
        c = off_zero(b + factor / c);
        let change = d * c;
        value *= change;
        if fabs(change - 1.0) <= CONVERGED * 2.0 {
            break;
        }
    }
    1.0 - front * value
}

/// The quantile of the χ² distribution with `degrees` degrees of freedom, p in (0, 1).
pub(crate) fn chi2_quantile(p: f64, degrees: f64) -> f64 {
    let a = 0.5 * degrees;
    let mut below = 0.0;
    let mut above = degrees + 10.0 * sqrt(2.0 * degrees) + 10.0;
    while gamma_cdf(a, 0.5 * above) < p && above < 1e9 {
        above *= 2.0;
    }
    // 64 halvings leave less than the last bit; this runs once per report screen.
    for _ in 0..64 {
        let middle = 0.5 * (below + above);
        if gamma_cdf(a, 0.5 * middle) < p {
            below = middle;
        } else {
            above = middle;
        }
    }
    0.5 * (below + above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!(fabs(a - b) <= 1e-12 + 1e-12 * fabs(b), "{a} is not {b}");
    }

    #[test]
    fn closed_forms_of_the_beta_function() {
        for x in [1e-9, 0.1, 0.5, 0.93, 1.0 - 1e-9] {
            close(beta_cdf(1.0, 1.0, x), x);
            close(beta_cdf(5.0, 1.0, x), x * x * x * x * x);
            close(beta_cdf(2.0, 2.0, x), x * x * (3.0 - 2.0 * x));
        }
        close(beta_quantile(1e-6, 1.0, 1.0), 1e-6);
        close(beta_quantile(1e-6, 3.0, 1.0), 1e-2);
        close(beta_quantile(1e-6, 1.0, 2.0), 1.0 - sqrt(1.0 - 1e-6));
    }

    #[test]
    fn beta_quantiles_invert_over_all_sizes() {
        for a in [1.0, 7.0, 300.0, 1e5, 1e8] {
            for b in [1.0, 40.0, 2e4, 4e9] {
                for p in [1e-12, 4e-7, 1e-3] {
                    let x = beta_quantile(p, a, b);
                    let relative = beta_cdf(a, b, x) / p - 1.0;
                    // Near 1 a last bit of x moves the density: only what x can express counts.
                    assert!(fabs(relative) < 1e-4, "a {a} b {b} p {p}: {relative:e}");
                }
            }
        }
    }

    #[test]
    fn chi2_quantiles_of_the_printed_tables() {
        // Two degrees of freedom have the closed form −2 ln(1 − p).
        close(chi2_quantile(0.99, 2.0), -2.0 * log(0.01));
        for (degrees, expected) in [(1.0, 6.634897), (3.0, 11.344867), (11.0, 24.724970)] {
            assert!(fabs(chi2_quantile(0.99, degrees) - expected) < 1e-6);
        }
    }
}
