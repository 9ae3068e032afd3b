//! The agent's decisions: what a device does with what it hears, and how it keeps what it must not
//! lose. No clock, no socket, no task: those are the shell's.
//!
//! [`Device`] takes one [`Input`] at a time and answers with [`Effect`]s, which the shell carries
//! out in order. What later decisions depend on is on the disk when a step returns.
#![no_std]

extern crate alloc;

mod context;
mod device;
mod directives;
mod effect;
pub mod fetch;
mod input;
mod model;
mod refresh;
mod refusals;
mod reports;
mod send_window;
mod settings;
pub mod spool;
pub mod store;
mod waits;

pub use device::Device;
pub use effect::{Effect, Effects, Epoch, Gate, Order, Publication};
pub use input::{Fault, Input, Outcome};
pub use reports::Figures;
pub use settings::{Moment, Settings};
