//! Tensors in memory.

use std::borrow::Cow;

use tidegate_wire::tensor::{Datatype, TensorData};

/// A tensor's values with its shape; its name is its place among the inputs or outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Row-major; the batch dimension, if the specification has one, stands first.
    pub shape: Vec<usize>,
    /// As many as the shape's product.
    pub values: Values,
}

/// Values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// FP32.
    F32(Vec<f32>),
    /// FP64.
    F64(Vec<f64>),
    /// INT64.
    I64(Vec<i64>),
    /// INT32.
    I32(Vec<i32>),
    /// UINT8.
    U8(Vec<u8>),
}

/// Does the same with whatever vector a [`Values`] holds.
macro_rules! each {
    ($values:expr, $vec:ident => $body:expr) => {
        match $values {
            $crate::engine::Values::F32($vec) => $body,
            $crate::engine::Values::F64($vec) => $body,
            $crate::engine::Values::I64($vec) => $body,
            $crate::engine::Values::I32($vec) => $body,
            $crate::engine::Values::U8($vec) => $body,
        }
    };
}
pub(crate) use each;

impl Values {
    /// None yet, with room for `capacity`.
    pub fn with_capacity(datatype: Datatype, capacity: usize) -> Self {
        match datatype {
            Datatype::Fp32 => Self::F32(Vec::with_capacity(capacity)),
            Datatype::Fp64 => Self::F64(Vec::with_capacity(capacity)),
            Datatype::Int64 => Self::I64(Vec::with_capacity(capacity)),
            Datatype::Int32 => Self::I32(Vec::with_capacity(capacity)),
            Datatype::Uint8 => Self::U8(Vec::with_capacity(capacity)),
        }
    }

    /// `count` zeros.
    pub fn zeros(datatype: Datatype, count: usize) -> Self {
        match datatype {
            Datatype::Fp32 => Self::F32(vec![0.0; count]),
            Datatype::Fp64 => Self::F64(vec![0.0; count]),
            Datatype::Int64 => Self::I64(vec![0; count]),
            Datatype::Int32 => Self::I32(vec![0; count]),
            Datatype::Uint8 => Self::U8(vec![0; count]),
        }
    }

    /// Little-endian bytes as values; a rest that is no whole value is ignored.
    pub fn from_le_bytes(datatype: Datatype, bytes: &[u8]) -> Self {
        macro_rules! read {
            ($variant:ident, $number:ty) => {{
                let (whole, _) = bytes.as_chunks::<{ size_of::<$number>() }>();
                Self::$variant(whole.iter().map(|raw| <$number>::from_le_bytes(*raw)).collect())
            }};
        }
        match datatype {
            Datatype::Fp32 => read!(F32, f32),
            Datatype::Fp64 => read!(F64, f64),
            Datatype::Int64 => read!(I64, i64),
            Datatype::Int32 => read!(I32, i32),
            Datatype::Uint8 => Self::U8(bytes.to_vec()),
        }
    }

    /// The element type.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::F32(_) => Datatype::Fp32,
            Self::F64(_) => Datatype::Fp64,
            Self::I64(_) => Datatype::Int64,
            Self::I32(_) => Datatype::Int32,
            Self::U8(_) => Datatype::Uint8,
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

    /// All values as `f32`, without a copy if they are that already.
    pub fn as_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::F64(values) => values.iter().map(|value| *value as f32).collect(),
            Self::I64(values) => values.iter().map(|value| *value as f32).collect(),
            Self::I32(values) => values.iter().map(|value| *value as f32).collect(),
            Self::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        }
    }
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
