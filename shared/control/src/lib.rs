//! The controller's decisions: what was decided, what devices reported, and what follows from both.
//! No clock, no socket, no task: those are the shell's.
//!
//! - [`state`]: what was decided, a fold over the journal's entries.
//! - [`journal`]: those entries on a disk, chained, whole after any power cut.
//! - [`books`]: what devices reported, each report counted once.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod books;
pub mod certificate;
mod entry;
pub mod journal;
pub mod state;

pub use entry::Entry;
