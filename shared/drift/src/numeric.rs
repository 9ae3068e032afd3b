//! One numeric feature on the device: a window's bin counts, validity counters and exact sums.
//!
//! No Welford: its merge is not associative. Values are quantised once, and everything after that
//! is integer addition, so the same rows give the same summary on a gateway and on a
//! microcontroller.

use serde::{Deserialize, Serialize};

use crate::count::{DecodeError, MergeError, add, add_one, total_u64};
use crate::{BINS, NumericReference};

/// Largest magnitude of a quantised value: 2²⁰, so that 2²⁴ squares fit into a `u64`.
pub const Q_MAX: i32 = 1 << 20;

/// Most rows in one summary, 2²⁴ − 1: no counter and no sum can overflow before.
pub const ROWS_MAX: u32 = (1 << 24) - 1;

/// A window of one numeric feature. 88 bytes; at most 50 bytes of CBOR for 1,000 ordinary rows.
///
/// Serialised as `[[twelve bins, missing, NaN, +inf, −inf, outside], Σq, Σq²]`; rows and n follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct NumericSummary {
    /// Rows seen, of whatever kind.
    pub rows: u32,
    /// Finite values per bin; see [`NumericReference::bin`].
    pub bins: [u32; BINS],
    /// Rows without a value.
    pub missing: u32,
    /// Rows that were not a number.
    pub nan: u32,
    /// Rows that were +∞.
    pub pos_inf: u32,
    /// Rows that were −∞.
    pub neg_inf: u32,
    /// Finite values outside the physical range; they are counted in `bins` as well.
    pub outside: u32,
    /// Sum of the quantised values.
    pub sum_q: i64,
    /// Sum of their squares.
    pub sum_q2: u64,
}

// The budget of a feature on the device: this and the lag estimator within 100 bytes.
const _: () = assert!(
    core::mem::size_of::<NumericSummary>() + core::mem::size_of::<crate::LagCorrelation>() <= 100
);

impl NumericSummary {
    /// Takes one value. Returns the bin of a finite one, for [`crate::LagCorrelation::observe`].
    ///
    /// A full summary ([`Self::is_full`]) takes nothing more: close the window before.
    #[inline]
    pub fn observe(&mut self, reference: &NumericReference, x: f32) -> Option<usize> {
        if self.rows >= ROWS_MAX {
            return None;
        }
        self.rows += 1;
        if !x.is_finite() {
            self.observe_not_finite(x);
            return None;
        }
        let bin = reference.bin(x);
        self.bins[bin] += 1;
        self.outside += u32::from(x < reference.range_lo) | u32::from(x > reference.range_hi);
        let q = i64::from(reference.quantise(x));
        self.sum_q += q;
        self.sum_q2 += (q * q) as u64;
        Some(bin)
    }

    #[cold]
    fn observe_not_finite(&mut self, x: f32) {
        if x.is_nan() {
            self.nan += 1;
        } else if x > 0.0 {
            self.pos_inf += 1;
        } else {
            self.neg_inf += 1;
        }
    }

    /// Counts a row that had no value for this feature.
    pub fn observe_missing(&mut self) {
        if self.rows < ROWS_MAX {
            self.rows += 1;
            self.missing += 1;
        }
    }

    /// Whether the window must be closed because [`ROWS_MAX`] rows were seen.
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX
    }

    /// Finite values seen: the n of the test.
    pub fn n(&self) -> u64 {
        total_u64(&self.bins)
    }

    /// Adds another window that was taken with the same reference.
    ///
    /// # Errors
    ///
    /// [`MergeError::Overflow`] when the sum would exceed [`ROWS_MAX`] rows; `self` is unchanged.
    /// For whole fleets merge into [`crate::NumericTotal`].
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        let rows = add_one(self.rows, other.rows)?;
        if rows > ROWS_MAX {
            return Err(MergeError::Overflow);
        }
        let overflow = MergeError::Overflow;
        *self = Self {
            rows,
            bins: add(&self.bins, &other.bins)?,
            missing: add_one(self.missing, other.missing)?,
            nan: add_one(self.nan, other.nan)?,
            pos_inf: add_one(self.pos_inf, other.pos_inf)?,
            neg_inf: add_one(self.neg_inf, other.neg_inf)?,
            outside: add_one(self.outside, other.outside)?,
            sum_q: self.sum_q.checked_add(other.sum_q).ok_or(overflow)?,
            sum_q2: self.sum_q2.checked_add(other.sum_q2).ok_or(overflow)?,
        };
        Ok(())
    }

    /// Mean of the finite values in the feature's own unit, clamped values counting as clamped.
    pub fn mean(&self, reference: &NumericReference) -> Option<f64> {
        reference.mean(self.n() as f64, self.sum_q as f64)
    }

    /// Population variance of the finite values, in the feature's unit squared.
    pub fn variance(&self, reference: &NumericReference) -> Option<f64> {
        reference.variance(self.n() as f64, self.sum_q as f64, self.sum_q2 as f64)
    }
}

#[derive(Serialize, Deserialize)]
struct Wire([u32; BINS + 5], i64, u64);

impl From<NumericSummary> for Wire {
    fn from(summary: NumericSummary) -> Self {
        let mut counters = [0; BINS + 5];
        counters[..BINS].copy_from_slice(&summary.bins);
        counters[BINS..].copy_from_slice(&[
            summary.missing,
            summary.nan,
            summary.pos_inf,
            summary.neg_inf,
            summary.outside,
        ]);
        Self(counters, summary.sum_q, summary.sum_q2)
    }
}

impl TryFrom<Wire> for NumericSummary {
    type Error = DecodeError;

    fn try_from(Wire(counters, sum_q, sum_q2): Wire) -> Result<Self, DecodeError> {
        let (bins, flags) = counters.split_at(BINS);
        let n = total_u64(bins);
        let [missing, nan, pos_inf, neg_inf, outside] = flags else {
            return Err(DecodeError::Length);
        };
        let rows = n + total_u64(&flags[..4]);
        // What no window can have counted must not get into a sum over the fleet.
        let q_max = Q_MAX.unsigned_abs();
        let possible = rows <= u64::from(ROWS_MAX)
            && u64::from(*outside) <= n
            && sum_q.unsigned_abs() <= n * u64::from(q_max)
            && u128::from(sum_q2) <= u128::from(n) * u128::from(q_max) * u128::from(q_max);
        if !possible {
            return Err(DecodeError::Impossible);
        }
        let mut summary = Self {
            rows: rows as u32,
            missing: *missing,
            nan: *nan,
            pos_inf: *pos_inf,
            neg_inf: *neg_inf,
            outside: *outside,
            sum_q,
            sum_q2,
            ..Self::default()
        };
        summary.bins.copy_from_slice(bins);
        Ok(summary)
    }
}
