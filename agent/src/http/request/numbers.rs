//! A tensor's `data`: values in arrays, nested or flat, read straight into their type.

use std::fmt;

use half::f16;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidegate_wire::tensor::Datatype;

use crate::engine::{Values, each};

/// Values for which there is room before it is known how many were sent: a colour image of 224×224
/// makes it grow twice.
const ROOM: usize = 64 * 1024;

/// Reads `data` as `count` values of `datatype`; nesting says nothing, the shape does.
///
/// # Errors
/// What is wrong, in words that follow the tensor's name.
pub(super) fn read(data: &RawValue, datatype: Datatype, count: usize) -> Result<Values, String> {
    // The text is at least one digit and one separator a value: a shape cannot make us reserve
    // more than was sent.
    let room = count.min(data.get().len() / 2 + 1);
    let mut values = Values::with_capacity(datatype, room);
    each!(&mut values, into => fill(data, into, count))?;
    if values.len() != count {
        return Err(format!("{} values given, its shape needs {count}", values.len()));
    }
    Ok(values)
}

/// Reads `data` the same way while the rest of the request is being read.
pub(super) struct ReadValues {
    pub(super) datatype: Datatype,
    pub(super) count: usize,
}

impl<'de> DeserializeSeed<'de> for ReadValues {
    type Value = Values;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Values, D::Error> {
        let Self { datatype, count } = self;
        let mut values = Values::with_capacity(datatype, count.min(ROOM));
        each!(&mut values, into => Fill { into, count }.deserialize(deserializer))?;
        if values.len() != count {
            return Err(D::Error::custom("too few values"));
        }
        Ok(values)
    }
}

fn fill<T: Element>(data: &RawValue, into: &mut Vec<T>, count: usize) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_str(data.get());
    Fill { into, count }.deserialize(&mut reader).map_err(|error| {
        let text = error.to_string();
        // The place is one within `data`, which would mislead.
        text.split(" at line ").next().unwrap_or_default().to_string()
    })
}

struct Fill<'a, T> {
    into: &'a mut Vec<T>,
    count: usize,
}

