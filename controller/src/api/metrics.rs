//! `GET /metrics`: figures for Prometheus, in the OpenMetrics text format.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{Atomic as _, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::App;
use super::fleet::summarise;
use super::trust;
use crate::clock;

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text(&app)).into_response()
}

fn text(app: &App) -> String {
    let fleet = summarise(app);
    let mut registry = Registry::with_prefix("tidegate");
    let gauges = [
        ("devices", "Devices enrolled", u64::from(fleet.devices)),
        ("devices_online", "Devices whose session is up", u64::from(fleet.online)),
        ("models", "Models with a signed release", u64::from(fleet.models)),
        ("rollouts_open", "Rollouts running or paused", u64::from(fleet.open_rollouts)),
        ("broker_connected", "Whether the own session is up", u64::from(*app.connected.borrow())),
    ];
    for (name, help, value) in gauges {
        let gauge: Gauge = Gauge::default();
        gauge.set(value as i64);
        register(&mut registry, name, help, gauge);
    }
    let reports = fleet.reports;
    let counters = [
        ("reports_received", "Reports stored, each once", reports.received),
        ("reports_duplicated", "Reports that arrived again", reports.duplicates),
        ("reports_lost", "Reports that devices dropped unsent", reports.lost),
        ("reports_refused", "Messages refused", reports.refused),
        ("inferences", "Rows answered, as reported", reports.rows),
        ("inferences_failed", "Inferences failed, as reported", reports.errors),
    ];
    for (name, help, value) in counters {
        register(&mut registry, name, help, counted(value));
    }
    let expires = Family::<Vec<(String, String)>, Gauge>::default();
    let now = clock::now();
    for expiry in trust::expiries(app) {
        let left = i64::try_from(expiry.expires).unwrap_or(i64::MAX).saturating_sub(now as i64);
        expires.get_or_create(&vec![("what".to_owned(), expiry.what)]).set(left);
    }
    register(&mut registry, "expires_seconds", "Seconds until it expires", expires);
    let rejected = Family::<Vec<(&str, &str)>, Counter>::default();
    for (rejection, count) in app.rejections.totals() {
        let labels = vec![("where", rejection.place()), ("reason", rejection.reason())];
        rejected.get_or_create(&labels).inc_by(count);
    }
    for (turned, count) in app.guests.turned() {
        let labels = vec![("where", "door"), ("reason", turned.name())];
        rejected.get_or_create(&labels).inc_by(count);
    }
    let help = "What was turned away since the start";
    register(&mut registry, "rejected", help, rejected);
    let mut text = String::new();
    // A String takes everything.
    let _ = encode(&mut text, &registry);
    text
}

fn counted(value: u64) -> Counter {
    let counter: Counter = Counter::default();
    counter.inner().inc_by(value);
    counter
}

fn register(registry: &mut Registry, name: &str, help: &str, metric: impl Metric) {
    registry.register(name, help, metric);
}
