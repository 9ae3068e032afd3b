//! Rollouts: starting them, watching them, taking a hand in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_rollout::{
    Cohort, Comparison, DeviceView, FleetView, MemberState, Outcome, Presence, Rollout, RolloutId,
    Status, Tally, member_state, progress,
};
use tidegate_wire::directive::position;
use tidegate_wire::{DeviceId, ModelName};

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Asked, Body, Segments};
use super::types::{
    ComparisonView, RolloutAct, RolloutCommand, RolloutDetail, RolloutDevice, RolloutList,
    RolloutStart, RolloutStatus, RolloutSummary, StateCount, WaveCounts, WaveProgress, WaveStage,
};
use crate::clock;
use crate::planner::PlannerError;
use crate::state::RolloutEntry;
use crate::telemetry::Known;

/// Which rollouts are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    model: Option<ModelName>,
}

/// `GET /v1/rollouts`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<RolloutList>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || {
        let now_ms = clock::now_ms();
        let asked = |entry: &&RolloutEntry| {
            query.model.as_ref().is_none_or(|model| entry.rollout.model == *model)
        };
        let newest_first: Vec<_> =
            app.ledger.state().rollouts.values().rev().filter(asked).cloned().collect();
        let summary = |entry| summarise(entry, &fleet(&app, entry), now_ms);
        newest_first.iter().map(summary).collect()
    });
    Ok(Json(RolloutList { rollouts: listed.await? }))
}

/// `POST /v1/rollouts`.
pub(super) async fn start(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Body(wish): Body<RolloutStart>,
) -> Result<(StatusCode, Json<RolloutDetail>), ApiError> {
    let detail = tokio::task::spawn_blocking(move || {
        let id = app.planner.start(&who, wish)?;
        detail(&app, id)
    });
    Ok((StatusCode::CREATED, Json(detail.await??)))
}

/// `GET /v1/rollouts/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segments(id): Segments<u64>,
) -> Result<Json<RolloutDetail>, ApiError> {
    let detail = tokio::task::spawn_blocking(move || detail(&app, RolloutId(id)));
    Ok(Json(detail.await??))
}

/// `POST /v1/rollouts/{id}/{command}`.
pub(super) async fn command(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Segments((id, command)): Segments<(u64, RolloutCommand)>,
    Body(RolloutAct { why }): Body<RolloutAct>,
) -> Result<Json<RolloutDetail>, ApiError> {
    let detail = tokio::task::spawn_blocking(move || {
        app.planner.command(&who, RolloutId(id), command, &why)?;
        detail(&app, RolloutId(id))
    });
    Ok(Json(detail.await??))
}

fn detail(app: &App, id: RolloutId) -> Result<RolloutDetail, ApiError> {
    let entry = app.ledger.state().rollouts.get(&id).cloned();
    let entry = entry.ok_or(PlannerError::NoRollout(id))?;
    let (rollout, now_ms) = (&entry.rollout, clock::now_ms());
    let fleet = fleet(app, &entry);
    let mut last = app.planner.last(id);
    if let Some(fault) = &entry.fault {
        last.decision
            .holds
            .insert(0, format!("not planned any more until an operator acts: {fault}"));
    }
    let cohort = Cohort::new(&fleet, &rollout.policy, &rollout.salt);
    let control: BTreeSet<&DeviceId> = cohort.control(&rollout.policy).collect();
    let members = fleet.matching(&rollout.policy.selector);
    let devices = members.map(|view| {
        let control = control.contains(&view.id);
        let state = member_state(rollout, &fleet, view, now_ms);
        app.telemetry.look(&view.id, |known| device(rollout, view, known, control, state))
    });
    Ok(RolloutDetail {
        summary: summarise(&entry, &fleet, now_ms),
        artifact: rollout.to.clone(),
        generation: rollout.generation,
        progress: progress(rollout, &fleet, now_ms).into_iter().map(|w| wave(rollout, w)).collect(),
        decision: last.decision,
        comparisons: last.comparisons.iter().map(compared).collect(),
        devices: devices.collect(),
    })
}

/// The fleet with regard to a rollout.
pub(super) fn fleet(app: &App, entry: &RolloutEntry) -> FleetView {
    let fleet = app.telemetry.fleet_view(&app.ledger.state(), &entry.rollout);
    fleet.heard_since(app.link.heard_since_ms())
}

