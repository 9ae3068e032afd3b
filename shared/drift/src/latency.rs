//! How long answers take: 64 logarithmic bins, 4 an octave.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::count::{Counter, DecodeError, MergeError, add, total_u64};

/// Bins of a latency summary: 16 octaves of 4.
pub const LATENCY_BINS: usize = 64;

/// 2⁶ µs: 64 µs to 4.2 s. Faster answers need no watching, and slower models choose a higher floor.
const FLOOR_DEFAULT: u8 = 6;

/// With 2¹⁶ µs, 65 ms, the bins end at 71 minutes.
const FLOOR_MAX: u8 = 16;

/// A window of latencies in microseconds. `T` is `u32` on a device and `u64` where a fleet is
/// summed.
///
/// Each octave from 2^floor µs on is cut into four equal parts, so a bin is found by shifts alone and
/// is 14 to 25 % wide. The first bin also takes everything faster, the last one everything slower.
///
/// Serialised as `[floor, first bin, [counts from the first to the last bin that has any]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "Wire<T>",
    into = "Wire<T>",
    bound(serialize = "T: Counter + Serialize", deserialize = "T: Counter + Deserialize<'de>")
)]
pub struct LatencySummary<T: Counter = u32> {
    counts: [T; LATENCY_BINS],
    floor_log2_us: u8,
}

type Wire<T> = (u8, u8, Vec<T, LATENCY_BINS>);

impl Default for LatencySummary {
    fn default() -> Self {
        Self::with_floor(FLOOR_DEFAULT)
    }
}

impl LatencySummary {
    /// An empty window from 2^`floor_log2_us` µs on, 0 (1 µs to 65 ms) to 16 (65 ms to 71 min);
    /// more is taken as 16. The default is 6 (64 µs to 4.2 s).
    pub fn with_floor(floor_log2_us: u8) -> Self {
        Self::empty(floor_log2_us)
    }

    /// Takes one latency in microseconds.
    #[inline]
    pub fn observe(&mut self, latency_us: u32) {
        let bin = bin_of(latency_us, self.floor_log2_us);
        self.counts[bin] = self.counts[bin].saturating_add(1);
    }
}

impl LatencySummary<u64> {
    /// An empty sum over many windows and devices that have the same floor.
    pub fn total(floor_log2_us: u8) -> Self {
        Self::empty(floor_log2_us)
    }
}

fn bin_of(latency_us: u32, floor: u8) -> usize {
    let Some(octave) = latency_us.checked_ilog2() else {
        return 0;
    };
    let Some(octaves_up) = octave.checked_sub(u32::from(floor)) else {
        return 0;
    };
    // The two bits below the leading one, also for latencies of less than four microseconds.
    let quarter = ((u64::from(latency_us) << 2) >> octave) & 3;
    (octaves_up as usize * 4 + quarter as usize).min(LATENCY_BINS - 1)
}

/// Lower end of a bin in microseconds.
fn bin_start_us(bin: usize, floor: u8) -> f64 {
    let octave = (1_u64 << (usize::from(floor) + bin / 4)) as f64;
    octave * (1.0 + (bin % 4) as f64 / 4.0)
}

impl<T: Counter> LatencySummary<T> {
    fn empty(floor_log2_us: u8) -> Self {
        Self { counts: [T::default(); LATENCY_BINS], floor_log2_us: floor_log2_us.min(FLOOR_MAX) }
    }

    /// Answers per bin.
    pub fn counts(&self) -> &[T; LATENCY_BINS] {
        &self.counts
    }

    /// Base-2 logarithm of the first bin's lower end in microseconds.
    pub fn floor_log2_us(&self) -> u8 {
        self.floor_log2_us
    }

    /// Answers taken.
    pub fn n(&self) -> u64 {
        total_u64(&self.counts)
    }

