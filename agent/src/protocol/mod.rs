//! What the Open Inference Protocol asks of a request and of an answer, whatever bytes they come in:
//! JSON, JSON with raw tensors behind it, or gRPC.
//!
//! The shells read names, types, shapes and values their own way; here they are checked against the
//! manifest of the model that will answer, and what is refused is refused in the same words.

mod check;
mod classes;
mod configuration;
mod fault;
mod outputs;
mod raw;
mod repository;

use std::time::{Duration, Instant};

pub(crate) use check::{Arranged, Described, arrange};
pub(crate) use classes::classes;
pub(crate) use configuration::{batch_max, dims, type_name};
pub(crate) use fault::ApiError;
pub(crate) use outputs::{Asked, all_outputs, select};
pub use outputs::{Form, Wanted};
pub(crate) use raw::{byte_len, read_raw};
pub(crate) use repository::{state_name, statistics_of};

/// The protocol's extensions that the agent has, by the names that Triton gave them. Of the model
/// repository there is only the index: what runs here is decided by signed rollouts.
pub(crate) const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository(index)",
    "statistics",
];

/// What the agent calls itself.
pub(crate) const SERVER_NAME: &str = "tidegate-agent";

/// Why a model cannot be loaded or unloaded over the API.
pub(crate) const NO_LOADING: &str = "models come to this device by signed rollouts and are not \
    loaded or unloaded over its API: publish a version with `tidegate model push` and start a \
    rollout of it";

/// When a request that was read at `begun` is given up. Microseconds as in Triton's `timeout`; none
/// and 0 are no limit, and what is too far away to be counted is none either.
pub(crate) fn deadline(begun: Instant, timeout_us: Option<u64>) -> Option<Instant> {
    let timeout = timeout_us.filter(|us| *us > 0).map(Duration::from_micros)?;
    begun.checked_add(timeout)
}
