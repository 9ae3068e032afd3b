//! Tensors in memory.

use std::borrow::Cow;

use half::f16;
use tidegate_wire::tensor::{Datatype, TensorData};

/// A tensor's values with its shape; its name is its place among the inputs or outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Row-major; the batch dimension, if the specification has one, stands first.
    pub shape: Vec<usize>,
    /// As many as the shape's product.
    pub values: Values,
}

/// Does the same with whatever vector a [`Values`] holds.
macro_rules! each {
    ($values:expr, $vec:ident => $body:expr) => {
        $crate::engine::each_fixed!($values, $vec => $body, $vec => $body)
    };
}

/// Does the same with whatever vector of fixed-size elements a [`Values`] holds, something else
/// with strings of bytes.
macro_rules! each_fixed {
    ($values:expr, $vec:ident => $body:expr, $bytes:ident => $other:expr) => {
        match $values {
            $crate::engine::Values::Bool($vec) => $body,
            $crate::engine::Values::U8($vec) => $body,
            $crate::engine::Values::U16($vec) => $body,
            $crate::engine::Values::U32($vec) => $body,
            $crate::engine::Values::U64($vec) => $body,
            $crate::engine::Values::I8($vec) => $body,
            $crate::engine::Values::I16($vec) => $body,
            $crate::engine::Values::I32($vec) => $body,
            $crate::engine::Values::I64($vec) => $body,
            $crate::engine::Values::F16($vec) => $body,
            $crate::engine::Values::F32($vec) => $body,
            $crate::engine::Values::F64($vec) => $body,
            $crate::engine::Values::Bytes($bytes) => $other,
        }
    };
}
pub(crate) use {each, each_fixed};

