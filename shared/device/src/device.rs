//! The device: all its models, and what they share.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use tidegate_disk::Disk;
use tidegate_lifecycle::Machine;
use tidegate_trust::codec::Codec;
use tidegate_trust::{CoseCbor, Trusted};
use tidegate_wire::report::{Body, Status};
use tidegate_wire::topic::Topic;
use tidegate_wire::{Digest, ModelName, envelope};

use crate::context::Context;
use crate::directives::Waiting;
use crate::effect::{Effect, Effects, Publication};
use crate::input::Input;
use crate::model::Model;
use crate::refresh::Refreshes;
use crate::refusals::Refusals;
use crate::reports::{Figures, Reports};
use crate::settings::{Moment, Settings};
use crate::spool::{Backlog, SpoolStore};
use crate::store;
use crate::waits::Dice;

/// All that a device decides. See the [crate](crate).
pub struct Device<D: Disk, S: SpoolStore, C: Codec = CoseCbor> {
    pub(crate) ctx: Context<D, S, C>,
    pub(crate) models: BTreeMap<ModelName, Model>,
    pub(crate) waiting: Waiting,
    pub(crate) refusals: Refusals,
    pub(crate) refreshes: Refreshes<C>,
    status_at: u64,
    stopping: bool,
}

impl<D: Disk, S: SpoolStore, C: Codec> Device<D, S, C> {
    /// Brings all models back from disk, and says what to do first: when that is done, what was
    /// active answers again.
    pub fn recover(
        settings: Settings,
        disk: D,
        backlog: Backlog<S>,
        trusted: Trusted<C>,
        now: Moment,
    ) -> (Self, Effects) {
        let ctx = Context {
            dice: Dice::new(settings.seed),
            settings,
            disk,
            trusted,
            reports: Reports::new(backlog, now.ms),
            now,
            effects: Effects::new(),
            status_due: true,
            metadata_is_newest: false,
            refreshing: false,
        };
        let mut device = Self {
            ctx,
            models: BTreeMap::new(),
            waiting: Waiting::default(),
            refusals: Refusals::default(),
            refreshes: Refreshes::new(now.ms),
            status_at: 0,
            stopping: false,
        };
        let names = store::models(&device.ctx.disk).unwrap_or_else(|error| {
            tracing::error!("{error}");
            Vec::new()
        });
        device.recover_models(names);
        device.recover_directives();
        device.look_around();
        let effects = mem::take(&mut device.ctx.effects);
        (device, effects)
    }

