//! The JSON of a request: what the protocol has in it, and no more than is looked at.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::http::error::ApiError;
use crate::protocol::Described;

#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) parameters: Option<Parameters>,
    #[serde(borrow)]
    pub(super) inputs: Vec<Input<'a>>,
    #[serde(borrow, default)]
    pub(super) outputs: Option<Vec<Output<'a>>>,
}

/// Of the whole request. Others than these are the application's own business.
#[derive(Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    pub(super) binary_data_output: Option<bool>,
    /// Microseconds, as in Triton.
    #[serde(default)]
    pub(super) timeout: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<InputParameters>,
    /// Read later, when the tensor's type is known.
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<u64>,
    #[serde(default)]
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
pub(super) struct OutputParameters {
    #[serde(default)]
    pub(super) binary_data: Option<bool>,
    #[serde(default)]
    pub(super) classification: Option<u64>,
}

pub(super) fn read(json: &[u8]) -> Result<Body<'_>, ApiError> {
    serde_json::from_slice(json)
        .map_err(|error| ApiError::bad(format!("the body is no inference request: {error}")))
}

impl Input<'_> {
    /// Bytes that it has behind the JSON.
    pub(super) fn binary_size(&self) -> Option<u64> {
        self.parameters.as_ref()?.binary_data_size
    }

    pub(super) fn in_shared_memory(&self) -> bool {
        let parameters = self.parameters.as_ref();
        parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some())
    }
}

impl Described for Input<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn datatype(&self) -> &str {
        &self.datatype
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }
}
