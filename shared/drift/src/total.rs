//! One numeric feature over many windows and devices: the same sums, wide enough for a fleet.

use serde::{Deserialize, Serialize};

use crate::count::{DecodeError, MergeError, add, add_one, total_u64};
use crate::{BINS, NumericReference, NumericSummary, Q_MAX};

/// The sum of any number of [`NumericSummary`]s that were taken with the same reference.
///
/// Serialised as `[[17 counters], [Σq high, Σq low], [Σq² high, Σq² low]]`: CBOR integers end at
/// 64 bits, so the sums travel as two words each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct NumericTotal {
    /// Finite values per bin.
    pub bins: [u64; BINS],
    /// Rows without a value.
    pub missing: u64,
    /// Rows that were not a number.
    pub nan: u64,
    /// Rows that were +∞.
    pub pos_inf: u64,
    /// Rows that were −∞.
    pub neg_inf: u64,
    /// Finite values outside the physical range; they are counted in `bins` as well.
    pub outside: u64,
    /// Sum of the quantised values.
    pub sum_q: i128,
    /// Sum of their squares.
    pub sum_q2: u128,
}

impl NumericTotal {
    /// Adds one device's window.
    ///
    /// # Errors
    ///
    /// [`MergeError::Overflow`] beyond 2⁶⁴ rows; `self` is then unchanged.
    pub fn add(&mut self, window: &NumericSummary) -> Result<(), MergeError> {
        self.merge(&Self::from(window))
    }

    /// Adds another total.
    ///
    /// # Errors
    ///
    /// [`MergeError::Overflow`] beyond 2⁶⁴ rows; `self` is then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        let overflow = MergeError::Overflow;
        *self = Self {
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

    /// Finite values seen: the n of the test.
    pub fn n(&self) -> u64 {
        total_u64(&self.bins)
    }

    /// Rows seen, of whatever kind.
    pub fn rows(&self) -> u64 {
        let others = total_u64(&[self.missing, self.nan, self.pos_inf, self.neg_inf]);
        self.n().saturating_add(others)
    }

    /// Mean of the finite values in the feature's own unit.
    pub fn mean(&self, reference: &NumericReference) -> Option<f64> {
        reference.mean(self.n() as f64, self.sum_q as f64)
    }

    /// Population variance of the finite values, in the feature's unit squared.
    pub fn variance(&self, reference: &NumericReference) -> Option<f64> {
        reference.variance(self.n() as f64, self.sum_q as f64, self.sum_q2 as f64)
    }
}

impl From<&NumericSummary> for NumericTotal {
    fn from(window: &NumericSummary) -> Self {
        Self {
            bins: window.bins.map(u64::from),
            missing: window.missing.into(),
            nan: window.nan.into(),
            pos_inf: window.pos_inf.into(),
            neg_inf: window.neg_inf.into(),
            outside: window.outside.into(),
            sum_q: window.sum_q.into(),
            sum_q2: window.sum_q2.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire([u64; BINS + 5], (i64, u64), (u64, u64));

impl From<NumericTotal> for Wire {
    fn from(total: NumericTotal) -> Self {
        let mut counters = [0; BINS + 5];
        counters[..BINS].copy_from_slice(&total.bins);
        counters[BINS..].copy_from_slice(&[
            total.missing,
            total.nan,
            total.pos_inf,
            total.neg_inf,
            total.outside,
        ]);
        let sum_q = ((total.sum_q >> 64) as i64, total.sum_q as u64);
        let sum_q2 = ((total.sum_q2 >> 64) as u64, total.sum_q2 as u64);
        Self(counters, sum_q, sum_q2)
    }
}

impl TryFrom<Wire> for NumericTotal {
    type Error = DecodeError;

    fn try_from(Wire(counters, sum_q, sum_q2): Wire) -> Result<Self, DecodeError> {
        let (bins, flags) = counters.split_at(BINS);
        let [missing, nan, pos_inf, neg_inf, outside] = *flags else {
            return Err(DecodeError::Length);
        };
        let mut total = Self {
            missing,
            nan,
            pos_inf,
            neg_inf,
            outside,
            sum_q: (i128::from(sum_q.0) << 64) | i128::from(sum_q.1),
            sum_q2: (u128::from(sum_q2.0) << 64) | u128::from(sum_q2.1),
            ..Self::default()
        };
        total.bins.copy_from_slice(bins);
        let n = u128::from(total.n());
        let q_max = u128::from(Q_MAX.unsigned_abs());
        let possible = u128::from(outside) <= n
            && total.sum_q.unsigned_abs() <= n * q_max
            && total.sum_q2 <= n * q_max * q_max;
        possible.then_some(total).ok_or(DecodeError::Impossible)
    }
}
