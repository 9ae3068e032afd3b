//! What a caller asks of a model, and what comes of it.

use std::time::{Duration, Instant};

use crate::engine::{EngineError, Tensor};

/// A request that was found to fit the model's manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The caller's own name for the request.
    pub id: Option<String>,
    /// In the manifest's order.
    pub inputs: Vec<Tensor>,
    /// Rows; 1 if the model has no batch dimension.
    pub rows: usize,
    /// When the caller stops waiting; a request that has not begun by then is not run.
    pub deadline: Option<Instant>,
}

impl Ask {
    /// A request without a name or a deadline.
    pub fn new(inputs: Vec<Tensor>, rows: usize) -> Self {
        Self { id: None, inputs, rows, deadline: None }
    }
}

/// What a model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// In the manifest's order.
    pub outputs: Vec<Tensor>,
    /// Names of the humility rules that flagged this answer.
    pub flags: Vec<String>,
    /// The caller's own name for the request, or the agent's if feedback to it is kept.
    pub id: Option<String>,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The engine failed; it has been counted.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The agent is going down.
    #[error("the agent is shutting down; ask again later")]
    Stopping,
    /// As many requests as may wait for this model do so already.
    #[error("too many requests wait for this model; ask again in {} ms", retry_after.as_millis())]
    Busy {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// The deadline passed before the request's turn came; the model was not run.
    #[error("the request's deadline passed while it waited; the model was not run")]
    Deadline,
    /// A humility rule of the model refuses to answer this input.
    #[error("the model does not answer this input: its humility rule {rule:?} says error")]
    Humble {
        /// The rule's name.
        rule: String,
    },
    /// An input has a value outside the limits of its specification.
    #[error("input {input:?}: {detail}")]
    Limits {
        /// The input.
        input: String,
        /// Which value, and the limits.
        detail: String,
    },
}
