//! One decision with its circumstances.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use tidegate_wire::Digest;

use crate::state::Record;

/// One decision: what, by whom, why and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who: an operator's token by name, a device's id, or `planner`.
    pub who: String,
    /// In their words; may be empty.
    pub why: String,
    /// SHA-256 of the previous entry's payload; of the first one, zeros.
    pub previous: Digest,
    /// What was decided.
    pub what: Record,
}
