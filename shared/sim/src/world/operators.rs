//! What operators and publishers do, and how they see every rollout to its end.

use tidegate_control::planner::{
    self, Publishers, Released, RolloutCommand, RolloutStart, Setting,
};
use tidegate_wire::envelope;

use super::lives::NEVER;
use super::release::fleet;
use super::steps::HOUR_MS;
use super::{EPOCH, Event, World};
use crate::model::{model_name, version_name};
use crate::scenario::ActKind;
use crate::timeline::Detail;

/// Hours after the last fault after which an operator ends a rollout that waits for a person: more
/// than the longest soak and the longest wait for a device of the drawn policies, in three waves.
pub const CLOSING_HOURS: u64 = 30;
/// Seconds after which an act is tried again that found no controller.
const AGAIN_S: u64 = 900;

impl World {
    /// Plans how the run is brought to its end.
    pub(super) fn plan_closing(&mut self) {
        let quiet_ms = self.scenario.hours * HOUR_MS;
        self.queue.push(quiet_ms + 60_000, Event::Closes);
        self.queue.push(quiet_ms + CLOSING_HOURS * HOUR_MS, Event::Closes);
    }

    /// Somebody acts.
    pub(super) fn acts(&mut self, index: usize) {
        let act = self.scenario.acts[index].clone();
        if self.controller.running.is_none() {
            // Their tool says that the controller does not answer.
            return self.after(AGAIN_S * 1_000, Event::Acts { act: index });
        }
        let text = act.kind.text();
        self.timeline.note(Detail::Usual, self.now_ms, || format!("operator: {text}"));
        let unix = EPOCH + self.now_ms / 1_000;
        match &act.kind {
            ActKind::Release { .. } | ActKind::Revoke { .. } | ActKind::RaiseFloor { .. } => {
                self.publishers_act(&act.kind, unix);
            }
            ActKind::Start { version, policy } => self.start_rollout(*version, policy),
            ActKind::Pause => drop(self.command(RolloutCommand::Pause, "wait")),
            ActKind::Resume => drop(self.command(RolloutCommand::Resume, "go on")),
            ActKind::Promote => drop(self.command(RolloutCommand::Promote, "it is fine")),
            ActKind::Revert => drop(self.command(RolloutCommand::Revert, "it is not fine")),
            ActKind::Cancel => drop(self.command(RolloutCommand::Cancel, "never mind")),
            ActKind::RotateDirector => {
                let keys = self.release_room.keys().with_new_director();
                self.release_room.renew_root(keys, unix, &mut self.mirror.files);
                self.stamp();
            }
            ActKind::RenewRoot => {
                let keys = self.release_room.keys();
                self.release_room.renew_root(keys, unix, &mut self.mirror.files);
                self.stamp();
            }
        }
    }

    /// Publishers release or forbid something.
    fn publishers_act(&mut self, act: &ActKind, unix: u64) {
        let rows = self.scenario.settings.window_rows;
        let places = (&mut self.mirror.files, &mut self.truth);
        match self.release_room.act(act, rows, unix, places) {
            Err(detail) => {
                self.timeline.note(Detail::Usual, self.now_ms, || format!("refused: {detail}"));
            }
            Ok(made) => {
                if let Some(made) = made
                    && let Some((_, bytes)) = made.blobs.last()
                    && let Ok(reference) = envelope::open(bytes)
                {
                    self.references.insert(made.artifact.digest, reference);
                }
                self.stamp();
            }
        }
    }

    fn start_rollout(&mut self, version: u32, policy: &str) {
        let now_ms = EPOCH * 1_000 + self.now_ms;
        let salt = self.controller.salt();
        let Some(state) = self.controller.state() else { return };
        let wish = RolloutStart {
            model: model_name(),
            version: version_name(version),
            policy_toml: Some(policy.to_owned()),
            why: "the scenario says so".into(),
        };
        let released = Released {
            targets: Some(self.release_room.targets()),
            waits_for: None,
            publishers: Publishers::Signed,
        };
        let setting = Setting { fleet: fleet(), salt };
        match planner::start(state, wish, &released, setting, now_ms) {
            Ok(decided) => drop(self.decide("operator", decided)),
            Err(error) => {
                self.timeline.note(Detail::Usual, self.now_ms, || format!("refused: {error}"));
            }
        }
    }

    /// Operators see to it that nothing stays open: first what is paused goes on, and in the end
    /// what waits for a person is taken back or left as it is.
    pub(super) fn closes(&mut self) {
        if self.now_ms < (self.scenario.hours + 1) * HOUR_MS {
            // Power cuts that were armed and never came do not come any more.
            for node in &mut self.nodes {
                node.wreck = None;
                node.disk.cut_at(NEVER);
            }
            self.command(RolloutCommand::Resume, "the holidays are over");
            return;
        }
        let open = self.controller.state().and_then(|state| state.latest(&model_name()));
        if !open.is_some_and(|entry| entry.rollout.is_open()) {
            return;
        }
        let command = match self.scenario.seed.is_multiple_of(2) {
            true => RolloutCommand::Revert,
            false => RolloutCommand::Cancel,
        };
        if !self.command(command, "it has taken too long") {
            self.command(RolloutCommand::Cancel, "it has taken too long");
        }
    }
}
