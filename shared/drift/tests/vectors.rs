//! Every quantity against numbers that numpy and scipy computed (see `vectors/README.md`).

use serde_json::Value;
use tidegate_drift::{SLOTS_MAX, box_mle, describe, ln_e, threshold, tolerance_box};

struct Case(Value);

impl Case {
    fn number(&self, key: &str) -> f64 {
        self.0[key].as_f64().expect(key)
    }

    fn list(&self, key: &str) -> Vec<f64> {
        let list = self.0[key].as_array().expect(key);
        list.iter().map(|value| value.as_f64().expect(key)).collect()
    }

    fn counts(&self, key: &str) -> Vec<u32> {
        self.list(key).into_iter().map(|count| count as u32).collect()
    }
}

fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("vectors/drift.json")).unwrap();
    let Value::Array(vectors) = file["vectors"].clone() else {
        panic!("a list of vectors");
    };
    assert_eq!(vectors.len(), 60);
    vectors.into_iter().map(Case).collect()
}

#[track_caller]
fn assert_close(index: usize, what: &str, found: f64, expected: f64, tolerance: f64) {
    let allowed = tolerance + tolerance * expected.abs();
    let error = (found - expected).abs();
    assert!(error <= allowed, "case {index}, {what}: {found} is not {expected} ({error:e})");
}

#[test]
fn box_and_evidence_match_scipy() {
    for (index, case) in cases().iter().enumerate() {
        let (reference, counts) = (case.counts("reference"), case.counts("counts"));
        let bins = reference.len();
        let (mut lo, mut hi) = ([0.0; SLOTS_MAX], [0.0; SLOTS_MAX]);
        let (lo, hi) = (&mut lo[..bins], &mut hi[..bins]);
        tolerance_box(&reference, case.number("tau"), case.number("alpha_reference"), lo, hi);
        let mut best = vec![0.0; bins];
        box_mle(&counts, lo, hi, &mut best);
        let lists = [("box_lo", &*lo), ("box_hi", &*hi), ("box_mle", &best)];
        for (key, found) in lists {
            for (&found, expected) in found.iter().zip(case.list(key)) {
                assert_close(index, key, found, expected, 1e-9);
            }
        }
        let evidence = ln_e(&counts, &reference, lo, hi);
        assert_close(index, "ln_e", evidence, case.number("ln_e"), 1e-9);
        // The box as shipped in the file must give the same.
        let evidence = ln_e(&counts, &reference, &case.list("box_lo"), &case.list("box_hi"));
        assert_close(index, "ln_e of box", evidence, case.number("ln_e"), 1e-9);
        let limit = threshold(case.number("features") as u32, case.number("alpha"));
        assert_close(index, "threshold", limit, case.number("threshold"), 1e-12);
    }
}

#[test]
fn descriptive_figures_match_scipy() {
    for (index, case) in cases().iter().enumerate() {
        let (reference, counts) = (case.counts("reference"), case.counts("counts"));
        let ks = describe::ks_bounds(&counts, &reference);
        let places = case.list("bin_representatives");
        let figures = [
            ("psi_half_smoothed", describe::psi(&counts, &reference)),
            ("js_distance_base2", describe::js_distance(&counts, &reference)),
            ("ks_lower", ks.lower),
            ("ks_upper", ks.upper),
            ("wasserstein1_binned", describe::wasserstein_1(&counts, &reference, &places)),
        ];
        for (key, found) in figures {
            assert_close(index, key, found, case.number(key), 1e-12);
        }
    }
}
