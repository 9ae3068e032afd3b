//! A whole fleet in one process under virtual time, with faults.
//!
//! The cores that agent and controller are made of (`tidegate-device`, `tidegate-control`, and what
//! they stand on) run here unchanged; around them are a simulated network, broker, mirrors, disks
//! and clocks, each of which fails as a [`scenario::Scenario`] says. Checkers with books of their
//! own ([`invariants`]) look at every event.
//!
//! A scenario is data. The same scenario runs the same way every time, so what a seed finds can be
//! looked at, shrunk, and kept as a regression.

pub mod broker;
pub mod codec;
pub mod engine;
pub mod invariants;
pub mod keys;
pub mod many;
pub mod mirror;
pub mod model;
pub mod queue;
pub mod rng;
pub mod scenario;
pub mod shrink;
pub mod timeline;
pub mod troubles;
pub mod truth;
pub mod verdict;
pub mod world;
