//! The controller's decisions: what was decided, what devices reported, and what follows from both.
//! No clock, no socket, no task: those are the shell's.
//!
//! - [`state`]: what was decided, a fold over the journal's entries.
//! - [`journal`]: those entries on a disk, chained, whole after any power cut.
//! - [`books`]: what devices reported, each report counted once.
//! - [`ingest`]: what is taken in of what devices say, and how it is acknowledged.
//! - [`planner`]: what follows from both for rollouts: what is journaled, signed and sent.
//! - [`release`] and [`expiry`]: when release metadata is signed anew, and what people are told.
//! - [`hearing`]: since when devices are heard, before which no timeout and no soak begins.
//! - [`announce`]: what is retained by the broker, and whether some of it is still owed.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod announce;
pub mod books;
pub mod certificate;
mod decided;
mod entry;
pub mod expiry;
pub mod hearing;
pub mod ingest;
pub mod journal;
pub mod planner;
mod rejection;
pub mod release;
pub mod state;

pub use decided::Decided;
pub use entry::Entry;
pub use rejection::Rejection;
