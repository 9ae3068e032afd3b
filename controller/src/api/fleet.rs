//! The fleet as a whole: health, counts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::App;
use super::types::{FleetSummary, Health};

/// `GET /healthz`.
pub(super) async fn health(State(app): State<Arc<App>>) -> Json<Health> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(Health { fleet: app.fleet.clone(), version, broker: *app.connected.borrow() })
}

/// `GET /v1/fleet`.
pub(super) async fn summary(State(app): State<Arc<App>>) -> Json<FleetSummary> {
    Json(summarise(&app))
}

pub(super) fn summarise(app: &App) -> FleetSummary {
    let models = app.releases.targets().map_or(0, |targets| targets.artifacts.len());
    let online = app.telemetry.online();
    let reports = app.telemetry.totals();
    let state = app.ledger.state();
    let open = state.rollouts.values().filter(|entry| entry.rollout.is_open());
    FleetSummary {
        fleet: app.fleet.clone(),
        devices: state.devices.len() as u32,
        online,
        models: models as u32,
        open_rollouts: open.count() as u32,
        reports,
        warnings: super::trust::warnings(app),
    }
}
