//! Carries out what a model's machine decides, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tidegate_device::store;
use tidegate_lifecycle::gates::Verdict;
use tidegate_lifecycle::{Announcement, Assignment, Effect, Event, Slot, SlotId};
use tidegate_wire::report::Body;
use tidegate_wire::{Digest, Reason, State};

use super::context::Context;
use super::model::{Input, Model, Stall};
use super::tasks::{self, Answer, Outcome};
use crate::serving::LoadedModel;

/// First and longest wait before a record that could not be written is tried again, milliseconds.
const STALL_MS: (u64, u64) = (250, 30_000);

impl Model {
    /// Takes an event and carries out what follows from it.
    pub(super) async fn take(&mut self, ctx: &mut Context, event: Event) {
        if let Event::Directed { generation: newest, .. } = event {
            // It says all that earlier ones did: however long the disk is away, few events wait.
            self.waiting.retain(|input| {
                !matches!(input, Input::Event(Event::Directed { generation, .. })
                    if *generation <= newest)
            });
        }
        self.waiting.push_back(Input::Event(event));
        self.work_off(ctx).await;
    }

    /// The machine's deadline, in milliseconds, and that of a stalled write.
    pub(super) fn deadline(&self) -> Option<u64> {
        match &self.stall {
            Some(stall) => Some(stall.retry_at),
            None => self.machine.deadline(),
        }
    }