    /// Takes in what happened, and says what to do.
    pub fn step(&mut self, now: Moment, input: Input) -> Effects {
        self.ctx.now = now;
        self.take(input);
        if !self.stopping {
            self.look_around();
        }
        mem::take(&mut self.ctx.effects)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::LinkUp => {
                self.ctx.reports.link_up();
                self.ctx.status_due = true;
            }
            Input::LinkDown => self.ctx.reports.link_down(),
            Input::Message { topic, payload } => self.message(topic, payload),
            Input::NotTaken(publication) => {
                self.ctx.status_due |= publication == Publication::Status;
                self.ctx.reports.not_taken(self.ctx.now.ms, publication);
            }
            Input::Metadata(event) => self.metadata(event),
            Input::Answer { model, epoch, outcome } => {
                self.tell(&model, |model, ctx| model.answered(ctx, epoch, outcome));
            }
            Input::ActivationFailed { model, artifact, still, fault } => {
                self.tell(&model, |model, ctx| {
                    model.activation_failed(ctx, artifact, still, fault);
                });
            }
            Input::Judged { model, gate, verdict, detail } => {
                self.tell(&model, |model, ctx| model.judged(ctx, gate, verdict, detail));
            }
            Input::Window(window) => self.ctx.reports.append(self.ctx.now, Body::Window(window)),
            Input::Tick => {}
            Input::Stopping => {
                self.stopping = true;
                self.models.values_mut().for_each(|model| model.stop(&mut self.ctx));
            }
            Input::Stopped => self.last_words(),
        }
    }

    fn tell(&mut self, name: &ModelName, news: impl FnOnce(&mut Model, &mut Context<D, S, C>)) {
        if let Some(model) = self.models.get_mut(name) {
            news(model, &mut self.ctx);
        }
    }

    fn message(&mut self, topic: Topic, payload: Vec<u8>) {
        match topic {
            Topic::Timestamp => self.timestamp_arrived(&payload),
            Topic::Directive(model) => self.directive_arrived(model, payload),
            Topic::Ack(device) if device == self.ctx.settings.device => {
                self.ctx.reports.acknowledged(self.ctx.now.ms, &payload);
            }
            // Not subscribed to.
            Topic::Ack(_) | Topic::Report(_) | Topic::Status(_) => {}
        }
    }

    /// Does what the time has come for, and hands the link what is due.
    fn look_around(&mut self) {
        self.models.values_mut().for_each(|model| model.tick(&mut self.ctx));
        self.place();
        self.start_refresh();
        let now = self.ctx.now.ms;
        self.ctx.reports.send_due(now, &mut self.ctx.effects);
        let is_due = self.ctx.status_due || now >= self.heartbeat_at();
        if is_due && self.ctx.reports.publishes_from().is_some_and(|from| now >= from) {
            let status = self.status();
            self.publish_status(&status);
            self.ctx.status_due = false;
            self.status_at = now;
        }
    }

    fn heartbeat_at(&self) -> u64 {
        self.status_at.saturating_add(self.ctx.settings.heartbeat_ms)
    }

    fn last_words(&mut self) {
        let now = self.ctx.now.ms;
        self.ctx.reports.send_due(now, &mut self.ctx.effects);
        let status = Status { online: false, ..self.status() };
        self.publish_status(&status);
        self.ctx.reports.finish(now);
    }

    fn publish_status(&mut self, status: &Status) {
        let payload = envelope::seal(status);
        self.ctx.order(Effect::Publish { publication: Publication::Status, payload });
    }

    /// What the retained status says.
    pub fn status(&mut self) -> Status {
        let ctx = &self.ctx;
        let models = self.models.values_mut().map(|model| model.status(ctx)).collect();
        Status {
            online: true,
            models,
            spooled: ctx.reports.figures().spooled,
            dropped: ctx.reports.figures().dropped,
            refused: self.refusals.list(),
            ..ctx.settings.offline()
        }
    }

    /// When to send [`Input::Tick`] if nothing else happens, milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        if self.stopping {
            return None;
        }
        let reports = &self.ctx.reports;
        let status_at = if self.ctx.status_due { 0 } else { self.heartbeat_at() };
        let models = self.models.values().filter_map(Model::deadline);
        models
            .chain(self.waiting.place_at())
            .chain(self.refreshes.deadline())
            .chain(reports.deadline())
            .chain(reports.publishes_from().map(|at| at.max(status_at)))
            .min()
    }

    /// Whether closed windows should be handed over, rather than left open to grow.
    pub fn takes_windows(&self) -> bool {
        self.ctx.reports.takes_windows()
    }

    /// Figures about the reports, for those who watch the agent.
    pub fn figures(&self) -> Figures {
        self.ctx.reports.figures()
    }

    /// Every model that the device has or had, with its machine.
    pub fn models(&self) -> impl Iterator<Item = (&ModelName, &Machine)> {
        self.models.iter().map(|(name, model)| (name, &model.machine))
    }

    /// What the shell was told to let answer for a model.
    pub fn answering(&self, model: &ModelName) -> Option<Digest> {
        self.models.get(model)?.answering()
    }

    /// Whether a model waits for the disk to take its record: what its machine says is not certain
    /// then.
    pub fn is_stalled(&self, model: &ModelName) -> bool {
        self.models.get(model).is_some_and(Model::is_stalled)
    }

    /// Where everything lies that must not be lost.
    pub fn disk(&self) -> &D {
        &self.ctx.disk
    }

    /// What is trusted.
    pub fn trusted(&self) -> &Trusted<C> {
        &self.ctx.trusted
    }
}
