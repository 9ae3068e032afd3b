//! What somebody wants to decide.

use alloc::string::String;

use crate::state::Record;

/// What somebody wants to decide, and what follows once it is journaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided<T> {
    /// What is journaled, if anything.
    pub record: Option<Record>,
    /// In their words.
    pub why: String,
    /// What the caller gets once it is on the disk.
    pub value: T,
}

impl<T> Decided<T> {
    /// One decision.
    pub fn one(record: Record, why: impl Into<String>, value: T) -> Self {
        Self { record: Some(record), why: why.into(), value }
    }

    /// Nothing new to decide.
    pub fn nothing(value: T) -> Self {
        Self { record: None, why: String::new(), value }
    }
}
