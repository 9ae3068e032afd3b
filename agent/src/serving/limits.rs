//! Whether inputs are within the limits that their specifications set.

use tidegate_wire::tensor::TensorSpec;

use super::ask::InferError;
use crate::engine::{Tensor, Values};

/// Refuses the first value outside its input's limits. NaN is outside of every limit; an input
/// without limits may have it, as imputers want it.
pub(super) fn check(specs: &[TensorSpec], inputs: &[Tensor]) -> Result<(), InferError> {
    for (spec, input) in specs.iter().zip(inputs) {
        let Some([lo, hi]) = spec.limits else { continue };
        let Some((index, value)) = first_outside(&input.values, lo, hi) else { continue };
        let detail = format!("value {index} is {value}, and the model takes {lo} to {hi} there");
        return Err(InferError::Limits { input: spec.name.clone(), detail });
    }
    Ok(())
}

fn first_outside(values: &Values, lo: f64, hi: f64) -> Option<(usize, f64)> {
    fn find<T: Copy>(values: &[T], lo: f64, hi: f64, number: fn(T) -> f64) -> Option<(usize, f64)> {
        // Written so that NaN is outside, too.
        let within = |value: f64| value >= lo && value <= hi;
        let index = values.iter().position(|value| !within(number(*value)))?;
        Some((index, number(values[index])))
    }
    match values {
        Values::U8(values) => find(values, lo, hi, f64::from),
        Values::U16(values) => find(values, lo, hi, f64::from),
        Values::U32(values) => find(values, lo, hi, f64::from),
        Values::U64(values) => find(values, lo, hi, |value| value as f64),
        Values::I8(values) => find(values, lo, hi, f64::from),
        Values::I16(values) => find(values, lo, hi, f64::from),
        Values::I32(values) => find(values, lo, hi, f64::from),
        Values::I64(values) => find(values, lo, hi, |value| value as f64),
        Values::F16(values) => find(values, lo, hi, |value| value.to_f64()),
        Values::F32(values) => find(values, lo, hi, f64::from),
        Values::F64(values) => find(values, lo, hi, |value| value),
        // Neither has an order that limits could mean.
        Values::Bool(_) | Values::Bytes(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::tensor::Datatype;

    use super::*;

    fn refused(values: Values, limits: Option<[f64; 2]>) -> Option<String> {
        let datatype = values.datatype();
        let spec =
            TensorSpec { name: "x".into(), datatype, shape: vec![-1, 1], labels: vec![], limits };
        let input = Tensor { shape: vec![values.len(), 1], values };
        check(&[spec], &[input]).err().map(|error| error.to_string())
    }

    #[test]
    fn limits_are_inclusive_and_the_first_value_outside_is_named() {
        let limits = Some([0.0, 16.0]);
        assert_eq!(refused(Values::F32(vec![0.0, 16.0]), limits), None);
        let text = refused(Values::F32(vec![0.0, 16.5, -1.0]), limits).unwrap();
        assert_eq!(text, "input \"x\": value 1 is 16.5, and the model takes 0 to 16 there");
        let text = refused(Values::I64(vec![1, 2, 3, -1]), limits).unwrap();
        assert!(text.contains("value 3 is -1"), "{text}");
        assert!(refused(Values::U64(vec![u64::MAX]), limits).is_some());
        assert!(refused(Values::F16(vec![half::f16::from_f32(17.0)]), limits).is_some());
    }

    #[test]
    fn what_is_no_number_is_outside_of_every_limit() {
        let whole = Some([f64::NEG_INFINITY, f64::INFINITY]);
        for values in [
            Values::F32(vec![f32::NAN]),
            Values::F64(vec![f64::NAN]),
            Values::F16(vec![half::f16::NAN]),
        ] {
            let text = refused(values.clone(), whole).unwrap();
            assert!(text.contains("value 0 is NaN"), "{text}");
            assert_eq!(refused(values, None), None);
        }
        assert_eq!(refused(Values::zeros(Datatype::Bytes, 1), Some([1.0, 2.0])), None);
    }
}
