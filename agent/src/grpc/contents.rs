//! A tensor's values in a message: in the field of their type, or as raw bytes beside them.

use prost::bytes::Bytes;
use tidegate_wire::tensor::Datatype;

use super::inference::InferTensorContents;
use crate::engine::Values;

/// Reads `count` values of `datatype` from the field for their type.
///
/// # Errors
/// What is wrong, in words that follow the tensor's name.
pub(super) fn read(
    contents: &InferTensorContents,
    datatype: Datatype,
    count: usize,
) -> Result<Values, String> {
    let values = match datatype {
        Datatype::Bool => Values::Bool(contents.bool_contents.clone()),
        Datatype::Uint8 => Values::U8(narrow(&contents.uint_contents, datatype)?),
        Datatype::Uint16 => Values::U16(narrow(&contents.uint_contents, datatype)?),
        Datatype::Uint32 => Values::U32(contents.uint_contents.clone()),
        Datatype::Uint64 => Values::U64(contents.uint64_contents.clone()),
        Datatype::Int8 => Values::I8(narrow(&contents.int_contents, datatype)?),
        Datatype::Int16 => Values::I16(narrow(&contents.int_contents, datatype)?),
        Datatype::Int32 => Values::I32(contents.int_contents.clone()),
        Datatype::Int64 => Values::I64(contents.int64_contents.clone()),
        Datatype::Fp16 => {
            return Err("FP16 has no field of its own: send it in raw_input_contents".to_string());
        }
        Datatype::Fp32 => Values::F32(contents.fp32_contents.clone()),
        Datatype::Fp64 => Values::F64(contents.fp64_contents.clone()),
        Datatype::Bytes => {
            Values::Bytes(contents.bytes_contents.iter().map(|string| string.to_vec()).collect())
        }
    };
    if values.len() != count {
        let given = values.len();
        return Err(format!("{given} values in the field for its type, its shape needs {count}"));
    }
    Ok(values)
}

fn narrow<Wide: Copy + std::fmt::Display, Narrow: TryFrom<Wide>>(
    values: &[Wide],
    datatype: Datatype,
) -> Result<Vec<Narrow>, String> {
    let each = values.iter().enumerate().map(|(index, value)| {
        let wrong = |_| format!("value {index} is {value}, which is no {datatype}");
        Narrow::try_from(*value).map_err(wrong)
    });
    each.collect()
}

/// Puts values into the field for their type; none if there is no such field.
pub(super) fn write(values: &Values) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match values {
        Values::Bool(values) => contents.bool_contents = values.clone(),
        Values::U8(values) => contents.uint_contents = widen(values),
        Values::U16(values) => contents.uint_contents = widen(values),
        Values::U32(values) => contents.uint_contents = values.clone(),
        Values::U64(values) => contents.uint64_contents = values.clone(),
        Values::I8(values) => contents.int_contents = widen(values),
        Values::I16(values) => contents.int_contents = widen(values),
        Values::I32(values) => contents.int_contents = values.clone(),
        Values::I64(values) => contents.int64_contents = values.clone(),
        Values::F16(_) => return None,
        Values::F32(values) => contents.fp32_contents = values.clone(),
        Values::F64(values) => contents.fp64_contents = values.clone(),
        Values::Bytes(strings) => {
            let each = strings.iter().map(|string| Bytes::copy_from_slice(string));
            contents.bytes_contents = each.collect();
        }
    }
    Some(contents)
}

fn widen<Narrow: Copy, Wide: From<Narrow>>(values: &[Narrow]) -> Vec<Wide> {
    values.iter().map(|value| Wide::from(*value)).collect()
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_type_with_a_field_comes_back_as_it_was() {
        let all = [
            Values::Bool(vec![true, false]),
            Values::U8(vec![0, u8::MAX]),
            Values::U16(vec![0, u16::MAX]),
            Values::U32(vec![0, u32::MAX]),
            Values::U64(vec![0, u64::MAX]),
            Values::I8(vec![i8::MIN, i8::MAX]),
            Values::I16(vec![i16::MIN, i16::MAX]),
            Values::I32(vec![i32::MIN, i32::MAX]),
            Values::I64(vec![i64::MIN, i64::MAX]),
            Values::F32(vec![-0.5, f32::INFINITY]),
            Values::F64(vec![1e300, -1.0]),
            Values::Bytes(vec![vec![0xff, 0], vec![]]),
        ];
        for values in all {
            let contents = write(&values).unwrap();
            assert_eq!(read(&contents, values.datatype(), 2), Ok(values));
        }
        assert_eq!(write(&Values::F16(vec![f16::ONE])), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let int_contents = vec![1, 128];
        let contents = InferTensorContents { int_contents, ..Default::default() };
        let error = read(&contents, Datatype::Int8, 2).unwrap_err();
        assert_eq!(error, "value 1 is 128, which is no INT8");
        let error = read(&contents, Datatype::Int32, 3).unwrap_err();
        assert!(error.contains("2 values") && error.contains("needs 3"), "{error}");
        assert!(read(&contents, Datatype::Fp32, 2).unwrap_err().contains("0 values"));
        assert!(read(&contents, Datatype::Fp16, 2).unwrap_err().contains("raw_input_contents"));
    }
}