impl<T: Element> Fill<'_, T> {
    #[inline]
    fn push<E: Error>(self, value: Option<T>, shown: impl fmt::Debug) -> Result<(), E> {
        if self.into.len() >= self.count {
            return Err(E::custom(format_args!(
                "more values given than its shape needs, {}",
                self.count
            )));
        }
        let Some(value) = value else {
            let (index, name) = (self.into.len(), T::NAME);
            return Err(E::custom(format_args!("value {index} is {shown:?}, which is no {name}")));
        };
        self.into.push(value);
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Fill<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Fill<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers in an array, nested or flat")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { into, count } = self;
        while seq.next_element_seed(Fill { into: &mut *into, count })?.is_some() {}
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(T::from_u64(value), value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(T::from_i64(value), value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(T::from_f64(value), value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(T::from_bool(value), value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let shown: String = value.chars().take(40).collect();
        self.push(T::from_str(value), shown)
    }
}

/// A type that what JSON has can be read as; `None` where it does not fit.
trait Element: Sized {
    const NAME: &'static str;

    fn from_u64(_: u64) -> Option<Self> {
        None
    }

    fn from_i64(_: i64) -> Option<Self> {
        None
    }

    fn from_f64(_: f64) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    fn from_str(_: &str) -> Option<Self> {
        None
    }
}

impl Element for f32 {
    const NAME: &'static str = "FP32";

    fn from_u64(value: u64) -> Option<Self> {
        Some(value as f32)
    }

    fn from_i64(value: i64) -> Option<Self> {
        Some(value as f32)
    }

    fn from_f64(value: f64) -> Option<Self> {
        let value = value as f32;
        value.is_finite().then_some(value)
    }
}

impl Element for f64 {
    const NAME: &'static str = "FP64";

    fn from_u64(value: u64) -> Option<Self> {
        Some(value as f64)
    }

    fn from_i64(value: i64) -> Option<Self> {
        Some(value as f64)
    }

    fn from_f64(value: f64) -> Option<Self> {
        Some(value)
    }
}

impl Element for f16 {
    const NAME: &'static str = "FP16";

    fn from_u64(value: u64) -> Option<Self> {
        <Self as Element>::from_f64(value as f64)
    }

    fn from_i64(value: i64) -> Option<Self> {
        <Self as Element>::from_f64(value as f64)
    }

    fn from_f64(value: f64) -> Option<Self> {
        let value = f16::from_f64(value);
        value.is_finite().then_some(value)
    }
}

impl Element for bool {
    const NAME: &'static str = "BOOL";

    // Clients that write truth values as numbers write these two.
    fn from_u64(value: u64) -> Option<Self> {
        (value <= 1).then_some(value == 1)
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Element for Vec<u8> {
    const NAME: &'static str = "string";

    fn from_str(value: &str) -> Option<Self> {
        Some(value.as_bytes().to_vec())
    }
}

macro_rules! integer {
    ($($number:ty, $name:literal;)*) => {
        $(impl Element for $number {
            const NAME: &'static str = $name;

            fn from_u64(value: u64) -> Option<Self> {
                value.try_into().ok()
            }

            fn from_i64(value: i64) -> Option<Self> {
                value.try_into().ok()
            }

            // 3.0 is what many clients write for 3. Beyond 2^53 neighbours could not be told apart.
            fn from_f64(value: f64) -> Option<Self> {
                let exact = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
                exact.then_some(value as i64)?.try_into().ok()
            }
        })*
    };
}

integer! {
    i64, "INT64";
    i32, "INT32";
    i16, "INT16";
    i8, "INT8";
    u64, "UINT64";
    u32, "UINT32";
    u16, "UINT16";
    u8, "UINT8";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, datatype: Datatype, count: usize) -> Result<Values, String> {
        read(serde_json::from_str::<&RawValue>(text).unwrap(), datatype, count)
    }

    #[test]
    fn nested_and_flat_are_the_same() {
        let flat = parse("[1, -2, 3.5, 4]", Datatype::Fp32, 4);
        assert_eq!(flat, Ok(Values::F32(vec![1.0, -2.0, 3.5, 4.0])));
        assert_eq!(parse("[[1, -2], [[3.5], 4.0]]", Datatype::Fp32, 4), flat);
        assert_eq!(parse("7", Datatype::Uint8, 1), Ok(Values::U8(vec![7])));
    }

    #[test]
    fn integers_are_exact() {
        let large = parse("[9223372036854775807, -9223372036854775808]", Datatype::Int64, 2);
        assert_eq!(large, Ok(Values::I64(vec![i64::MAX, i64::MIN])));
        assert_eq!(parse("[3.0]", Datatype::Int32, 1), Ok(Values::I32(vec![3])));
        let errors =
            [("[1.5]", Datatype::Int32), ("[256]", Datatype::Uint8), ("[-1]", Datatype::Uint8)];
        for (text, datatype) in errors {
            let error = parse(text, datatype, 1).unwrap_err();
            assert!(error.starts_with("value 0 is ") && error.contains(datatype.name()), "{error}");
        }
    }

    #[test]
    fn truth_values_strings_and_halves() {
        let values = parse("[true, 0, 1, false]", Datatype::Bool, 4);
        assert_eq!(values, Ok(Values::Bool(vec![true, false, true, false])));
        assert!(parse("[2]", Datatype::Bool, 1).unwrap_err().contains("BOOL"));
        let strings = parse(r#"["\u00e9", ""]"#, Datatype::Bytes, 2);
        assert_eq!(strings, Ok(Values::Bytes(vec![vec![0xc3, 0xa9], vec![]])));
        assert!(parse("[1]", Datatype::Bytes, 1).unwrap_err().contains("no string"));
        let halves = parse("[0.5, 3]", Datatype::Fp16, 2);
        assert_eq!(halves, Ok(Values::F16(vec![f16::from_f32(0.5), f16::from_f32(3.0)])));
        assert!(parse("[1e6]", Datatype::Fp16, 1).unwrap_err().contains("FP16"));
    }

    #[test]
    fn what_is_no_number_or_too_many_is_named() {
        assert!(parse("[1, 1e300]", Datatype::Fp32, 2).unwrap_err().contains("value 1 is 1e300"));
        assert!(parse("[1, \"2\"]", Datatype::Fp32, 2).unwrap_err().contains("value 1 is \"2\""));
        assert!(parse("[null]", Datatype::Fp32, 1).unwrap_err().contains("null"));
        assert!(parse("{\"a\":1}", Datatype::Fp32, 1).unwrap_err().contains("map"));
        assert_eq!(
            parse("[1, 2]", Datatype::Fp32, 3).unwrap_err(),
            "2 values given, its shape needs 3"
        );
        assert!(parse("[1, 2, 3]", Datatype::Fp32, 2).unwrap_err().contains("more values"));
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert!(
            serde_json::from_str::<&RawValue>(&deep).is_err()
                || parse(&deep, Datatype::Fp32, 1).is_err()
        );
    }
}
