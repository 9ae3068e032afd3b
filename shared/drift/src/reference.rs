//! The reference of one numeric feature: made when the bundle is built, signed and shipped in it.

use core::fmt;

use libm::{ceil, ilogb, ldexp};
use serde::{Deserialize, Serialize};

use crate::count::{Counter, DecodeError};
use crate::lag::{EffectiveCounts, LagCorrelation};
use crate::numeric::Q_MAX;
use crate::tolerance::{holds_probabilities, round_down, round_up, tolerance_box};
use crate::{BINS, DriftConfig, Null, Verdict};

/// Percent of the reference values below each edge: deciles, and the outer ones cut once more at
/// 1 % and 99 %, where most faults of sensors show first.
pub const QUANTILE_PERCENTS: [u8; BINS - 1] = [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99];

/// Fewest values that a reference is made of, equal to the fewest rows of a window.
pub(crate) const SAMPLE_MIN: usize = 50;

/// Quantisation steps over the spread between the 1 % and 99 % edges. 2¹² steps put the rounding
/// noise 60 dB below the spread; ±2²⁰ then clamps only beyond 256 spreads, where only faults live.
const STEPS_PER_SPREAD: f64 = 4096.0;

/// 1.5·2²³: adding and subtracting it rounds an `f32` below 2²² to the nearest integer, ties to
/// even, in two IEEE operations that are the same on every target.
const ROUND: f32 = 12_582_912.0;

/// What one numeric feature looked like when the model was validated.
///
/// Serialised as a tuple of the fields in their order. Decoding rejects edges that descend and
/// boxes that hold no distribution. Fields are public so that firmware can have it as a `static`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct NumericReference {
    /// Bin edges in the feature's unit, finite and ascending; duplicates leave an empty bin.
    pub edges: [f32; BINS - 1],
    /// Reference values per bin.
    pub counts: [u32; BINS],
    /// Lower end of each bin's tolerance, a probability, rounded down.
    pub box_lo: [f32; BINS],
    /// Upper end of each bin's tolerance, a probability, rounded up.
    pub box_hi: [f32; BINS],
    /// The value that is quantised to 0, in the feature's unit.
    pub offset: f32,
    /// Quantisation steps per unit; a power of two, so that scaling is exact.
    pub scale: f32,
    /// Smallest physically possible value; `f32::MIN` where none was declared.
    pub range_lo: f32,
    /// Largest physically possible value; `f32::MAX` where none was declared.
    pub range_hi: f32,
    /// Lag-1 correlation of the reference in its original order, 0 to 1; 0 where unknown.
    pub lag: f32,
}

/// Why no reference was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceError {
    /// Not enough finite values.
    TooFew {
        /// Finite values in the sample.
        have: usize,
        /// Values needed.
        need: usize,
    },
    /// More values than a `u32` counts, or more categories than slots.
    TooMany,
    /// The physical range is not finite, or its ends are swapped.
    Range,
    /// α or τ is not within 0 to 1.
    Config,
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { have, need } => {
                write!(f, "{have} finite reference values, at least {need} needed")
            }
            Self::TooMany => f.write_str("more reference values or categories than fit"),
            Self::Range => f.write_str("physical range must be finite and ascending"),
            Self::Config => f.write_str("alpha and tau must lie between 0 and 1"),
        }
    }
}

impl core::error::Error for ReferenceError {}