    /// Adds another summary with the same floor.
    ///
    /// # Errors
    ///
    /// [`MergeError`] for another floor or a counter that overflows; `self` is then unchanged.
    pub fn merge<U: Counter>(&mut self, other: &LatencySummary<U>) -> Result<(), MergeError> {
        if self.floor_log2_us != other.floor_log2_us {
            return Err(MergeError::Shape);
        }
        self.counts = add(&self.counts, &other.counts)?;
        Ok(())
    }

    /// The latency in microseconds that a share `p` (0 to 1) of the answers stays within, by linear
    /// interpolation inside its bin; off by at most the bin's width, 25 %. `None` without answers.
    ///
    /// Within the last bin its lower end is returned: "at least this".
    pub fn quantile_us(&self, p: f64) -> Option<f64> {
        let n = crate::count::total(&self.counts);
        if n <= 0.0 || p.is_nan() {
            return None;
        }
        let wanted = p.clamp(0.0, 1.0) * n;
        let mut below = 0.0;
        for (bin, &count) in self.counts.iter().enumerate() {
            let count = count.to_f64();
            if count > 0.0 && below + count >= wanted {
                let start = bin_start_us(bin, self.floor_log2_us);
                if bin == LATENCY_BINS - 1 {
                    return Some(start);
                }
                let end = bin_start_us(bin + 1, self.floor_log2_us);
                return Some(start + (end - start) * (wanted - below) / count);
            }
            below += count;
        }
        Some(bin_start_us(LATENCY_BINS - 1, self.floor_log2_us))
    }
}

impl<T: Counter> From<LatencySummary<T>> for Wire<T> {
    fn from(summary: LatencySummary<T>) -> Self {
        let used = |count: &T| *count != T::default();
        let first = summary.counts.iter().position(used).unwrap_or(0);
        let end = summary.counts.iter().rposition(used).map_or(0, |last| last + 1);
        let counts = summary.counts[first..end.max(first)].iter().copied();
        (summary.floor_log2_us, first as u8, counts.collect())
    }
}

impl<T: Counter> TryFrom<Wire<T>> for LatencySummary<T> {
    type Error = DecodeError;

    fn try_from((floor, first, counts): Wire<T>) -> Result<Self, DecodeError> {
        let first = usize::from(first);
        if floor > FLOOR_MAX || first + counts.len() > LATENCY_BINS {
            return Err(DecodeError::Length);
        }
        let mut summary = Self::empty(floor);
        summary.counts[first..first + counts.len()].copy_from_slice(&counts);
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bin_starts_where_it_says() {
        for floor in [0, 1, 6, 15] {
            for bin in 1..LATENCY_BINS {
                // Bins of the octaves below 4 µs start between whole microseconds.
                let start = bin_start_us(bin, floor);
                let whole = start as u32;
                if f64::from(whole) == start {
                    assert_eq!(bin_of(whole, floor), bin, "floor {floor}, {whole} us");
                    assert!(bin_of(whole - 1, floor) < bin);
                }
            }
        }
        assert_eq!((bin_of(0, 6), bin_of(63, 6), bin_of(64, 6)), (0, 0, 0));
        assert_eq!(bin_of(u32::MAX, 0), LATENCY_BINS - 1);
    }

    #[test]
    fn quantiles_are_within_a_quarter() {
        let mut summary = LatencySummary::default();
        for latency_us in 1..=10_000 {
            summary.observe(latency_us);
        }
        for p in [0.1, 0.5, 0.9, 0.99] {
            let found = summary.quantile_us(p).unwrap();
            let exact = 10_000.0 * p;
            assert!((found / exact - 1.0).abs() < 0.25, "p {p}: {found}");
        }
        assert_eq!(LatencySummary::default().quantile_us(0.5), None);
    }

    #[test]
    fn floors_do_not_mix() {
        let mut total = LatencySummary::total(6);
        assert_eq!(total.merge(&LatencySummary::with_floor(0)), Err(MergeError::Shape));
        assert_eq!(total.merge(&LatencySummary::default()), Ok(()));
    }
}
