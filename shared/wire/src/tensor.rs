//! Tensors at rest: golden sets, and what the inference protocol carries.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::Message;

macro_rules! datatypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $width:expr;)*) => {
        /// Element types, by the names of the Open Inference Protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Datatype {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Datatype {
            /// Every one.
            pub const ALL: &[Datatype] = &[$(Datatype::$variant),*];

            /// The protocol's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Bytes per element; none if elements differ in length, as [`Datatype::Bytes`] do.
            pub fn width(self) -> Option<usize> {
                match self {
                    $(Self::$variant => $width,)*
                }
            }
        }
    };
}

datatypes! {
    /// True or false, one byte.
    Bool = "BOOL", Some(1);
    /// Unsigned 8-bit.
    Uint8 = "UINT8", Some(1);
    /// Unsigned 16-bit.
    Uint16 = "UINT16", Some(2);
    /// Unsigned 32-bit.
    Uint32 = "UINT32", Some(4);
    /// Unsigned 64-bit.
    Uint64 = "UINT64", Some(8);
    /// Signed 8-bit.
    Int8 = "INT8", Some(1);
    /// Signed 16-bit.
    Int16 = "INT16", Some(2);
    /// Signed 32-bit.
    Int32 = "INT32", Some(4);
    /// Signed 64-bit.
    Int64 = "INT64", Some(8);
    /// 16-bit IEEE 754.
    Fp16 = "FP16", Some(2);
    /// 32-bit IEEE 754.
    Fp32 = "FP32", Some(4);
    /// 64-bit IEEE 754.
    Fp64 = "FP64", Some(8);
    /// Strings of bytes; at rest and on the wire each is its length (u32) and its bytes.
    Bytes = "BYTES", None;
}

impl core::fmt::Display for Datatype {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// Name, type and shape of one input or output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The graph's name for it.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Row-major; −1 is the batch dimension, which may only stand first.
    pub shape: Vec<i64>,
    /// Class names of a classifier's output, in order; may be empty.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Smallest and largest value that an input may have; what lies outside is refused before the
    /// model sees it. None: any, NaN included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<[f64; 2]>,
}

impl TensorSpec {
    /// Elements in one row, that is without the batch dimension.
    pub fn row_len(&self) -> usize {
        self.shape.iter().filter(|dim| **dim > 0).map(|dim| *dim as usize).product()
    }
}

/// A tensor's values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorData {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Row-major.
    pub shape: Vec<u64>,
    /// Little-endian, row-major; of [`Datatype::Bytes`] each element's length (u32) before it.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Inputs and the outputs that the training framework gave for them, the batch dimension first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenSet {
    /// One per input of the model.
    pub inputs: Vec<TensorData>,
    /// One per output that is checked.
    pub outputs: Vec<TensorData>,
}

impl Message for GoldenSet {
    const KIND: &'static str = "golden-set";
    /// Sixty-four rows of a 224×224 RGB image.
    const SIZE_MAX: usize = 64 << 20;
}