impl NumericReference {
    /// Makes the reference of one of `features` features from a sample, which is sorted in place.
    ///
    /// Values that are not finite are left out. `range` is what is physically possible, in the
    /// feature's unit, ends included. Where a value is so frequent that edges coincide (a pixel
    /// that is nearly always 0), it gets a bin of its own: the second edge moves up to the next
    /// number, so smaller and larger values remain visible, and further duplicates stay empty.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] for fewer than 50 finite values or an impossible range or configuration.
    pub fn from_sample(
        values: &mut [f32],
        range: Option<(f32, f32)>,
        features: u32,
        config: &DriftConfig,
    ) -> Result<Self, ReferenceError> {
        config.check()?;
        let (range_lo, range_hi) = range.unwrap_or((f32::MIN, f32::MAX));
        if !(range_lo.is_finite() && range_hi.is_finite() && range_lo <= range_hi) {
            return Err(ReferenceError::Range);
        }
        let sample = sort_finite(values);
        let (have, need) = (sample.len(), SAMPLE_MIN);
        if have < need {
            return Err(ReferenceError::TooFew { have, need });
        }
        if u32::try_from(have).is_err() {
            return Err(ReferenceError::TooMany);
        }
        let edges = edges_of(sample);
        let mut reference = Self {
            edges,
            counts: [0; BINS],
            box_lo: [0.0; BINS],
            box_hi: [1.0; BINS],
            offset: edges[BINS / 2 - 1],
            scale: scale_of(sample, &edges),
            range_lo,
            range_hi,
            lag: 0.0,
        };
        for &value in sample {
            reference.counts[reference.bin(value)] += 1;
        }
        let (mut lo, mut hi) = ([0.0; BINS], [0.0; BINS]);
        let alpha = config.alpha_reference(features);
        tolerance_box(&reference.counts, config.tau, alpha, &mut lo, &mut hi);
        reference.box_lo = lo.map(round_down);
        reference.box_hi = hi.map(round_up);
        Ok(reference)
    }

    /// Also records how strongly consecutive reference rows depend on one another, from the sample
    /// in its original order (so before [`Self::from_sample`] sorted it).
    ///
    /// A device cannot see a dependence that is longer than its window: a room temperature stays
    /// in one bin for hours. The reference can, so the correction uses the larger of the two.
    #[must_use]
    pub fn with_lag_of(mut self, ordered: &[f32]) -> Self {
        let mut lag = LagCorrelation::default();
        let mut counts = [0_u32; BINS];
        for &value in ordered.iter().filter(|value| value.is_finite()) {
            let bin = self.bin(value);
            counts[bin] = counts[bin].saturating_add(1);
            lag.observe(bin);
        }
        self.lag = lag.rho(&counts).max(0.0) as f32;
        self
    }

    /// The bin of a finite value: the number of edges that are not above it, 0 to 11.
    #[inline]
    pub fn bin(&self, x: f32) -> usize {
        // Eleven independent comparisons and no branch beat a binary search of four.
        let above = self.edges.map(|edge| u32::from(x >= edge));
        above.iter().sum::<u32>() as usize
    }

    /// The value in quantisation steps from the offset, clamped to ±[`Q_MAX`]. NaN gives 0.
    #[inline]
    pub fn quantise(&self, x: f32) -> i32 {
        const LIMIT: f32 = Q_MAX as f32;
        let steps = ((x - self.offset) * self.scale).clamp(-LIMIT, LIMIT);
        ((steps + ROUND) - ROUND) as i32
    }

    /// What the test needs of this reference.
    pub fn null(&self) -> Null<'_> {
        Null { counts: &self.counts, box_lo: &self.box_lo, box_hi: &self.box_hi }
    }

    /// Tests bin counts (of a window, a wave or the fleet) as one of `features` features.
    pub fn test<C: crate::Number>(
        &self,
        counts: &[C; BINS],
        features: u32,
        config: &DriftConfig,
    ) -> Verdict {
        self.null().test(counts, features, config)
    }

    /// Counts corrected for dependence between rows: by the live estimate or the reference's own,
    /// whichever is larger.
    pub fn effective_counts<C: Counter>(
        &self,
        counts: &[C; BINS],
        live: &LagCorrelation,
    ) -> EffectiveCounts {
        EffectiveCounts::new(counts, live.rho(counts).max(f64::from(self.lag)))
    }

    /// One value to stand for each bin, in the feature's unit: the middle between its edges, and
    /// for the open ends the outermost edge. For [`crate::describe::wasserstein_1`].
    pub fn representatives(&self) -> [f64; BINS] {
        let mut values = [0.0; BINS];
        for (j, value) in values.iter_mut().enumerate() {
            let lower = f64::from(self.edges[j.saturating_sub(1)]);
            let upper = f64::from(self.edges[j.min(BINS - 2)]);
            *value = 0.5 * (lower + upper);
        }
        values
    }

    pub(crate) fn mean(&self, n: f64, sum_q: f64) -> Option<f64> {
        (n > 0.0).then(|| f64::from(self.offset) + sum_q / n / f64::from(self.scale))
    }

    pub(crate) fn variance(&self, n: f64, sum_q: f64, sum_q2: f64) -> Option<f64> {
        let scale = f64::from(self.scale);
        (n > 0.0).then(|| {
            let mean = sum_q / n;
            // The offset is the median, so the two terms are of one size only under gross drift.
            (sum_q2 / n - mean * mean).max(0.0) / scale / scale
        })
    }
}

