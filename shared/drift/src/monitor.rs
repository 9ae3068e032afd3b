//! Steady state: the test restarted on three time scales.
//!
//! A rollout's test runs once, from its start to its end. A model that serves for months needs one
//! that forgets: evidence of a year without drift must not outweigh this morning's. Three copies
//! restart after 1, 8 and 64 windows, so sudden drift is seen at once and slow drift in the end.

use libm::log;

use crate::count::{Number, total};
use crate::{DriftConfig, Null, Verdict};

/// Windows after which each copy restarts.
pub const SCALES: [u8; 3] = [1, 8, 64];

/// Copies times windows of the longest one: the number of restarts that the risk is shared by.
const SHARES: f64 = 3.0 * 64.0;

/// What ln E must reach in monitor mode: ln(3·64·F/α), so that at most α false alarms are expected
/// in 64 windows.
pub fn monitor_threshold(features: u32, alpha: f64) -> f64 {
    log(SHARES * f64::from(features.max(1)) / alpha)
}

/// The verdict of the copy with the strongest evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonitorVerdict {
    /// Windows between restarts of the copy that speaks: 1, 8 or 64.
    pub scale: u8,
    /// What it says.
    pub verdict: Verdict,
}

/// Counts of one feature with `B` bins on three time scales, 12·B + 4 bytes.
///
/// Local to the device and in `f32`, so that corrected counts ([`crate::EffectiveCounts`]) have a
/// place; whole numbers are exact up to 2²⁴, far beyond 64 windows of ordinary size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Monitor<const B: usize> {
    copies: [[f32; B]; SCALES.len()],
    windows: [u8; SCALES.len()],
}

impl<const B: usize> Default for Monitor<B> {
    fn default() -> Self {
        Self { copies: [[0.0; B]; SCALES.len()], windows: [0; SCALES.len()] }
    }
}

impl<const B: usize> Monitor<B> {
    /// Adds a closed window to every copy, tests each, and restarts those that are due.
    ///
    /// # Panics
    ///
    /// When `null` has another number of bins.
    pub fn close_window<C: Number>(
        &mut self,
        window: &[C; B],
        null: &Null<'_>,
        features: u32,
        config: &DriftConfig,
    ) -> MonitorVerdict {
        let threshold = monitor_threshold(features, config.alpha);
        let mut strongest: Option<(f64, u8)> = None;
        let mut rows = 0.0;
        let copies = self.copies.iter_mut().zip(&mut self.windows).zip(SCALES);
        for ((copy, windows), scale) in copies {
            for (sum, &count) in copy.iter_mut().zip(window) {
                *sum += count.to_f64() as f32;
            }
            rows = total(copy);
            if rows >= f64::from(config.rows_min) {
                let evidence = null.ln_e(copy);
                if strongest.is_none_or(|(most, _)| evidence > most) {
                    strongest = Some((evidence, scale));
                }
            }
            *windows += 1;
            if *windows >= scale {
                (*copy, *windows) = ([0.0; B], 0);
            }
        }
        match strongest {
            Some((ln_e, scale)) => {
                MonitorVerdict { scale, verdict: Verdict::from_evidence(ln_e, threshold) }
            }
            // The copies grow with their scale: the last one had the most rows to offer.
            None => MonitorVerdict {
                scale: SCALES[SCALES.len() - 1],
                verdict: Verdict::TooFew { have: rows as u64, need: u64::from(config.rows_min) },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: [u32; 3] = [3_000, 4_000, 3_000];
    const NULL: Null<'_> =
        Null { counts: &COUNTS, box_lo: &[0.24, 0.32, 0.24], box_hi: &[0.36, 0.48, 0.36] };

    #[test]
    fn sudden_drift_is_seen_by_the_shortest_copy_and_forgotten_by_it() {
        let config = DriftConfig::default();
        let mut monitor = Monitor::<3>::default();
        for _ in 0..64 {
            let quiet = monitor.close_window(&[30_u32, 40, 30], &NULL, 1, &config);
            assert!(matches!(quiet.verdict, Verdict::Quiet { .. }));
        }
        let alarm = monitor.close_window(&[90_u32, 5, 5], &NULL, 1, &config);
        assert!(matches!(alarm.verdict, Verdict::Alarm { .. }), "{alarm:?}");
    }

    #[test]
    fn slow_drift_is_seen_by_a_longer_copy() {
        let config = DriftConfig::default();
        let mut monitor = Monitor::<3>::default();
        let first = (1..=64).find_map(|window| {
            let said = monitor.close_window(&[42_u32, 34, 24], &NULL, 1, &config);
            matches!(said.verdict, Verdict::Alarm { .. }).then_some((window, said.scale))
        });
        let (window, scale) = first.expect("a lasting shift is found");
        assert!(window > 1 && scale > 1, "window {window}, scale {scale}");
    }

    #[test]
    fn small_windows_stay_inconclusive_until_they_add_up() {
        let config = DriftConfig::default();
        let mut monitor = Monitor::<3>::default();
        let first = monitor.close_window(&[3_u32, 4, 3], &NULL, 1, &config);
        assert_eq!(first.verdict, Verdict::TooFew { have: 10, need: 50 });
        for _ in 0..3 {
            monitor.close_window(&[3_u32, 4, 3], &NULL, 1, &config);
        }
        let fifth = monitor.close_window(&[3_u32, 4, 3], &NULL, 1, &config);
        assert!(matches!(fifth.verdict, Verdict::Quiet { .. }));
    }
}
