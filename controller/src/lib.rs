//! The Tidegate controller as a library: server, journal, telemetry and the types of its HTTP API.
//! The binary `tidegate` is a command line around it.

pub mod api;
pub mod authority;
pub mod blobs;
pub mod broker;
pub mod bundle;
pub mod cli;
pub mod client;
mod clock;
pub mod config;
pub mod data_dir;
pub mod demo;
#[cfg(test)]
#[path = "../../agent/tests/disk/mod.rs"]
mod disk;
pub mod door;
pub mod expiry;
pub mod export;
pub mod external;
#[cfg(test)]
mod full_disk;
pub mod ingest;
pub mod keys;
pub mod ledger;
pub mod link;
pub mod planner;
pub mod rejections;
pub mod release;
pub mod server;
pub mod telemetry;
#[cfg(test)]
mod testing;

pub use config::{BrokerConfig, ServeConfig};
pub use data_dir::{Founded, initialise};
pub use server::{ServeError, Server};
pub use tidegate_control::{journal, state};
