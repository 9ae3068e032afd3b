//! The Tidegate agent: the shell around the pure cores on a Linux device.
//!
//! It takes directives from the fleet's controller over MQTT, fetches the signed models that they
//! name over HTTP, lets each prove itself beside the one that answers (self-test, shadow, trial),
//! serves inference to the applications on the device, and reports what happened.
//!
//! ```text
//! broker ⇄ link ─┐                         ┌─ store (record, slots, trust, directives, spool)
//! controller ⇄ upstream, fetch ─ driver ───┤
//!                                └ serving ← http ← applications on this device
//! ```
//!
//! Decisions are made in `tidegate-lifecycle` (what runs), `tidegate-trust` (what is believed) and
//! `tidegate-drift` (what is counted). This crate turns bytes and timers into their events and
//! carries out their effects, in order, persisting before acting. Deliberately absent: choosing
//! between models, judging the fleet, listening on the network beyond the local API.
//!
//! Whatever is away or broken (controller, broker, disk space), the active model goes on answering.
//!
//! ```no_run
//! use tidegate_agent::config::Config;
//!
//! let config = Config::load("agent.toml".as_ref())?;
//! tidegate_agent::run(config)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod alone;
pub mod background;
pub mod clock;
pub mod config;
pub mod death;
pub mod disk;
pub mod driver;
pub mod engine;
pub mod enrol;
pub mod fetch;
#[cfg(feature = "grpc")]
pub mod grpc;
mod heap;
pub mod http;
pub mod link;
mod listen;
pub mod log;
mod memory;
mod protocol;
pub mod rehearsal;
pub mod renewal;
mod run;
pub mod self_test;
pub mod serving;
pub mod store;
pub mod tls;
pub mod upstream;

pub use listen::ListenError;
pub use run::{RunError, run, run_until};
