//! How long a model takes for a row, and whether that is slower than another model.

use super::certainly_above;

/// Bins: 32 octaves of 4, each 14 to 25 % wide.
const BINS: usize = 128;

/// 2⁸ ns: the first bin also takes everything faster. The last one begins at 16 minutes.
const FLOOR_LOG2_NS: u32 = 8;

/// Rows before anything is said: of 20, the p95 is the slowest.
const ROWS_MIN: u64 = 20;

/// Below 10 µs the way to the engine costs more than the engine: a ratio of two such times is a
/// ratio of nothing, so the slower one may take as much as if the other had taken this.
const LEAST_NS: f64 = 10_000.0;

/// Time for a row in the engine, in a fixed number of logarithmic bins. A p95 is looked at rather
/// than a mean: one page fault of a second would decide a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    counts: [u32; BINS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; BINS] }
    }
}

impl Latencies {
    /// Takes a run that answered `rows` rows in `run_ns` nanoseconds.
    pub fn observe(&mut self, run_ns: u64, rows: u32) {
        let bin = &mut self.counts[bin_of(run_ns / u64::from(rows.max(1)))];
        *bin = bin.saturating_add(rows);
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// Nanoseconds that 95 % of the rows stay within, by linear interpolation in a bin; none
    /// without rows.
    pub fn p95_ns(&self) -> Option<f64> {
        let wanted = self.rows() as f64 * 0.95;
        let mut below = 0.0;
        for (bin, count) in self.counts.iter().enumerate() {
            let count = f64::from(*count);
            if count > 0.0 && below + count >= wanted {
                let (start, end) = (start_ns(bin), start_ns(bin + 1));
                return Some(start + (end - start) * (wanted - below) / count);
            }
            below += count;
        }
        None
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) {
        let sums = self.counts.iter_mut().zip(&other.counts);
        sums.for_each(|(sum, count)| *sum = sum.saturating_add(*count));
    }

    /// Whether the p95 is more than `percent_max` percent of that of `old`. Never without rows of
    /// both.
    pub fn is_slower(&self, old: &Self, percent_max: u32) -> bool {
        let limit = old.limit_ns(percent_max);
        let p95 = self.p95_ns().filter(|_| self.rows() >= ROWS_MIN);
        limit.zip(p95).is_some_and(|(limit, p95)| p95 > limit)
    }

    /// Whether that is certain (95 %), so that waiting for more rows is of no use: more than 5 % of
    /// the rows took longer.
    pub fn is_certainly_slower(&self, old: &Self, percent_max: u32) -> bool {
        let Some(limit) = old.limit_ns(percent_max) else { return false };
        let wholly_above = (0..BINS).filter(|bin| start_ns(*bin) >= limit);
        let above = wholly_above.map(|bin| u64::from(self.counts[bin])).sum();
        self.rows() >= ROWS_MIN && certainly_above(above, self.rows(), 5)
    }

    fn limit_ns(&self, percent_max: u32) -> Option<f64> {
        let p95 = self.p95_ns().filter(|_| self.rows() >= ROWS_MIN)?;
        Some(p95.max(LEAST_NS) * f64::from(percent_max) / 100.0)
    }
}

fn bin_of(ns: u64) -> usize {
    let Some(octave) = ns.checked_ilog2() else { return 0 };
    let Some(up) = octave.checked_sub(FLOOR_LOG2_NS) else { return 0 };
    let quarter = (ns >> (octave - 2)) & 3;
    (up as usize * 4 + quarter as usize).min(BINS - 1)
}

fn start_ns(bin: usize) -> f64 {
    let octave = (1_u64 << (FLOOR_LOG2_NS as usize + bin / 4)) as f64;
    octave * (1.0 + (bin % 4) as f64 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ns: u64, rows: u32) -> Latencies {
        let mut latencies = Latencies::default();
        (0..rows).for_each(|_| latencies.observe(ns, 1));
        latencies
    }

    #[test]
    fn bins_start_where_they_say() {
        for bin in 1..BINS {
            let start = start_ns(bin) as u64;
            assert_eq!((bin_of(start), bin_of(start - 1)), (bin, bin - 1));
        }
        assert_eq!((bin_of(0), bin_of(u64::MAX)), (0, BINS - 1));
    }

    #[test]
    fn the_p95_is_within_a_quarter() {
        let mut latencies = Latencies::default();
        (1..=1_000).for_each(|n| latencies.observe(n * 1_000, 1));
        let p95 = latencies.p95_ns().unwrap();
        assert!((p95 / 950_000.0 - 1.0).abs() < 0.25, "{p95}");
        assert_eq!(Latencies::default().p95_ns(), None);
    }

    #[test]
    fn one_slow_row_is_no_slow_model() {
        let old = rows(100_000, 100);
        let mut new = rows(100_000, 99);
        new.observe(1_000_000_000, 1);
        assert!(!new.is_slower(&old, 200) && !new.is_certainly_slower(&old, 200));
    }

    #[test]
    fn a_slow_model_is_seen_early_and_never_from_a_few_rows() {
        let old = rows(100_000, 100);
        assert!(rows(400_000, 20).is_certainly_slower(&old, 300));
        assert!(!rows(400_000, 19).is_certainly_slower(&old, 300));
        assert!(!rows(400_000, 100).is_slower(&old, 500));
        assert!(!rows(400_000, 100).is_slower(&rows(100_000, 19), 300), "too few to compare with");
        assert!(!rows(20_000, 100).is_slower(&rows(1_000, 100), 300), "both are nothing");
    }

    #[test]
    fn rows_of_a_batch_share_its_time() {
        let mut batch = Latencies::default();
        batch.observe(3_200_000, 32);
        assert_eq!((batch.rows(), batch), (32, rows(100_000, 32)));
    }
}
