//! Models: what is signed, what runs, what ran when.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tidegate_control::books::device::ServedArtifact;
use tidegate_rollout::RolloutId;
use tidegate_trust::{TargetEntry, Targets};
use tidegate_wire::{ModelName, Version};

use super::App;
use super::error::{ApiError, Segments};
use super::rollout::{fleet, summarise};
use super::types::{
    Answers, ModelDetail, ModelList, ModelSummary, ReleaseState, Signatures, VersionSummary,
};
use crate::clock;

/// `GET /v1/models`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<ModelList>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || {
        let signed = Signed::now(&app);
        signed.models().map(|model| signed.summary(&app, model)).collect()
    });
    Ok(Json(ModelList { models: listed.await? }))
}

/// `GET /v1/models/{model}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segments(model): Segments<ModelName>,
) -> Result<Json<ModelDetail>, ApiError> {
    tokio::task::spawn_blocking(move || {
        let signed = Signed::now(&app);
        if !signed.models().any(|known| *known == model) {
            let hint = "`tidegate model list` shows them";
            return Err(ApiError::not_found(format!("there is no model {model}: {hint}")));
        }
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
            summary: signed.summary(&app, &model),
            directive,
            rollouts: mine.iter().map(summarise).collect(),
        }))
    })
    .await?
}

/// What publishers signed: published, and waiting for more signatures.
struct Signed {
    published: Option<Targets>,
    published_by: Signatures,
    drafted: Option<Targets>,
    drafted_by: Signatures,
}

impl Signed {
    fn now(app: &App) -> Self {
        let pending = app.releases.pending();
        Self {
            published: app.releases.targets(),
            published_by: app.releases.signatures(),
            drafted: app.releases.drafted(),
            drafted_by: pending.map(|pending| pending.signatures).unwrap_or_default(),
        }
    }

    /// A draft has all that is published too.
    fn models(&self) -> impl Iterator<Item = &ModelName> {
        let newest = self.drafted.as_ref().or(self.published.as_ref());
        newest.into_iter().flat_map(|targets| targets.artifacts.keys())
    }

    fn summary(&self, app: &App, model: &ModelName) -> ModelSummary {
        let answering = app.telemetry.answering(model);
        let served = app.telemetry.served(model);
        let newest = self.drafted.as_ref().or(self.published.as_ref());
        let releases = newest.and_then(|targets| targets.artifacts.get(model));
        let version = |(version, entry): (&Version, &TargetEntry)| {
            let devices = answering.get(&entry.digest).copied().unwrap_or(0);
            let answers = served.get(&entry.digest).map(answers).unwrap_or_default();
            VersionSummary { answers, ..self.version(app, model, version, entry, devices) }
        };
        let mut versions: Vec<_> = releases.into_iter().flatten().map(version).collect();
        versions.sort_by_key(|version| version.release);
        let state = app.ledger.state();
        let open = state.latest(model).filter(|entry| entry.rollout.is_open());
        let open_rollout = open.map(|entry| {
            let RolloutId(id) = entry.rollout.id;
            id
        });
        ModelSummary { model: model.clone(), versions, open_rollout }
    }

    fn version(
        &self,
        app: &App,
        model: &ModelName,
        version: &Version,
        entry: &TargetEntry,
        devices: u32,
    ) -> VersionSummary {
        let manifest = app.releases.manifest(&entry.digest).ok();
        let published = self.published.as_ref();
        let revoked = published.and_then(|targets| targets.revocation(&entry.digest));
        let released = published.is_some_and(|targets| targets.named(model, version).is_some());
        let (state, signatures) = match released {
            true => (ReleaseState::Released, &self.published_by),
            false => (ReleaseState::Pending, &self.drafted_by),
        };
        VersionSummary {
            version: version.clone(),
            digest: entry.digest,
            release: entry.release,
            bytes: manifest.as_ref().map_or(0, |manifest| manifest.length()),
            engine: manifest.map(|manifest| manifest.engine).unwrap_or_default(),
            revoked: revoked.map(|revocation| revocation.reason.clone()),
            devices,
            state,
            signatures: signatures.clone(),
            answers: Answers::default(),
        }
    }
}

fn answers(served: &ServedArtifact) -> Answers {
    Answers {
        rows: served.rows,
        errors: served.errors,
        bad_inputs: served.bad_inputs,
        humility: served.humility.clone(),
        feedback: served.feedback.clone(),
    }
}
