//! The Tidegate controller as a library: server, journal, telemetry and the types of its HTTP API.
//! The binary `tidegate` is a command line around it.

pub mod api;
