//! Laws that must hold for any input: merging, encoding, edges.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_drift::{
    BINS, CategoricalReference, CategoricalSummary, DriftConfig, LatencySummary, MergeError,
    NumericReference, NumericSummary, NumericTotal, OutputSummary, ROWS_MAX,
};

fn reference_of(mut sample: Vec<f32>) -> NumericReference {
    let range = Some((-50.0, 50.0));
    NumericReference::from_sample(&mut sample, range, 5, &DriftConfig::default()).unwrap()
}

fn reference() -> NumericReference {
    reference_of((0..2_000).map(|i| (i as f32 - 1_000.0) * 0.05).collect())
}

fn summary(reference: &NumericReference, values: &[Option<f32>]) -> NumericSummary {
    let mut summary = NumericSummary::default();
    for value in values {
        match value {
            Some(x) => drop(summary.observe(reference, *x)),
            None => summary.observe_missing(),
        }
    }
    summary
}

fn any_value() -> impl Strategy<Value = Option<f32>> {
    prop_oneof![
        8 => (-60.0_f32..60.0).prop_map(Some),
        1 => any::<f32>().prop_map(Some),
        1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]).prop_map(Some),
        1 => Just(None),
    ]
}

fn any_values() -> impl Strategy<Value = Vec<Option<f32>>> {
    prop::collection::vec(any_value(), 0..200)
}

fn any_answers() -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec(-0.01_f32..1.0, 0..6), 0..40)
}

fn assert_round_trip<T>(value: &T)
where
    T: serde::Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
}

/// Bytes that the value takes in CBOR: one for the head, and 1, 2, 4 or 8 for what exceeds 23.
fn cbor_len(value: &Value) -> usize {
    let head = |n: u64| match n {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    };
    match value {
        Value::Array(items) => head(items.len() as u64) + items.iter().map(cbor_len).sum::<usize>(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(n), _) => head(n),
            (None, Some(n)) => head(n.unsigned_abs() - 1),
            (None, None) => 5,
        },
        other => panic!("neither an array nor a number: {other}"),
    }
}