/// One rollout as it stands in lists.
pub(super) fn summarise(entry: &RolloutEntry, fleet: &FleetView, now_ms: u64) -> RolloutSummary {
    let rollout = &entry.rollout;
    let tally = Tally::of(rollout, fleet, rollout.limit(), now_ms);
    let (status, reason, detail) = match &rollout.status {
        Status::Running => (RolloutStatus::Running, None, String::new()),
        Status::Paused(act) => (RolloutStatus::Paused, None, act.why.clone()),
        Status::Completed => (RolloutStatus::Completed, None, String::new()),
        Status::Reverted { reason, detail, .. } => {
            (RolloutStatus::Reverted, Some((*reason).into()), detail.clone())
        }
        Status::Cancelled(act) => (RolloutStatus::Cancelled, None, act.why.clone()),
    };
    RolloutSummary {
        id: rollout.id.0,
        model: rollout.model.clone(),
        from: rollout.from.as_ref().map(|from| from.version.clone()),
        to: rollout.to.version.clone(),
        status,
        reason,
        detail,
        wave: rollout.wave(),
        waves: rollout.policy.waves.len(),
        members: tally.members,
        committed: tally.committed,
        failed: tally.failures(),
        started_ms: rollout.started_ms,
        ended_ms: rollout.ended_ms,
        by: entry.by.clone(),
        why: entry.why.clone(),
    }
}

fn wave(rollout: &Rollout, wave: tidegate_rollout::WaveProgress) -> WaveProgress {
    use tidegate_rollout::WaveStage as Stage;
    let (stage, soak_left_ms) = match wave.stage {
        Stage::Planned => (WaveStage::Planned, None),
        Stage::Open => (WaveStage::Open, None),
        Stage::Soaking(left_ms) => (WaveStage::Soaking, Some(left_ms)),
        Stage::Soaked => (WaveStage::Soaked, None),
        Stage::Done => (WaveStage::Done, None),
        Stage::Stopped => (WaveStage::Stopped, None),
    };
    let record = rollout.history.get(wave.wave);
    let tally = wave.tally;
    let count = |devices: &tidegate_rollout::Devices| devices.count as u32;
    let working = tally.working.iter();
    let working = working.map(|(state, on)| StateCount { state: *state, devices: count(on) });
    WaveProgress {
        wave: wave.wave,
        size: wave.size.to_string(),
        stage,
        soak_left_ms,
        opened_ms: record.map(|record| record.opened_ms),
        committed_ms: record.and_then(|record| record.committed_ms),
        counts: WaveCounts {
            members: tally.members,
            committed: tally.committed,
            failed: count(&tally.failed),
            timed_out: count(&tally.timed_out),
            set_aside: count(&tally.set_aside),
            offline: count(&tally.offline),
            not_started: count(&tally.not_started),
            working: working.collect(),
        },
    }
}

fn compared(comparison: &Comparison) -> ComparisonView {
    let outcome = match &comparison.outcome {
        Outcome::Pass => "pass",
        Outcome::Inconclusive { .. } => "inconclusive",
        Outcome::Regressed(_) => "regressed",
        Outcome::Drifted(_) => "drifted",
        Outcome::Skipped(_) => "skipped",
    };
    let (metric, outcome) = (comparison.metric.to_string(), outcome.to_owned());
    ComparisonView { metric, outcome, text: comparison.to_string() }
}

fn device(
    rollout: &Rollout,
    view: &DeviceView,
    known: &Known,
    control: bool,
    state: MemberState,
) -> RolloutDevice {
    let at = position(&rollout.salt, &view.id);
    let wave = rollout.history.iter().position(|record| at < record.limit);
    let text = match (wave, state) {
        (_, MemberState::Committed) => "committed".to_owned(),
        (_, MemberState::Failed(_)) => "failed".into(),
        (None, _) => "waiting".into(),
        (_, MemberState::TimedOut) => "timed-out".into(),
        (_, MemberState::SetAside) => "set-aside".into(),
        (_, MemberState::Working(state)) => state.to_string(),
        (_, MemberState::Offline) => "offline".into(),
        (_, MemberState::NotStarted) => "not-started".into(),
    };
    let reason = match state {
        MemberState::Failed(reason) => Some(reason),
        _ => None,
    };
    let refusal = known.steps.refusal(&rollout.to.digest).filter(|_| reason.is_some());
    let status = known.heard.as_ref().map(|heard| &heard.status);
    let entry = status.and_then(|status| status.models.iter().find(|m| m.model == rollout.model));
    let active = entry.and_then(|entry| entry.active.as_ref());
    RolloutDevice {
        device: view.id.clone(),
        wave,
        control,
        online: view.presence == Presence::Online,
        state: text,
        reason: reason.map(Into::into),
        detail: refusal.map(|step| step.detail.clone()).unwrap_or_default(),
        active: active.map(|active| active.version.clone()),
        ever_served: known.served.ever(&rollout.to.digest),
    }
}
