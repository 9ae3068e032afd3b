//! What a device decides, carried out.

use std::rc::Rc;

use tidegate_device::{Effect, Gate, Input, Publication};
use tidegate_wire::{Digest, ModelName};

use super::{Event, World};
use crate::broker::{Keep, Message, Place};
use crate::engine::{Serving, Shadow, Sourness};
use crate::invariants::Seen;
use crate::model::Behaviour;
use crate::world::node::Link;

/// Milliseconds after which a model that crashes has the agent dead: well within its trial.
const CRASH_AFTER_MS: u64 = 60_000;

impl World {
    /// Tells a device what happened, and does all that follows.
    pub(super) fn feed(&mut self, node: usize, input: Input) {
        self.nodes[node].inbox.push_back(input);
        while let Some(input) = self.nodes[node].inbox.pop_front() {
            let now = self.nodes[node].moment(self.now_ms);
            let Some(brain) = self.nodes[node].brain.as_mut() else { return };
            let effects = brain.step(now, input);
            if !self.carry_out(node, effects) {
                return;
            }
        }
        self.look(Seen::Settled { node });
        self.plan_tick(node);
    }

    /// Carries out effects, in order. False if the machine died of it.
    pub(super) fn carry_out(&mut self, node: usize, effects: Vec<Effect>) -> bool {
        if self.nodes[node].disk.is_off() {
            self.power_went(node);
            return false;
        }
        self.look(Seen::Stepped { node });
        for effect in effects {
            self.carry_out_one(node, effect);
            if self.nodes[node].disk.is_off() {
                self.power_went(node);
                return false;
            }
        }
        true
    }

