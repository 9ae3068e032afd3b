//! The agent.

pub mod config;
pub mod store;
pub mod engine;
pub mod self_test;
pub mod serving;
pub mod http;