macro_rules! values {
    ($($(#[$doc:meta])* $variant:ident($element:ty) = $datatype:ident;)*) => {
        /// Values, row-major.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Values {
            $($(#[$doc])* $variant(Vec<$element>),)*
        }

        impl Values {
            /// None yet, with room for `capacity`.
            pub fn with_capacity(datatype: Datatype, capacity: usize) -> Self {
                match datatype {
                    $(Datatype::$datatype => Self::$variant(Vec::with_capacity(capacity)),)*
                }
            }

            /// `count` zeros, or empty strings.
            pub fn zeros(datatype: Datatype, count: usize) -> Self {
                match datatype {
                    $(Datatype::$datatype => Self::$variant(vec![<$element>::default(); count]),)*
                }
            }

            /// Adds the values of `others` behind its own; false if they are of another type.
            #[must_use]
            pub fn append(&mut self, others: &Self) -> bool {
                match (self, others) {
                    $((Self::$variant(own), Self::$variant(others)) => {
                        own.extend_from_slice(others);
                        true
                    })*
                    _ => false,
                }
            }

            /// A copy of the values at `range`, which must be within.
            pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
                match self {
                    $(Self::$variant(values) => Self::$variant(values[range].to_vec()),)*
                }
            }

            /// The element type.
            pub fn datatype(&self) -> Datatype {
                match self {
                    $(Self::$variant(_) => Datatype::$datatype,)*
                }
            }
        }
    };
}

values! {
    /// BOOL.
    Bool(bool) = Bool;
    /// UINT8.
    U8(u8) = Uint8;
    /// UINT16.
    U16(u16) = Uint16;
    /// UINT32.
    U32(u32) = Uint32;
    /// UINT64.
    U64(u64) = Uint64;
    /// INT8.
    I8(i8) = Int8;
    /// INT16.
    I16(i16) = Int16;
    /// INT32.
    I32(i32) = Int32;
    /// INT64.
    I64(i64) = Int64;
    /// FP16.
    F16(f16) = Fp16;
    /// FP32.
    F32(f32) = Fp32;
    /// FP64.
    F64(f64) = Fp64;
    /// BYTES.
    Bytes(Vec<u8>) = Bytes;
}

impl Values {
    /// Values as they lie in a file or on the wire: little-endian, a byte for a truth value, strings
    /// with their length (u32) before them. A rest that is no whole value is ignored.
    pub fn from_le_bytes(datatype: Datatype, bytes: &[u8]) -> Self {
        macro_rules! read {
            ($variant:ident, $number:ty) => {{
                let (whole, _) = bytes.as_chunks::<{ size_of::<$number>() }>();
                Self::$variant(whole.iter().map(|raw| <$number>::from_le_bytes(*raw)).collect())
            }};
        }
        match datatype {
            Datatype::Bool => Self::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
            Datatype::Uint8 => Self::U8(bytes.to_vec()),
            Datatype::Uint16 => read!(U16, u16),
            Datatype::Uint32 => read!(U32, u32),
            Datatype::Uint64 => read!(U64, u64),
            Datatype::Int8 => read!(I8, i8),
            Datatype::Int16 => read!(I16, i16),
            Datatype::Int32 => read!(I32, i32),
            Datatype::Int64 => read!(I64, i64),
            Datatype::Fp16 => read!(F16, f16),
            Datatype::Fp32 => read!(F32, f32),
            Datatype::Fp64 => read!(F64, f64),
            Datatype::Bytes => Self::Bytes(strings(bytes)),
        }
    }

    /// The inverse of [`Values::from_le_bytes`].
    pub fn put_le_bytes(&self, into: &mut Vec<u8>) {
        macro_rules! put {
            ($values:expr) => {
                $values.iter().for_each(|value| into.extend_from_slice(&value.to_le_bytes()))
            };
        }
        match self {
            Self::Bool(values) => into.extend(values.iter().map(|value| u8::from(*value))),
            Self::U8(values) => into.extend_from_slice(values),
            Self::U16(values) => put!(values),
            Self::U32(values) => put!(values),
            Self::U64(values) => put!(values),
            Self::I8(values) => put!(values),
            Self::I16(values) => put!(values),
            Self::I32(values) => put!(values),
            Self::I64(values) => put!(values),
            Self::F16(values) => put!(values),
            Self::F32(values) => put!(values),
            Self::F64(values) => put!(values),
            Self::Bytes(values) => {
                for value in values {
                    into.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_le_bytes());
                    into.extend_from_slice(value);
                }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values as `f32`, without a copy if they are that already; strings have none.
    pub fn as_f32(&self) -> Cow<'_, [f32]> {
        macro_rules! cast {
            ($values:expr) => {
                $values.iter().map(|value| *value as f32).collect()
            };
        }
        match self {
            Self::Bool(values) => values.iter().map(|value| f32::from(u8::from(*value))).collect(),
            Self::U8(values) => cast!(values),
            Self::U16(values) => cast!(values),
            Self::U32(values) => cast!(values),
            Self::U64(values) => cast!(values),
            Self::I8(values) => cast!(values),
            Self::I16(values) => cast!(values),
            Self::I32(values) => cast!(values),
            Self::I64(values) => cast!(values),
            Self::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::F32(values) => Cow::Borrowed(values),
            Self::F64(values) => cast!(values),
            Self::Bytes(_) => Cow::Borrowed(&[]),
        }
    }
}

fn strings(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((string, rest)) = rest.split_at_checked(length) else { break };
        strings.push(string.to_vec());
        bytes = rest;
    }
    strings
}

impl From<&TensorData> for Tensor {
    /// The values as they are; whether they fill the shape is for the reader to check.
    fn from(data: &TensorData) -> Self {
        Self {
            shape: data.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect(),
            values: Values::from_le_bytes(data.datatype, &data.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_little_endian_and_a_torn_tail_is_no_value() {
        let bytes = [0, 0, 128, 63, 0, 0, 0, 64, 7];
        let values = Values::from_le_bytes(Datatype::Fp32, &bytes);
        assert_eq!(values, Values::F32(vec![1.0, 2.0]));
        assert_eq!(Values::from_le_bytes(Datatype::Int32, &bytes[8..]).len(), 0);
        let wide = Values::from_le_bytes(Datatype::Int64, &[255; 8]);
        assert_eq!((wide.as_f32()[0], wide.datatype()), (-1.0, Datatype::Int64));
    }
}