    /// Whether a gate has to be asked from time to time.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.machine.state(), State::Shadow | State::Trial)
    }

    /// Carries out effects that are there already, and then whatever they lead to.
    pub(super) async fn begin_with(&mut self, ctx: &mut Context, effects: VecDeque<Effect>) {
        self.carry_out(ctx, effects).await;
        self.work_off(ctx).await;
    }

    async fn work_off(&mut self, ctx: &mut Context) {
        while self.stall.is_none() {
            let event = match self.waiting.pop_front() {
                None => return,
                Some(Input::Event(event)) => event,
                Some(Input::Answer(answer)) => match self.event_of(answer) {
                    None => continue,
                    Some(event) => event,
                },
            };
            self.explain(ctx, &event);
            let effects = self.machine.step(ctx.clock.ms(), event);
            ctx.status_due |= !effects.is_empty();
            self.carry_out(ctx, effects.into_iter().collect()).await;
        }
    }

    /// Tries again what the disk did not take.
    async fn retry_stalled(&mut self, ctx: &mut Context) {
        let now = ctx.clock.ms();
        if self.stall.as_ref().is_none_or(|stall| now < stall.retry_at) {
            return;
        }
        let Some(stall) = self.stall.take() else { return };
        let wait_ms = (stall.wait_ms * 2).min(STALL_MS.1);
        self.carry_out(ctx, stall.effects).await;
        match &mut self.stall {
            Some(again) => {
                again.wait_ms = wait_ms;
                again.retry_at = now + wait_ms;
            }
            None => {
                tracing::info!("the disk takes the record of {} again", self.name);
                ctx.status_due = true;
                self.work_off(ctx).await;
            }
        }
    }

    /// In order; when the record cannot be written, nothing that comes after it is done.
    async fn carry_out(&mut self, ctx: &mut Context, mut effects: VecDeque<Effect>) {
        while let Some(effect) = effects.front().copied() {
            if effect == Effect::Persist
                && let Err(error) = self.record.write(&self.disk, self.machine.record())
            {
                tracing::error!("{error}; {} stays as it is until the disk works", self.name);
                let (reason, wait_ms) = (store::reason(&error), STALL_MS.0);
                let retry_at = ctx.clock.ms() + wait_ms;
                self.stall = Some(Stall { effects, reason, retry_at, wait_ms });
                ctx.status_due = true;
                return;
            }
            effects.pop_front();
            self.carry_out_one(ctx, effect).await;
        }
        self.detail.clear();
        self.tell_absence(ctx);
        if self.machine.state() != State::Trial {
            self.previous = None;
        }
    }

    async fn carry_out_one(&mut self, ctx: &mut Context, effect: Effect) {
        match effect {
            Effect::Persist => {}
            Effect::EraseSlot(slot) => {
                // What stays behind is checked like everything else, so this is no danger.
                if let Err(error) = self.slots.erase(&self.disk, slot) {
                    tracing::warn!("{error}");
                }
            }
            Effect::Fetch { slot, artifact } => self.spawn_fetch(ctx, slot, artifact).await,
            Effect::Verify { slot, artifact } => self.spawn_verify(ctx, slot, artifact),
            Effect::SelfTest { slot, artifact } => self.spawn_self_test(ctx, slot, artifact),
            Effect::StartShadow => {
                if let Some(candidate) = &self.candidate {
                    ctx.serving.start_shadow(&self.name, Arc::clone(candidate));
                }
            }
            Effect::DropCandidate => {
                self.epoch += 1;
                self.end_download().await;
                ctx.serving.stop_shadow(&self.name);
                self.candidate = None;
            }
            Effect::Activate { slot, artifact } => self.activate(ctx, slot, artifact).await,
            Effect::Deactivate => ctx.serving.deactivate(&self.name),
            Effect::StartTrial => ctx.serving.start_trial(&self.name),
            Effect::Reconsider => {
                let again = self.directed(ctx);
                self.waiting.extend(again.map(Input::Event));
            }
            Effect::Announce(announcement) => self.announce(ctx, announcement),
        }
    }

    async fn activate(&mut self, ctx: &mut Context, slot: SlotId, artifact: Digest) {
        if ctx.trusted.is_revoked(&artifact) {
            // Decided before it was revoked, and waited for the disk; the machine hears of it next.
            return;
        }
        let active = ctx.serving.active(&self.name);
        if active.as_ref().is_some_and(|loaded| loaded.artifact.digest == artifact) {
            return;
        }
        let is_it = |loaded: &Arc<LoadedModel>| loaded.artifact.digest == artifact;
        let at_hand = [self.candidate.take(), self.previous.take()].into_iter().flatten();
        let loaded = match at_hand.into_iter().find(is_it) {
            Some(loaded) => Ok(loaded),
            None => {
                let (disk, slots) = (self.disk.clone(), self.slots.clone());
                let name = self.name.clone();
                tasks::reload((disk, slots), slot, artifact, name).await
            }
        };
        match loaded {
            Ok(loaded) => {
                tracing::info!("{} {} answers from now on", self.name, loaded.artifact);
                ctx.serving.activate(&self.name, loaded);
                self.previous = active;
            }
            Err((reason, detail)) => {
                tracing::error!("{} cannot be loaded from {}: {detail}", self.name, slot.name());
                self.waiting.push_back(Input::Event(Event::ActiveFailed(reason)));
            }
        }
    }

    fn announce(&mut self, ctx: &mut Context, announcement: Announcement) {
        let Announcement { state, artifact, reason } = announcement;
        let transition = self.transition(&ctx.trusted, state, artifact, reason);
        let version = transition.artifact.as_ref().map_or("-", |it| it.version.as_str());
        let (name, detail) = (&self.name, &transition.detail);
        let detail = if detail.is_empty() { detail.clone() } else { format!(" ({detail})") };
        match reason {
            Some(reason) => tracing::warn!("{name} {version}: {state}: {reason}{detail}"),
            None => tracing::info!("{name} {version}: {state}{detail}"),
        }
        ctx.reports.append(Body::Transition(transition));
        ctx.status_due = true;
    }

    /// What the newest directive means for this device now.
    pub(super) fn directed(&mut self, ctx: &Context) -> Option<Event> {
        let verified = self.directive.as_ref()?;
        let directive = verified.directive();
        let generation = directive.generation;
        let Some(rule) = directive.rule_for(&ctx.device, &ctx.facts.labels) else {
            return Some(Event::Directed { generation, to: None });
        };
        let (artifact, since) = (rule.artifact.clone(), rule.since);
        let unix = ctx.clock.unix();
        let authorised = ctx.trusted.authorise(&self.name, &artifact, &ctx.facts);
        let authorised = authorised.map(|entry| entry.release).map_err(|refusal| refusal.reason());
        // Time stops new installs, never going back to what was committed here.
        let committed = self.machine.record().slots.contains(&Slot::Committed(artifact.digest));
        let remembered = self.machine.record().limits.is_revoked(&artifact.digest);
        let installable = match committed {
            // Known for good, also when the metadata that said so is lost.
            _ if remembered => Err(Reason::Revoked),
            true => authorised,
            false => authorised.and_then(|release| {
                ctx.trusted.fresh(unix).map_err(|error| error.reason())?;
                verified.may_install(ctx.trusted.now(unix)).map(|()| release)
            }),
        };
        self.learn(&artifact);
        let to = Assignment { artifact: artifact.digest, since, installable };
        Some(Event::Directed { generation, to: Some(to) })
    }

    /// Takes what came of a piece of work.
    pub(super) async fn answered(&mut self, ctx: &mut Context, answer: Answer) {
        self.waiting.push_back(Input::Answer(answer));
        self.work_off(ctx).await;
    }

    /// What an answer means, unless its work was let go meanwhile.
    fn event_of(&mut self, answer: Answer) -> Option<Event> {
        if answer.epoch != self.epoch {
            return None;
        }
        Some(match answer.outcome {
            Outcome::Fetched(Ok(())) => Event::FetchFinished,
            Outcome::Fetched(Err(error)) => {
                tracing::warn!("{} is not here yet: {error}", self.name);
                self.detail = error.detail;
                Event::FetchFailed(error.reason)
            }
            Outcome::Verified(Ok(manifest)) => {
                Event::VerifyPassed { attempts_max: manifest.gates.trial.attempts_max }
            }
            Outcome::Verified(Err((reason, detail))) => {
                self.detail = detail;
                Event::VerifyFailed(reason)
            }
            Outcome::Tested(Ok((loaded, outcome))) => {
                self.detail = outcome.detail;
                match outcome.verdict {
                    Ok(()) => {
                        self.candidate = Some(loaded);
                        Event::SelfTestPassed
                    }
                    Err(reason) => Event::SelfTestFailed(reason),
                }
            }
            Outcome::Tested(Err((reason, detail))) => {
                self.detail = detail;
                Event::SelfTestFailed(reason)
            }
        })
    }

    /// Looks at gates, deadlines and the disk.
    pub(super) async fn tick(&mut self, ctx: &mut Context) {
        if self.stall.is_some() {
            return self.retry_stalled(ctx).await;
        }
        if self.machine.deadline().is_some_and(|at| ctx.clock.ms() >= at) {
            self.take(ctx, Event::TimerFired).await;
        }
        let now = Instant::now();
        let verdict = match self.machine.state() {
            State::Shadow => ctx.serving.shadow_verdict(&self.name, now),
            State::Trial => ctx.serving.trial_verdict(&self.name, now),
            _ => None,
        };
        let Some((verdict, detail)) = verdict else { return };
        let on_trial = self.machine.state() == State::Trial;
        let event = match (verdict, on_trial) {
            (Verdict::Pending { .. }, _) => return,
            // Too few samples in the shadow: the trial decides. A trial never passes by waiting.
            (Verdict::Passed | Verdict::Inconclusive { .. }, false) => Event::ShadowPassed,
            (Verdict::Inconclusive { .. }, true) => return,
            (Verdict::Passed, true) => Event::TrialPassed,
            (Verdict::Failed(reason), false) => Event::ShadowFailed(reason),
            (Verdict::Failed(reason), true) => Event::TrialFailed(reason),
        };
        self.detail = detail;
        self.take(ctx, event).await;
    }

    /// Says goodbye: a candidate that is loaded is not to blame for this stop.
    pub(super) async fn stop(&mut self, ctx: &mut Context) {
        self.end_download().await;
        self.take(ctx, Event::Stopping).await;
    }
}

/// Why a directive cannot be followed for want of newer metadata, if that is so.
pub(super) fn wants_metadata(event: &Event) -> Option<Reason> {
    let Event::Directed { to: Some(to), .. } = event else { return None };
    to.installable.err().filter(|r| [Reason::UnknownArtifact, Reason::MetadataExpired].contains(r))
}
