//! The agent's decisions: what a device does with what it hears, and how it keeps what it must not
//! lose. No clock, no socket, no task: those are the shell's.
//!
//! [`Device`] takes one [`Input`] at a time and answers with [`Effect`]s, which the shell carries
//! out in order. What later decisions depend on is on the disk when a step returns.
#![no_std]

extern crate alloc;

mod device;
mod effect;
pub mod fetch;
mod input;
mod settings;
pub mod spool;
pub mod store;

pub use device::Device;
pub use effect::{Effect, Effects, Epoch, Gate, Order, Publication};
pub use input::{Fault, Input, Outcome};
pub use settings::{Moment, Settings};
