//! Tensors at rest: golden sets, and what the inference protocol carries.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::Message;

/// Element types, by the names of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// 32-bit IEEE 754.
    Fp32,
    /// 64-bit IEEE 754.
    Fp64,
    /// Signed 64-bit.
    Int64,
    /// Signed 32-bit.
    Int32,
    /// Unsigned 8-bit.
    Uint8,
}

impl Datatype {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Int64 => "INT64",
            Self::Int32 => "INT32",
            Self::Uint8 => "UINT8",
        }
    }

    /// Bytes per element.
    pub fn width(self) -> usize {
        match self {
            Self::Fp64 | Self::Int64 => 8,
            Self::Fp32 | Self::Int32 => 4,
            Self::Uint8 => 1,
        }
    }
}

impl core::fmt::Display for Datatype {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// Name, type and shape of one input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Little-endian, row-major.
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