proptest! {
    // Seeds of failures are printed; files of them belong into a named test, as below.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_numeric_windows_is_observing_all_rows(
        a in any_values(), b in any_values(), c in any_values(),
    ) {
        let reference = reference();
        let [x, y, z] = [&a, &b, &c].map(|values| summary(&reference, values));
        let whole = summary(&reference, &[a, b, c].concat());
        let (mut left, mut right, mut yz) = (x, z, y);
        left.merge(&y).unwrap();
        left.merge(&z).unwrap();
        yz.merge(&z).unwrap();
        let mut grouped = x;
        grouped.merge(&yz).unwrap();
        right.merge(&x).unwrap();
        right.merge(&y).unwrap();
        prop_assert_eq!((left, grouped, right), (whole, whole, whole));
        let mut total = NumericTotal::default();
        for part in [y, z, x] {
            total.add(&part).unwrap();
        }
        prop_assert_eq!(total, NumericTotal::from(&whole));
        prop_assert_eq!(total.rows(), u64::from(whole.rows));
    }

    #[test]
    fn merging_answers_is_observing_all_answers(a in any_answers(), b in any_answers()) {
        let of = |answers: &[Vec<f32>]| {
            let mut summary = OutputSummary::new(4);
            answers.iter().for_each(|answer| summary.observe(answer));
            summary
        };
        let (x, y, whole) = (of(&a), of(&b), of(&[a, b].concat()));
        let (mut xy, mut yx, mut total) = (x, y, OutputSummary::total(4));
        xy.merge(&y).unwrap();
        yx.merge(&x).unwrap();
        total.merge(&y).unwrap();
        total.merge(&x).unwrap();
        prop_assert_eq!((xy, yx), (whole, whole));
        prop_assert_eq!(total.top().map(|count| count as u32), *whole.top());
        assert_round_trip(&whole);
        assert_round_trip(&total);
    }

    #[test]
    fn merging_latencies_is_observing_all(a in prop::collection::vec(any::<u32>(), 0..99),
                                          b in prop::collection::vec(0_u32..100_000, 0..99)) {
        let of = |latencies: &[u32]| {
            let mut summary = LatencySummary::default();
            latencies.iter().for_each(|&latency| summary.observe(latency));
            summary
        };
        let (mut x, y, whole) = (of(&a), of(&b), of(&[a, b].concat()));
        x.merge(&y).unwrap();
        prop_assert_eq!(x, whole);
        assert_round_trip(&whole);
    }

    #[test]
    fn merging_categories_is_observing_all(a in prop::collection::vec(0_usize..40, 0..99),
                                           b in prop::collection::vec(0_usize..40, 0..99),
                                           categories in 0_usize..40) {
        let of = |values: &[usize]| {
            let mut summary = CategoricalSummary::new(categories);
            values.iter().for_each(|&value| summary.observe(value));
            summary
        };
        let (mut x, y, whole) = (of(&a), of(&b), of(&[a, b].concat()));
        x.merge(&y).unwrap();
        prop_assert_eq!(x, whole);
        assert_round_trip(&whole);
    }

    #[test]
    fn numeric_summaries_survive_encoding(values in any_values()) {
        let window = summary(&reference(), &values);
        assert_round_trip(&window);
        let mut total = NumericTotal::from(&window);
        total.sum_q *= 3;
        total.bins = total.bins.map(|count| count << 40);
        total.sum_q2 <<= 39;
        assert_round_trip(&total);
    }

    #[test]
    fn any_sample_makes_a_usable_reference(
        sample in prop::collection::vec(prop_oneof![any::<f32>(), Just(0.0), Just(1.0)], 50..300),
        x in any::<f32>().prop_filter("finite", |x| x.is_finite()),
    ) {
        let (finite, mut sample): (usize, Vec<f32>) =
            (sample.iter().filter(|value| value.is_finite()).count(), sample);
        let made = NumericReference::from_sample(&mut sample, None, 20, &DriftConfig::default());
        prop_assume!(finite >= 50);
        let reference = made.unwrap();
        prop_assert_eq!(reference.counts.iter().sum::<u32>() as usize, finite);
        prop_assert!(reference.edges.is_sorted());
        prop_assert!(reference.bin(x) < BINS);
        let q = reference.quantise(x);
        prop_assert!((-(1 << 20)..=1 << 20).contains(&q));
        assert_round_trip(&reference);
    }

    #[test]
    fn decoding_never_panics(counters in any::<[u32; 17]>(), q in any::<i64>(), q2 in any::<u64>(),
                             wide in any::<[u64; 17]>(), first in any::<u8>()) {
        let json = serde_json::to_string(&(counters, q, q2)).unwrap();
        if let Ok(window) = serde_json::from_str::<NumericSummary>(&json) {
            prop_assert!(window.rows <= ROWS_MAX);
        }
        let json = serde_json::to_string(&(wide, (q, q2), (q2, q2))).unwrap();
        let _ = serde_json::from_str::<NumericTotal>(&json);
        let json = serde_json::to_string(&(first % 20, first, counters)).unwrap();
        let _ = serde_json::from_str::<LatencySummary>(&json);
    }
}

#[test]
fn a_window_of_a_thousand_rows_fits_fifty_bytes_of_cbor() {
    let reference = reference();
    let rows: Vec<_> = (0..1_000).map(|i| Some((i * 7 % 1_000) as f32 * 0.1 - 50.0)).collect();
    let window = summary(&reference, &rows);
    let length = cbor_len(&serde_json::to_value(window).unwrap());
    println!("{length} bytes");
    assert!(length <= 50, "{length} bytes");
    // Three validity counters in use, and a gross shift: the largest sums.
    let mut hostile = window;
    for _ in 0..300 {
        hostile.observe(&reference, f32::NAN);
        hostile.observe(&reference, 1e9);
    }
    let length = cbor_len(&serde_json::to_value(hostile).unwrap());
    assert!(length <= 60, "{length} bytes");
}

#[test]
fn an_overflowing_merge_changes_nothing() {
    let mut big = NumericSummary { rows: ROWS_MAX, ..NumericSummary::default() };
    big.bins[0] = ROWS_MAX;
    let before = big;
    assert!(big.is_full());
    let one = summary(&reference(), &[Some(1.0)]);
    assert_eq!(big.merge(&one), Err(MergeError::Overflow));
    assert_eq!(big.observe(&reference(), 1.0), None);
    assert_eq!(big, before);
}

