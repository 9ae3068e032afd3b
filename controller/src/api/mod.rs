//! The HTTP API: what operators and devices ask of the controller.
//!
//! Operators show a bearer token, devices their id and broker password; only `/healthz`,
//! `/metrics` and `/v1/enrol` are open, the last one because the token is in the signed request.
//! Errors are `{"error": "…"}` with a fitting status.

mod auth;
mod device;
mod error;
mod files;
mod fleet;
mod metrics;
mod model;
mod rollout;
#[cfg(test)]
mod tests;
mod trust;
pub mod types;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tidegate_wire::FleetId;
use tokio::sync::watch;

use crate::blobs::Blobs;
use crate::broker::Broker;
use crate::data_dir::Passwords;
use crate::expiry::Expiries;
use crate::ingest::Ingest;
use crate::link::Link;
use crate::planner::Planner;
use crate::release::Releases;
use crate::state::Ledger;
use crate::telemetry::Telemetry;

/// The most bytes of a body that is read into memory: targets metadata has 1 MiB at most.
const BODY_MAX: usize = 2 << 20;

/// What every request needs.
pub(crate) struct App {
    pub fleet: FleetId,
    pub ledger: Arc<Ledger>,
    pub telemetry: Arc<Telemetry>,
    pub releases: Arc<Releases>,
    pub planner: Arc<Planner>,
    pub ingest: Arc<Ingest>,
    pub blobs: Blobs,
    /// None if the fleet's broker is an external one.
    pub broker: Option<Arc<Broker>>,
    pub link: Link,
    pub connected: watch::Receiver<bool>,
    pub told: Told,
    /// What expires besides the release metadata.
    pub expiries: Expiries,
    pub passwords: Arc<Passwords>,
}

/// Which broker devices are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// This `host:port`.
    As(String),
    /// The host by which the device reached the HTTP API, with this port.
    SameHost(u16),
}

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(fleet::health))
        .route("/metrics", get(metrics::metrics))
        .route("/metadata/{name}", get(files::metadata))
        .route("/blobs/{digest}", get(files::blob))
        .route("/v1/enrol", post(device::enrol))
        .route("/v1/blobs/{digest}", get(files::stored).put(files::upload))
        .route("/v1/metadata/targets", post(trust::publish))
        .route("/v1/metadata/root", post(trust::rotate))
        .route("/v1/trust", get(trust::show))
        .route("/v1/releases/pending", get(trust::pending))
        .route("/v1/releases/pending/targets", get(trust::draft))
        .route("/v1/releases/pending/withdraw", post(trust::withdraw))
        .route("/v1/models", get(model::list))
        .route("/v1/models/{model}", get(model::show))
        .route("/v1/rollouts", get(rollout::list).post(rollout::start))
        .route("/v1/rollouts/{id}", get(rollout::show))
        .route("/v1/rollouts/{id}/{command}", post(rollout::command))
        .route("/v1/devices", get(device::list))
        .route("/v1/devices/{device}", get(device::show).delete(device::remove))
        .route("/v1/device-tokens", post(device::token))
        .route("/v1/tokens", post(fleet::token))
        .route("/v1/audit", get(fleet::audit))
        .route("/v1/fleet", get(fleet::summary))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(app)
}
