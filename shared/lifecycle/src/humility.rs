//! Whether a model should doubt one answer: a rule's condition over one row, without allocation.

use tidegate_drift::NumericReference;
use tidegate_wire::humility::Condition;

/// One row that a model answered.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Of the first input; empty if it holds no numbers.
    pub input: &'a [f32],
    /// Of the first output; empty if it holds no numbers.
    pub output: &'a [f32],
    /// One per value of `input`, from the drift reference; empty without one.
    pub reference: &'a [NumericReference],
}

/// Whether a rule with this condition applies to a row. What a condition cannot be judged by, a
/// place beyond the row or a reference that is not there, makes it apply to nothing.
pub fn applies(condition: &Condition, row: &Row<'_>) -> bool {
    match condition {
        Condition::Uncertain { confidence_min } => confidence(row.output) < *confidence_min,
        Condition::ImplausibleOutput { range } => {
            row.output.iter().any(|value| outside(*value, *range))
        }
        Condition::OutlyingInput { feature, range: Some(range) } => {
            any(*feature, row.input, |_, value| outside(value, *range))
        }
        Condition::OutlyingInput { feature, range: None } => {
            any(*feature, row.input, |index, value| {
                let reference = row.reference.get(index);
                // Written so that NaN is outside, too.
                reference.is_some_and(|it| !(value >= it.range_lo && value <= it.range_hi))
            })
        }
        Condition::FewObservations { feature, rows_min } => {
            any(*feature, row.input, |index, value| {
                let reference = row.reference.get(index).filter(|_| value.is_finite());
                reference.is_some_and(|it| it.counts[it.bin(value)] < *rows_min)
            })
        }
    }
}

/// The largest of class probabilities that are made to sum to 1, 0 to 1; 0 of what is none.
///
/// One number is the probability of the second of two classes, as
/// [`tidegate_drift::OutputSummary::observe`] reads it.
fn confidence(probabilities: &[f32]) -> f64 {
    if let [yes] = *probabilities {
        let yes = f64::from(yes);
        return if (0.0..=1.0).contains(&yes) { yes.max(1.0 - yes) } else { 0.0 };
    }
    let (mut sum, mut largest) = (0.0_f64, 0.0_f64);
    for p in probabilities {
        let p = f64::from(*p);
        // NaN fails this comparison too.
        if !(p >= 0.0 && p.is_finite()) {
            return 0.0;
        }
        sum += p;
        largest = largest.max(p);
    }
    if sum > 0.0 { largest / sum } else { 0.0 }
}

fn outside(value: f32, [low, high]: [f64; 2]) -> bool {
    let value = f64::from(value);
    // Written so that NaN is outside, too.
    !(value >= low && value <= high)
}

fn any(feature: Option<u32>, values: &[f32], is_odd: impl Fn(usize, f32) -> bool) -> bool {
    match feature {
        Some(feature) => {
            let index = feature as usize;
            values.get(index).is_some_and(|value| is_odd(index, *value))
        }
        None => values.iter().enumerate().any(|(index, value)| is_odd(index, *value)),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_drift::DriftConfig;

    use super::*;

    fn row<'a>(input: &'a [f32], output: &'a [f32]) -> Row<'a> {
        Row { input, output, reference: &[] }
    }

    fn uncertain(output: &[f32]) -> bool {
        applies(&Condition::Uncertain { confidence_min: 0.6 }, &row(&[], output))
    }

    #[test]
    fn unsure_answers() {
        assert!(uncertain(&[0.5, 0.3, 0.2]) && !uncertain(&[0.7, 0.2, 0.1]));
        assert!(!uncertain(&[2.0, 1.0]), "two thirds after normalising");
        assert!(uncertain(&[0.5]) && !uncertain(&[0.1]) && !uncertain(&[0.9]));
        assert!(uncertain(&[f32::NAN, 0.9]) && uncertain(&[0.0, 0.0]) && uncertain(&[-1.0, 2.0]));
    }

    #[test]
    fn implausible_outputs() {
        let condition = Condition::ImplausibleOutput { range: [0.0, 100.0] };
        assert!(!applies(&condition, &row(&[], &[0.0, 100.0])));
        assert!(applies(&condition, &row(&[], &[50.0, 100.5])));
        assert!(applies(&condition, &row(&[], &[f32::NAN])));
    }

    #[test]
    fn outlying_inputs_by_their_own_range() {
        let all = Condition::OutlyingInput { feature: None, range: Some([0.0, 16.0]) };
        let second = Condition::OutlyingInput { feature: Some(1), range: Some([0.0, 16.0]) };
        for (input, in_all, in_second) in [
            ([1.0, 2.0], false, false),
            ([17.0, 2.0], true, false),
            ([1.0, -1.0], true, true),
            ([1.0, f32::NAN], true, true),
        ] {
            let row = row(&input, &[]);
            assert_eq!((applies(&all, &row), applies(&second, &row)), (in_all, in_second));
        }
        let beyond = Condition::OutlyingInput { feature: Some(2), range: Some([0.0, 0.0]) };
        assert!(!applies(&beyond, &row(&[1.0, 2.0], &[])));
    }

    #[test]
    fn the_reference_knows_ranges_and_rare_values() {
        // 990 zeros, seven ones and three of 40.
        let mut sample = [0.0_f32; 1_000];
        sample[990..997].fill(1.0);
        sample[997..].fill(40.0);
        let range = Some((0.0, 50.0));
        let config = DriftConfig::default();
        let reference = [NumericReference::from_sample(&mut sample, range, 1, &config).unwrap()];
        let row = |input| Row { input, output: &[], reference: &reference };
        let outlying = Condition::OutlyingInput { feature: None, range: None };
        assert!(!applies(&outlying, &row(&[50.0])) && applies(&outlying, &row(&[50.5])));
        assert!(applies(&outlying, &row(&[f32::NAN])));
        let few = Condition::FewObservations { feature: Some(0), rows_min: 50 };
        assert!(!applies(&few, &row(&[0.0])), "nearly all were 0");
        assert!(applies(&few, &row(&[1.0])) && applies(&few, &row(&[40.0])));
        let fewer = Condition::FewObservations { feature: Some(0), rows_min: 3 };
        assert!(!applies(&fewer, &row(&[40.0])));
        let unknown = Row { reference: &[], ..row(&[99.0]) };
        assert!(!applies(&outlying, &unknown) && !applies(&few, &unknown));
    }
}
