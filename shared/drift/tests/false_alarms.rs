//! The promise, by simulation with fixed seeds: what does not drift stays quiet however often one
//! looks, and what does drift is found within a stated number of rows.

mod common;

use common::Random;
use tidegate_drift::{
    BINS, DriftConfig, LagCorrelation, Monitor, NumericReference, NumericSummary, Verdict, compare,
    ln_e, threshold, tolerance_box,
};

const FEATURES: u32 = 20;
const ROWS: usize = 100;

fn alarmed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Alarm { .. })
}

fn reference(random: &mut Random, rows: usize) -> NumericReference {
    let mut sample: Vec<f32> = (0..rows).map(|_| random.normal() as f32).collect();
    let config = DriftConfig::default();
    NumericReference::from_sample(&mut sample, None, FEATURES, &config).unwrap()
}

/// Rows until the first alarm, in windows, of one feature whose values `next` makes.
fn rows_to_alarm(
    reference: &NumericReference,
    rows_max: usize,
    mut next: impl FnMut() -> f64,
) -> Option<usize> {
    let config = DriftConfig::default();
    let mut summary = NumericSummary::default();
    (1..=rows_max / ROWS).find_map(|window| {
        for _ in 0..ROWS {
            summary.observe(reference, next() as f32);
        }
        let verdict = reference.test(&summary.bins, FEATURES, &config);
        alarmed(verdict).then_some(window * ROWS)
    })
}

/// 400 rollouts of 20 features, each with a small reference of its own, looked at after each of 15
/// windows: at most 1.1 % may ever alarm. 10 of 400 would have a chance of 1 % at 1.1 %.
#[test]
fn streams_without_drift_stay_quiet_however_often_one_looks() {
    let mut random = Random(1);
    let mut alarms = 0;
    for _ in 0..400 {
        let any = (0..FEATURES).any(|_| {
            let reference = reference(&mut random, 500);
            rows_to_alarm(&reference, 15 * ROWS, || random.normal()).is_some()
        });
        alarms += u32::from(any);
    }
    assert!(alarms <= 10, "{alarms} of 400 rollouts");
}

/// Of 1,000 streams at α = 10 %, how many ever alarm in 40 looks, when the reference is known
/// exactly and half of the bins lie below it by `moved`, the other half above.
fn alarms_at(tau: f64, moved: f64) -> u32 {
    let reference = [100_000_000_u32; 10];
    let (mut lo, mut hi) = ([0.0; 10], [0.0; 10]);
    tolerance_box(&reference, tau, 1e-3, &mut lo, &mut hi);
    let mut random = Random(2);
    let mut alarms = 0;
    for _ in 0..1_000 {
        let mut counts = [0_u32; 10];
        let alarm = (0..40).any(|_| {
            for _ in 0..50 {
                let low = random.uniform() < 0.5 * (1.0 - moved);
                counts[(random.next() % 5) as usize + if low { 0 } else { 5 }] += 1;
            }
            ln_e(&counts, &reference, &lo, &hi) >= threshold(1, 0.1)
        });
        alarms += u32::from(alarm);
    }
    alarms
}

/// Without tolerance the evidence is a martingale with mean 1 and the bound is nearly used up: the
/// sharpest check that there is. At most 100 expected, 130 is 3σ above; far fewer than 10 would
/// mean that evidence gets lost somewhere.
#[test]
fn a_point_null_alarms_about_as_often_as_it_may() {
    let alarms = alarms_at(0.0, 0.0);
    println!("{alarms} of 1000");
    assert!((10..=130).contains(&alarms), "{alarms} of 1000 streams");
}

#[test]
fn the_edge_of_the_tolerance_is_within_it() {
    let alarms = alarms_at(0.2, 0.2);
    println!("{alarms} of 1000");
    assert!(alarms <= 130, "{alarms} of 1000 streams");
}

#[test]
fn monitored_features_stay_quiet_and_sudden_drift_is_seen_at_once() {
    let config = DriftConfig::default();
    let mut random = Random(3);
    let (mut alarms, mut found) = (0, 0);
    for _ in 0..100 {
        let reference = reference(&mut random, 1_000);
        let mut monitor = Monitor::<BINS>::default();
        let mut close = |shift: f64| {
            let mut window = NumericSummary::default();
            for _ in 0..200 {
                window.observe(&reference, (random.normal() + shift) as f32);
            }
            let null = reference.null();
            alarmed(monitor.close_window(&window.bins, &null, FEATURES, &config).verdict)
        };
        // 64 windows of a hundred features: at most 100 · 1 % / 20 false alarms are expected.
        alarms += (0..64).filter(|_| close(0.0)).count();
        found += usize::from(close(1.5));
    }
    assert!(alarms <= 2, "{alarms} false alarms");
    assert!(found >= 99, "{found} of 100 shifts of 1.5 sd found in one window");
}

