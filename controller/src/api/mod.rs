//! The HTTP API: what operators and devices ask of the controller.
//!
//! Operators show a bearer token, devices the certificate of their connection; only `/healthz` and
//! `/v1/enrol` are open, the latter because the secret is in the signed request. What every route
//! asks for stands in one table, [`routes`].
//! Errors are `{"error": "…"}` with a fitting status.

mod access;
mod audit;
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
mod token;
mod trust;
pub mod types;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tidegate_wire::invitation::{Invitation, Pass, Secret};
use tidegate_wire::{Digest, FleetId};
use tokio::sync::watch;

use self::access::{Access, Routes};
use self::types::ApiRole;
use crate::authority::{Authority, AuthorityError};
use crate::blobs::Blobs;
use crate::broker::Broker;
use crate::clock;
use crate::door::Guests;
use crate::expiry::Expiries;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::planner::Planner;
use crate::rejections::Rejections;
use crate::release::Releases;
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
    pub rejections: Arc<Rejections>,
    pub used: auth::Used,
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

/// Every route and what it asks of the caller.
fn routes() -> Routes {
    use Access::{Anyone, Fleet, Role};
    use ApiRole::{Admin, Operator, Publisher, Viewer};
    Routes::default()
        .get("/healthz", Anyone, fleet::health)
        .get("/metrics", Role(Viewer), metrics::metrics)
        .get("/metadata/{name}", Fleet, files::metadata)
        .get("/blobs/{digest}", Fleet, files::blob)
        .post("/v1/enrol", Anyone, enrol::enrol)
        .at_most(ENROL_MAX)
        .get("/v1/blobs/{digest}", Role(Viewer), files::stored)
        .put("/v1/blobs/{digest}", Role(Publisher), files::upload)
        .post("/v1/metadata/targets", Role(Publisher), trust::publish)
        .post("/v1/metadata/root", Role(Admin), trust::rotate)
        .get("/v1/trust", Role(Viewer), trust::show)
        .get("/v1/releases/pending", Role(Viewer), trust::pending)
        .get("/v1/releases/pending/targets", Role(Viewer), trust::draft)
        .post("/v1/releases/pending/withdraw", Role(Publisher), trust::withdraw)
        .get("/v1/models", Role(Viewer), model::list)
        .get("/v1/models/{model}", Role(Viewer), model::show)
        .get("/v1/rollouts", Role(Viewer), rollout::list)
        .post("/v1/rollouts", Role(Operator), rollout::start)
        .get("/v1/rollouts/{id}", Role(Viewer), rollout::show)
        .post("/v1/rollouts/{id}/{command}", Role(Operator), rollout::command)
        .get("/v1/devices", Role(Viewer), device::list)
        .get("/v1/devices/{device}", Role(Viewer), device::show)
        .post("/v1/devices/{device}/revoke", Role(Operator), device::revoke)
        .delete("/v1/devices/{device}", Role(Operator), device::remove)
        .post("/v1/device-tokens", Role(Operator), enrol::token)
        .get("/v1/tokens", Role(Admin), token::list)
        .post("/v1/tokens", Role(Admin), token::create)
        .post("/v1/tokens/{name}/revoke", Role(Admin), token::revoke)
        .get("/v1/audit", Role(Viewer), audit::list)
        .get("/v1/audit/head", Role(Viewer), audit::head)
        .get("/v1/audit/export", Role(Viewer), audit::export)
        .get("/v1/fleet", Role(Viewer), fleet::summary)
}

/// Everything that is answered.
pub(crate) fn router(app: Arc<App>) -> Router {
    routes()
        .router(&app)
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(Arc::clone(&app), access::count))
        .with_state(app)
}