    fn carry_out_one(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Fetch { epoch, order, .. } => self.begin_fetch(node, epoch, &order),
            Effect::StopFetch { .. } => self.nodes[node].fetch = None,
            Effect::Erase { model, slot } => self.erase(node, &model, slot),
            Effect::Verify { model, epoch, slot, artifact } => {
                let life = self.nodes[node].life;
                let event = Event::Verified { node, life, model, epoch, slot, artifact };
                self.after(1_000, event);
            }
            Effect::SelfTest { model, epoch, slot, artifact } => {
                let life = self.nodes[node].life;
                let event = Event::Tested { node, life, model, epoch, slot, artifact };
                self.after(5_000, event);
            }
            Effect::StartShadow { .. } => {
                let candidate = self.nodes[node].candidate.clone();
                self.answer_inputs(node);
                let now_ms = self.now_ms;
                self.nodes[node].shadow = candidate.map(|it| Shadow::new(it, now_ms));
            }
            Effect::DropCandidate { .. } => {
                self.nodes[node].shadow = None;
                self.nodes[node].candidate = None;
            }
            Effect::Activate { model, slot, artifact } => {
                self.activate(node, &model, slot, artifact);
            }
            Effect::Deactivate { .. } => self.deactivate(node),
            Effect::StartTrial { .. } => self.start_trial(node),
            Effect::Judge { model, gate } => self.judge(node, model, gate),
            Effect::ForgetPrevious { .. } => self.nodes[node].previous = None,
            Effect::AskMetadata { role, version, length_max } => {
                self.ask_metadata(node, role, version, length_max);
            }
            Effect::Publish { publication, payload } => self.publish(node, publication, payload),
            Effect::Follow { .. } | Effect::TellAbsence { .. } | Effect::RaiseTimeFloor(_) => {}
        }
    }

    fn publish(&mut self, node: usize, publication: Publication, payload: Vec<u8>) {
        let id = self.nodes[node].id;
        let (place, keep) = match publication {
            Publication::Report(_) => (Place::Report(id), Keep::Pass),
            Publication::Status => (Place::Status(id), Keep::Retain),
        };
        match self.nodes[node].link {
            Link::Down => self.nodes[node].inbox.push_back(Input::NotTaken(publication)),
            // It is written into a connection that is not there any more.
            Link::Dead(_) => {}
            Link::Up(connection) => {
                if publication == Publication::Status {
                    self.look(Seen::Told { node });
                }
                let message = Message { place, payload: payload.into() };
                self.send_up(node, connection, message, keep);
            }
        }
    }

    /// Answers all inputs that came since somebody looked.
    pub(super) fn answer_inputs(&mut self, node: usize) {
        let (now_ms, rate) = (self.now_ms, u64::from(self.scenario.settings.rows_per_hour));
        let node = &mut self.nodes[node];
        let Some(serving) = &mut node.serving else { return };
        let since = now_ms.saturating_sub(node.answered_ms);
        let rows = since * rate / HOUR_MS;
        if rows == 0 {
            return;
        }
        node.answered_ms += rows * HOUR_MS / rate;
        let unix = if node.troubles.no_clock {
            now_ms.saturating_sub(node.booted_ms) / 1_000
        } else {
            (super::EPOCH + now_ms / 1_000).saturating_add_signed(node.troubles.clock_s)
        };
        let sour = serving.loaded.sours_after_hours().is_some_and(|hours| {
            now_ms.saturating_sub(serving.since_ms) >= u64::from(hours) * HOUR_MS
        });
        let sourness = if sour { Sourness::Sour } else { Sourness::Fresh };
        serving.answer(rows, unix, sourness, &mut node.inputs, node.shadow.as_mut());
    }

    fn judge(&mut self, node: usize, model: ModelName, gate: Gate) {
        self.answer_inputs(node);
        let it = &mut self.nodes[node];
        let now_ms = self.now_ms;
        let judged = match gate {
            Gate::Shadow => it.shadow.as_ref().map(|shadow| shadow.judge(now_ms)),
            Gate::Trial => it.serving.as_ref().and_then(|serving| serving.judge(now_ms)),
        };
        if let Some((verdict, detail)) = judged {
            it.inbox.push_back(Input::Judged { model, gate, verdict, detail });
        }
    }

    fn start_trial(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let (now_ms, before) = (self.now_ms, it.before);
        if let Some(serving) = &mut it.serving {
            serving.start_trial(now_ms, before);
        }
    }

    fn activate(
        &mut self,
        node: usize,
        model: &ModelName,
        slot: tidegate_lifecycle::SlotId,
        artifact: Digest,
    ) {
        let it = &mut self.nodes[node];
        let still = it.serving.as_ref().map(|serving| serving.loaded.artifact.digest);
        if still == Some(artifact) {
            return;
        }
        let at_hand = [it.candidate.clone(), it.previous.clone()].into_iter().flatten();
        let loaded = at_hand.into_iter().find(|loaded| loaded.artifact.digest == artifact);
        let loaded = match loaded {
            Some(loaded) => Ok(loaded),
            None => self.load(node, model, slot, artifact),
        };
        match loaded {
            Ok(loaded) => {
                let (before, old) = self.close_serving(node);
                let unix = self.nodes[node].unix(self.now_ms);
                let crashes = loaded.behaviour == Behaviour::Crashes;
                let it = &mut self.nodes[node];
                it.candidate = None;
                it.shadow = None;
                it.previous = old;
                it.before = before;
                it.serving = Some(Serving::new(loaded, self.now_ms, unix));
                it.answered_ms = self.now_ms;
                let life = it.life;
                if crashes {
                    self.after(CRASH_AFTER_MS, Event::Dies { node, life });
                }
                self.plan_window(node);
                self.look(Seen::Activated { node, artifact });
            }
            Err(fault) => {
                self.timeline.note(crate::timeline::Detail::Everything, self.now_ms, || {
                    format!("d{node}: cannot load: {}", fault.detail)
                });
                self.nodes[node].excused += 1;
                let model = model.clone();
                let input = Input::ActivationFailed { model, artifact, still, fault };
                self.nodes[node].inbox.push_back(input);
            }
        }
    }

    fn deactivate(&mut self, node: usize) {
        let (_, old) = self.close_serving(node);
        self.nodes[node].previous = old;
    }

    /// Ends what answers: its last window is handed over. Returns its figures and the model.
    pub(super) fn close_serving(
        &mut self,
        node: usize,
    ) -> (Option<crate::engine::Figures>, Option<Rc<crate::engine::Loaded>>) {
        self.answer_inputs(node);
        let it = &mut self.nodes[node];
        it.serial += 1;
        let Some(mut serving) = it.serving.take() else { return (None, None) };
        let figures = serving.recent();
        let unix = it.unix(self.now_ms);
        if let Some(window) = serving.close(it.boot, it.windows, unix) {
            it.windows += 1;
            self.hand_over(node, window);
        }
        (figures, Some(serving.loaded))
    }

    fn hand_over(&mut self, node: usize, window: tidegate_wire::report::Window) {
        let it = &mut self.nodes[node];
        if it.brain.as_ref().is_some_and(|brain| brain.takes_windows()) {
            it.inbox.push_back(Input::Window(window));
        }
    }

    /// Plans when the open window will be full.
    pub(super) fn plan_window(&mut self, node: usize) {
        let rate = u64::from(self.scenario.settings.rows_per_hour);
        let it = &self.nodes[node];
        let Some(serving) = &it.serving else { return };
        // One more millisecond: a row counts once its time is over.
        let wait_ms = (serving.rows_to_go().max(1) * HOUR_MS).div_ceil(rate) + 1;
        let event = Event::WindowFull { node, life: it.life, serial: it.serial };
        let at_ms = (it.answered_ms + wait_ms).max(self.now_ms + 1);
        self.queue.push(at_ms, event);
    }

    /// The open window is full, or should be.
    pub(super) fn window_full(&mut self, node: usize) {
        self.answer_inputs(node);
        let it = &mut self.nodes[node];
        let unix = it.unix(self.now_ms);
        let (boot, number) = (it.boot, it.windows);
        let takes = it.brain.as_ref().is_some_and(|brain| brain.takes_windows());
        let Some(serving) = &mut it.serving else { return };
        let closed = match serving.rows_to_go() {
            0 if takes => serving.close(boot, number, unix),
            _ => None,
        };
        if let Some(window) = closed {
            it.windows += 1;
            self.plan_window(node);
            self.feed(node, Input::Window(window));
        } else {
            self.plan_window(node);
        }
    }

    /// Plans the next tick, if it comes before the one that is planned.
    pub(super) fn plan_tick(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let Some(deadline) = it.brain.as_ref().and_then(|brain| brain.deadline()) else { return };
        let at_ms = it.booted_ms.saturating_add(deadline).max(self.now_ms + 1);
        if it.tick_at.is_none_or(|planned| at_ms < planned) {
            it.tick_at = Some(at_ms);
            let life = it.life;
            self.queue.push(at_ms, Event::Tick { node, life, at_ms });
        }
    }

    /// A tick that was planned has come.
    pub(super) fn tick(&mut self, node: usize, at_ms: u64) {
        if self.nodes[node].tick_at != Some(at_ms) {
            return;
        }
        self.nodes[node].tick_at = None;
        let due = self.nodes[node].brain.as_ref().and_then(|brain| brain.deadline());
        match due {
            Some(deadline) if self.nodes[node].booted_ms + deadline <= self.now_ms => {
                self.feed(node, Input::Tick);
            }
            _ => self.plan_tick(node),
        }
    }
}

/// Milliseconds of an hour.
pub(super) const HOUR_MS: u64 = 3_600_000;
