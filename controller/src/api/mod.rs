//! The HTTP API: what operators and devices ask of the controller.
//!
//! Operators show a bearer token, devices the certificate of their connection; only `/healthz`,
//! `/metrics` and `/v1/enrol` are open, the last one because the secret is in the signed request.
//! Errors are `{"error": "…"}` with a fitting status.

mod auth;
mod device;
mod enrol;
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

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tidegate_wire::invitation::{Invitation, Pass, Secret};
use tidegate_wire::{Digest, FleetId};
use tokio::sync::watch;

use crate::authority::{Authority, AuthorityError};
use crate::blobs::Blobs;
use crate::broker::Broker;
use crate::clock;
use crate::door::Guests;
use crate::expiry::Expiries;
use crate::ingest::Ingest;
use crate::link::Link;
use crate::planner::Planner;
use crate::release::Releases;
use crate::state::Ledger;
use crate::telemetry::Telemetry;

/// The most bytes of a body that is read into memory: targets metadata has 1 MiB at most.
const BODY_MAX: usize = 2 << 20;

/// The most bytes of an enrolment, which anybody may send.
const ENROL_MAX: usize = tidegate_trust::enrol::SIZE_MAX;

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
    pub guests: Arc<Guests>,
    pub authority: Arc<Authority>,
    /// Authorities of an external broker, DER.
    pub others: Vec<Vec<u8>>,
    /// Where devices and operators find this API.
    pub url: String,
    /// How long a device's certificate lasts.
    pub certificate_seconds: u64,
    /// Held while the list of revoked certificates is written, so that an older one never replaces a
    /// newer one.
    pub revoking: Mutex<()>,
}

impl App {
    /// Lets devices in.
    fn invitation(&self, secret: Secret) -> Invitation {
        let root = Digest::of(&self.releases.root());
        let (controller, authority) = (self.url.clone(), self.authority.digest());
        Invitation { controller, authority, root, secret }
    }

    /// Lets an operator in.
    fn pass(&self, secret: Secret) -> Pass {
        Pass { controller: self.url.clone(), authority: self.authority.digest(), secret }
    }

    /// Writes the certificates that count no more where external brokers look for them.
    pub(crate) fn write_revoked(&self) -> Result<(), AuthorityError> {
        let _revoking = self.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        self.authority.revoke(&self.ledger.state().barred_at(now), now)
    }
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
        .route("/v1/enrol", post(enrol::enrol).layer(DefaultBodyLimit::max(ENROL_MAX)))
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
        .route("/v1/devices/{device}/revoke", post(device::revoke))
        .route("/v1/device-tokens", post(enrol::token))
        .route("/v1/tokens", post(fleet::token))
        .route("/v1/audit", get(fleet::audit))
        .route("/v1/fleet", get(fleet::summary))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(app)
}
