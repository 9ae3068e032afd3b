//! The HTTP API: what operators and devices ask of the controller.

pub mod types;
