//! Carries out what a model's machine decides, in order, the record before everything else.

use alloc::collections::VecDeque;
use alloc::format;

use tidegate_disk::Disk;
use tidegate_lifecycle::{Announcement, Effect as Decided, Event, Slot, SlotId, Stage};
use tidegate_trust::codec::Codec;
use tidegate_wire::report::Body;
use tidegate_wire::{Digest, State};

use super::{Model, News, Stall};
use crate::context::Context;
use crate::effect::Effect;
use crate::spool::SpoolStore;
use crate::store;

/// First and longest wait before a record that could not be written is tried again, milliseconds.
const STALL_MS: (u64, u64) = (250, 30_000);

impl Model {
    /// Takes an event and carries out what follows from it.
    pub(crate) fn take(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        event: Event,
    ) {
        if let Event::Directed { generation: newest, .. } = event {
            // It says all that earlier ones did: however long the disk is away, few events wait.
            self.waiting.retain(|news| {
                !matches!(news, News::Event(Event::Directed { generation, .. })
                    if *generation <= newest)
            });
        }
        self.waiting.push_back(News::Event(event));
        self.work_off(ctx);
    }

    /// Carries out effects that are there already, and then whatever they lead to.
    pub(crate) fn begin_with(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        effects: VecDeque<Decided>,
    ) {
        self.carry_out(ctx, effects);
        self.answer_meanwhile(ctx);
        self.work_off(ctx);
    }

    /// After a start the record waits for the disk. What has proved itself on this device answers
    /// all the same: nothing that is to be written is about it. A candidate on trial might be what
    /// made the agent die, and that it is tried once more must be known first.
    fn answer_meanwhile(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        let record = self.machine.record();
        let previous = match record.candidate.map(|candidate| candidate.stage) {
            Some(Stage::Trial { previous }) => previous,
            _ => None,
        };
        let proven = [record.active, previous].into_iter().flatten().find_map(|slot| {
            let Slot::Committed(artifact) = record.slot(slot) else { return None };
            Some((slot, artifact))
        });
        if let (Some(_), Some((slot, artifact))) = (&self.stall, proven) {
            self.activate(ctx, slot, artifact);
        }
    }

    pub(super) fn work_off(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        while self.stall.is_none() {
            let Some(news) = self.waiting.pop_front() else { return };
            let Some(event) = self.event_of(news) else { continue };
            self.explain(ctx, &event);
            let effects = self.machine.step(ctx.now.ms, event);
            ctx.status_due |= !effects.is_empty();
            self.carry_out(ctx, effects.into_iter().collect());
        }
    }

    /// Tries again what the disk did not take.
    pub(super) fn retry_stalled(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
    ) {
        let now = ctx.now.ms;
        if self.stall.as_ref().is_none_or(|stall| now < stall.retry_at) {
            return;
        }
        let Some(stall) = self.stall.take() else { return };
        let wait_ms = (stall.wait_ms * 2).min(STALL_MS.1);
        self.carry_out(ctx, stall.effects);
        match &mut self.stall {
            Some(again) => {
                again.wait_ms = wait_ms;
                again.retry_at = now.saturating_add(wait_ms);
            }
            None => {
                tracing::info!("the disk takes the record of {} again", self.name);
                ctx.status_due = true;
                self.work_off(ctx);
            }
        }
    }

    /// In order; when the record cannot be written, nothing that comes after it is done.
    fn carry_out(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        mut effects: VecDeque<Decided>,
    ) {
        while let Some(effect) = effects.front().copied() {
            if effect == Decided::Persist
                && let Err(error) = self.record.write(&ctx.disk, self.machine.record())
            {
                tracing::error!("{error}; {} stays as it is until the disk works", self.name);
                let (reason, wait_ms) = (store::reason(&error), STALL_MS.0);
                let retry_at = ctx.now.ms.saturating_add(wait_ms);
                self.stall = Some(Stall { effects, reason, retry_at, wait_ms });
                ctx.status_due = true;
                return;
            }
            effects.pop_front();
            self.carry_out_one(ctx, effect);
        }
        self.detail.clear();
        self.tell_absence(ctx);
        if self.holds_previous && self.machine.state() != State::Trial {
            self.holds_previous = false;
            ctx.order(Effect::ForgetPrevious { model: self.name.clone() });
        }
    }

    fn carry_out_one(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        effect: Decided,
    ) {
        let model = self.name.clone();
        match effect {
            Decided::Persist => {}
            Decided::EraseSlot(slot) => ctx.order(Effect::Erase { model, slot }),
            Decided::Fetch { slot, artifact } => self.fetch(ctx, slot, artifact),
            Decided::Verify { slot, artifact } => {
                let epoch = self.begin();
                ctx.order(Effect::Verify { model, epoch, slot, artifact });
            }
            Decided::SelfTest { slot, artifact } => {
                let epoch = self.begin();
                ctx.order(Effect::SelfTest { model, epoch, slot, artifact });
            }
            Decided::StartShadow => {
                self.judge_at = ctx.now.ms.saturating_add(ctx.settings.judge_every_ms);
                ctx.order(Effect::StartShadow { model });
            }
            Decided::DropCandidate => {
                self.begin();
                self.stop_fetch(ctx);
                ctx.order(Effect::DropCandidate { model });
            }
            Decided::Activate { slot, artifact } => self.activate(ctx, slot, artifact),
            Decided::Deactivate => self.deactivate(ctx),
            Decided::StartTrial => {
                self.judge_at = ctx.now.ms.saturating_add(ctx.settings.judge_every_ms);
                ctx.order(Effect::StartTrial { model });
            }
            Decided::Reconsider => {
                let again = self.look(ctx);
                self.waiting.extend(again.map(News::Event));
            }
            Decided::Announce(announcement) => self.announce(ctx, announcement),
        }
    }

    fn activate(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        slot: SlotId,
        artifact: Digest,
    ) {
        // Decided before it was revoked, perhaps, while the disk was waited for: the machine hears
        // of it next.
        if self.answering != Some(artifact) && !ctx.trusted.is_revoked(&artifact) {
            self.answering = Some(artifact);
            self.absence = Some(None);
            self.holds_previous = true;
            ctx.order(Effect::Activate { model: self.name.clone(), slot, artifact });
        }
    }

    pub(super) fn deactivate(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        self.answering = None;
        self.absence = Some(None);
        ctx.order(Effect::Deactivate { model: self.name.clone() });
    }

    fn announce(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        announcement: Announcement,
    ) {
        let Announcement { state, artifact, reason } = announcement;
        let transition = self.transition(ctx, state, artifact, reason);
        let version = transition.artifact.as_ref().map_or("-", |it| it.version.as_str());
        let (name, detail) = (&self.name, &transition.detail);
        let detail = if detail.is_empty() { detail.clone() } else { format!(" ({detail})") };
        match reason {
            Some(reason) => tracing::warn!("{name} {version}: {state}: {reason}{detail}"),
            None => tracing::info!("{name} {version}: {state}{detail}"),
        }
        ctx.reports.append(ctx.now, Body::Transition(transition));
        ctx.status_due = true;
    }
}
