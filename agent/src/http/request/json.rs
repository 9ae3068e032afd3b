//! The JSON of a request: what the protocol has in it, and no more than is looked at.
//!
//! Most requests say an input's type and shape before its values. Then those are read as what they
//! are in one pass, which takes two thirds of the time of looking for their end first.

mod input;

use std::borrow::Cow;

use serde::Deserialize;

use crate::http::error::ApiError;
use input::Straight;
pub(super) use input::{Data, Input};

/// A request, with inputs that were read one way or the other.
#[derive(Deserialize)]
#[serde(bound(deserialize = "I: Deserialize<'de>"))]
pub(super) struct Body<'a, I = Input<'a>> {
    #[serde(borrow, default)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) parameters: Option<Parameters>,
    pub(super) inputs: Vec<I>,
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

/// Reads a request.
///
/// # Errors
/// 400 with the place in the JSON.
pub(super) fn read(json: &[u8]) -> Result<Body<'_>, ApiError> {
    if let Some(body) = straight(json) {
        return Ok(body);
    }
    thorough(json)
}

/// In one pass; none if something is wrong or in another order, of which [`thorough`] says more.
pub(super) fn straight(json: &[u8]) -> Option<Body<'_>> {
    let body: Body<'_, Straight<'_>> = serde_json::from_slice(json).ok()?;
    let Body { id, parameters, inputs, outputs } = body;
    let inputs = inputs.into_iter().map(|Straight(input)| input).collect();
    Some(Body { id, parameters, inputs, outputs })
}

/// Values are left as text, so that what is wrong with them can be said of their input.
pub(super) fn thorough(json: &[u8]) -> Result<Body<'_>, ApiError> {
    serde_json::from_slice(json)
        .map_err(|error| ApiError::bad(format!("the body is no inference request: {error}")))
}