/// Power, with 20 features watched and 2,000 reference rows: rows within which the shift is found
/// in 50 of 50 streams.
#[test]
fn drift_is_found_within_the_stated_rows() {
    let mut random = Random(4);
    for (shift, spread, rows_max) in [(1.0, 1.0, 300), (0.5, 1.0, 4_000), (0.0, 2.0, 300)] {
        for stream in 0..50 {
            let reference = reference(&mut random, 2_000);
            let next = || random.normal() * spread + shift;
            let rows = rows_to_alarm(&reference, rows_max, next);
            assert!(rows.is_some(), "stream {stream}: shift {shift}, spread {spread}");
        }
    }
}

/// A first-order autoregressive input, ρ = .9, standard normal.
fn autoregressive(random: &mut Random) -> impl FnMut() -> f64 {
    let mut x = random.normal();
    move || {
        x = 0.9 * x + (1.0_f64 - 0.81).sqrt() * random.normal();
        x
    }
}

#[test]
fn dependent_rows_are_corrected_and_drift_in_them_is_still_found() {
    let config = DriftConfig::default();
    let mut random = Random(5);
    let (mut plain, mut corrected, mut found) = (0, 0, 0);
    for _ in 0..300 {
        let reference = reference(&mut random, 5_000);
        let mut counts = [NumericSummary::default(); 2];
        let mut lags = [LagCorrelation::default(); 2];
        let mut next = autoregressive(&mut random);
        let (mut any_plain, mut any_corrected) = (false, false);
        for _ in 0..20 {
            for _ in 0..ROWS {
                let x = next();
                for (which, shift) in [0.0, 1.5].into_iter().enumerate() {
                    let bin = counts[which].observe(&reference, (x + shift) as f32);
                    lags[which].observe(bin.unwrap());
                }
            }
            let still = &counts[0].bins;
            let effective = reference.effective_counts(still, &lags[0]);
            any_plain |= alarmed(reference.test(still, 1, &config));
            any_corrected |= alarmed(reference.test(&effective.counts, 1, &config));
        }
        let rho = lags[0].rho(&counts[0].bins);
        assert!((0.75..0.95).contains(&rho), "rho {rho}");
        let moved = reference.effective_counts(&counts[1].bins, &lags[1]);
        plain += u32::from(any_plain);
        corrected += u32::from(any_corrected);
        found += u32::from(alarmed(reference.test(&moved.counts, 1, &config)));
    }
    println!("of 300: {plain} uncorrected, {corrected} corrected, {found} drifting");
    // The uncorrected share shows that the simulation can fail.
    assert!(plain >= 30, "{plain} of 300 uncorrected");
    assert!(corrected <= 6, "{corrected} of 300 corrected");
    assert!(found >= 299, "{found} of 300 drifting");
}

#[test]
fn a_slow_input_takes_its_correlation_from_the_reference() {
    let ordered: Vec<f32> = (0..12_000).map(|i| (i as f32 * 0.002).sin()).collect();
    let mut sorted = ordered.clone();
    let config = DriftConfig::default();
    let made = NumericReference::from_sample(&mut sorted, None, 1, &config).unwrap();
    let reference = made.with_lag_of(&ordered);
    assert!(reference.lag > 0.99);
    // A window that sees only a piece of the wave: all in one bin, and no drift at all.
    let (mut window, mut lag) = (NumericSummary::default(), LagCorrelation::default());
    for &x in &ordered[640..760] {
        lag.observe(window.observe(&reference, x).unwrap());
    }
    assert_eq!(lag.rho(&window.bins), 0.0);
    assert!(alarmed(reference.test(&window.bins, 1, &config)));
    let effective = reference.effective_counts(&window.bins, &lag);
    let verdict = reference.test(&effective.counts, 1, &config);
    assert!(matches!(verdict, Verdict::TooFew { .. }), "{verdict:?}");
}

/// Both groups drawn from one distribution, the control no larger than the group: 1 % of 2,000
/// would be 20; 33 is 3σ above.
#[test]
fn equal_groups_are_not_told_apart() {
    let config = DriftConfig::default();
    let mut random = Random(6);
    let mut draw = || {
        let mut counts = [0_u32; BINS];
        for _ in 0..300 {
            counts[(random.uniform() * random.uniform() * BINS as f64) as usize] += 1;
        }
        counts
    };
    let alarms = (0..2_000).filter(|_| alarmed(compare(&draw(), &draw(), 1, &config)));
    let alarms = alarms.count();
    assert!(alarms <= 33, "{alarms} of 2000 comparisons");
}
