//! Models: what is signed, what runs, what ran when.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tidegate_rollout::RolloutId;
use tidegate_trust::{TargetEntry, Targets};
use tidegate_wire::{ModelName, Version};

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Segments};
use super::rollout::{fleet, summarise};
use super::types::{ModelDetail, ModelList, ModelSummary, VersionSummary};
use crate::clock;

/// `GET /v1/models`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Operator,
) -> Result<Json<ModelList>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || {
        let Some(targets) = app.releases.targets() else { return Vec::new() };
        targets.artifacts.keys().map(|model| summary(&app, &targets, model)).collect()
    });
    Ok(Json(ModelList { models: listed.await? }))
}

/// `GET /v1/models/{model}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: Operator,
    Segments(model): Segments<ModelName>,
) -> Result<Json<ModelDetail>, ApiError> {
    tokio::task::spawn_blocking(move || {
        let targets = app.releases.targets();
        let targets = targets.filter(|targets| targets.artifacts.contains_key(&model));
        let targets = targets.ok_or_else(|| {
            let hint = "`tidegate model list` shows them";
            ApiError::not_found(format!("there is no model {model}: {hint}"))
        })?;
        let (directive, mine) = {
            let state = app.ledger.state();
            let directive = state.directives.get(&model).map(|issued| issued.directive.clone());
            let all = state.rollouts.values().rev();
            let mine = all.filter(|entry| entry.rollout.model == model);
            (directive, mine.cloned().collect::<Vec<_>>())
        };
        let now_ms = clock::now_ms();
        let summarise = |entry| summarise(entry, &fleet(&app, entry), now_ms);
        Ok(Json(ModelDetail {
            summary: summary(&app, &targets, &model),
            directive,
            rollouts: mine.iter().map(summarise).collect(),
        }))
    })
    .await?
}

fn summary(app: &App, targets: &Targets, model: &ModelName) -> ModelSummary {
    let answering = app.telemetry.answering(model);
    let version = |(version, entry): (&Version, &TargetEntry)| {
        let manifest = app.releases.manifest(&entry.digest).ok();
        let revoked = targets.revocation(&entry.digest);
        VersionSummary {
            version: version.clone(),
            digest: entry.digest,
            release: entry.release,
            bytes: manifest.as_ref().map_or(0, |manifest| manifest.length()),
            engine: manifest.map(|manifest| manifest.engine).unwrap_or_default(),
            revoked: revoked.map(|revocation| revocation.reason.clone()),
            devices: answering.get(&entry.digest).copied().unwrap_or(0),
        }
    };
    let releases = targets.artifacts.get(model).into_iter().flatten();
    let mut versions: Vec<_> = releases.map(version).collect();
    versions.sort_by_key(|version| version.release);
    let state = app.ledger.state();
    let open = state.latest(model).filter(|entry| entry.rollout.is_open());
    let open_rollout = open.map(|entry| {
        let RolloutId(id) = entry.rollout.id;
        id
    });
    ModelSummary { model: model.clone(), versions, open_rollout }
}