/// Sorts, and returns the part without NaN and infinities.
fn sort_finite(values: &mut [f32]) -> &[f32] {
    values.sort_unstable_by(f32::total_cmp);
    // In total order: −NaN, −inf, finite, +inf, NaN.
    let start = values.partition_point(|v| v.total_cmp(&f32::MIN).is_lt());
    let end = values.partition_point(|v| v.total_cmp(&f32::MAX).is_le());
    &values[start..end]
}

/// Edges at the reference quantiles; where they coincide, the value gets a bin of its own.
fn edges_of(sorted: &[f32]) -> [f32; BINS - 1] {
    let quantiles = QUANTILE_PERCENTS.map(|percent| {
        // So many values lie below the edge, since a value on an edge belongs above it.
        sorted[(sorted.len() as u64 * u64::from(percent) / 100) as usize]
    });
    let mut edges = quantiles;
    for j in 1..edges.len() {
        if quantiles[j] == quantiles[j - 1] {
            edges[j] = next_normal(quantiles[j]);
        }
        // Next to 0 the step up may pass a quantile that is subnormal: that bin stays empty.
        edges[j] = edges[j].max(edges[j - 1]);
    }
    edges
}

/// The next larger number that is not subnormal: some FPUs take subnormals for 0.
fn next_normal(x: f32) -> f32 {
    let next = x.next_up();
    if next.is_subnormal() && x >= 0.0 {
        f32::MIN_POSITIVE
    } else if next.is_subnormal() {
        0.0
    } else {
        next.min(f32::MAX)
    }
}

/// The power of two that puts about [`STEPS_PER_SPREAD`] steps into the spread of the sample.
fn scale_of(sorted: &[f32], edges: &[f32; BINS - 1]) -> f32 {
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    let inner = f64::from(edges[BINS - 2]) - f64::from(edges[0]);
    let whole = f64::from(most) - f64::from(least);
    let magnitude = f64::from(most).abs().max(1.0);
    // A feature that is nearly constant has only its exceptions to take a scale from; one that is
    // wholly constant only its size.
    let spread = [inner, whole]
        .into_iter()
        .find(|&spread| spread > 1e-6 * magnitude)
        .unwrap_or(ceil(magnitude));
    let exponent = ilogb(STEPS_PER_SPREAD / spread).clamp(-100, 100);
    ldexp(1.0, exponent) as f32
}

#[derive(Serialize, Deserialize)]
struct Wire([f32; BINS - 1], [u32; BINS], [f32; BINS], [f32; BINS], [f32; 5]);

impl From<NumericReference> for Wire {
    fn from(r: NumericReference) -> Self {
        let scalars = [r.offset, r.scale, r.range_lo, r.range_hi, r.lag];
        Self(r.edges, r.counts, r.box_lo, r.box_hi, scalars)
    }
}

impl TryFrom<Wire> for NumericReference {
    type Error = DecodeError;

    fn try_from(Wire(edges, counts, box_lo, box_hi, scalars): Wire) -> Result<Self, DecodeError> {
        let [offset, scale, range_lo, range_hi, lag] = scalars;
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let usable = finite(&edges)
            && finite(&scalars)
            && edges.is_sorted()
            && scale > 0.0
            && range_lo <= range_hi
            && (0.0..=1.0).contains(&lag);
        if !usable {
            return Err(DecodeError::Edges);
        }
        if !holds_probabilities(&box_lo, &box_hi) {
            return Err(DecodeError::Box);
        }
        Ok(Self { edges, counts, box_lo, box_hi, offset, scale, range_lo, range_hi, lag })
    }
}