#[test]
fn impossible_counters_are_refused() {
    let decode = |json: &str| serde_json::from_str::<NumericSummary>(json);
    let good = "[[0,0,0,0,0,0,2,0,0,0,0,0,0,0,0,0,2],5,13]";
    assert_eq!(decode(good).unwrap().n(), 2);
    let more_outside_than_rows = "[[0,0,0,0,0,0,2,0,0,0,0,0,0,0,0,0,3],5,13]";
    let sum_beyond_the_clamp = "[[0,0,0,0,0,0,2,0,0,0,0,0,0,0,0,0,0],2097153,13]";
    let squares_beyond_the_clamp = "[[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],0,1]";
    let too_many_rows = "[[16777215,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],0,0]";
    let bad =
        [more_outside_than_rows, sum_beyond_the_clamp, squares_beyond_the_clamp, too_many_rows];
    for json in bad {
        assert!(decode(json).is_err(), "{json}");
    }
}

#[test]
fn references_that_hold_no_distribution_are_refused() {
    let good = reference();
    let refused = |change: fn(&mut NumericReference)| {
        let mut bad = good;
        change(&mut bad);
        let json = serde_json::to_string(&bad).unwrap();
        serde_json::from_str::<NumericReference>(&json).is_err()
    };
    assert!(refused(|r| r.edges[3] = r.edges[7] + 1.0));
    assert!(refused(|r| r.scale = 0.0));
    assert!(refused(|r| r.box_lo = [0.2; BINS]));
    assert!(refused(|r| r.box_hi = r.box_lo));
    assert!(refused(|r| (r.range_lo, r.range_hi) = (1.0, 0.0)));
    assert!(!refused(|_| ()));
}

#[test]
fn moments_are_those_of_the_values() {
    let reference = reference();
    let values: Vec<f32> = (0..999).map(|i| (i * 17 % 999) as f32 * 0.03 - 7.0).collect();
    let window = summary(&reference, &values.iter().map(|&x| Some(x)).collect::<Vec<_>>());
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    // One step of quantisation is 1/32 here; its noise has a variance of a twelfth of its square.
    let step = 1.0 / f64::from(reference.scale);
    assert!((window.mean(&reference).unwrap() - mean).abs() < 0.1 * step);
    assert!((window.variance(&reference).unwrap() - variance).abs() < 0.01 * variance);
    assert_eq!(NumericSummary::default().mean(&reference), None);
}

#[test]
fn a_frequent_value_has_a_bin_of_its_own() {
    let mostly_zero = (0..1_000).map(|i| if i % 100 == 0 { i as f32 } else { 0.0 });
    let constant = [7.5_f32; 200];
    for (sample, value) in [(mostly_zero.collect(), 0.0), (constant.to_vec(), 7.5)] {
        let reference = reference_of(sample);
        let own = reference.bin(value);
        assert!(reference.counts[own] >= 190, "{reference:?}");
        assert!(reference.bin(value - 1e-3) < own && reference.bin(value + 1e-3) > own);
        assert!(reference.scale > 0.0 && reference.quantise(value) == 0);
    }
}

#[test]
fn subnormal_values_beside_a_frequent_zero_keep_edges_ascending() {
    let mut sample = vec![0.0; 60];
    sample.extend([3.7e-39; 3]);
    sample.extend([1.0; 40]);
    let reference = reference_of(sample);
    assert!(reference.edges.is_sorted(), "{:?}", reference.edges);
    assert_round_trip(&reference);
}

#[test]
fn categorical_references_survive_encoding() {
    let config = DriftConfig::default();
    let made = CategoricalReference::from_counts(&[3, u64::MAX], &[70, 20, 10], 2, &config);
    assert_round_trip(&made.unwrap());
    assert_round_trip(&config);
    assert!(CategoricalReference::from_counts(&[3; 32], &[9; 33], 2, &config).is_err());
    assert!(serde_json::from_str::<CategoricalSummary>("[[],0]").is_err());
}
