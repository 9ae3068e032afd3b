//! What the publishers forbid, as it becomes known: invariant *revoked-never-runs*.
//!
//! One write of the record empties every slot with a revoked artifact, ends a candidate that is
//! one, and points at the other slot if that has proved itself. The slot's files are removed last.

use super::*;

/// What the limits took away.
#[derive(Default)]
pub(super) struct Taken {
    /// Whether there is more to remember than before.
    news: bool,
    /// Slots that held a revoked artifact.
    emptied: [Option<SlotId>; 2],
    /// The candidate and how its way ended.
    ended: Option<(Digest, State)>,
    /// What answered, the candidate aside.
    lost: Option<Digest>,
    /// The candidate that was on its way back and answers now.
    came_back: Option<Digest>,
}

impl Taken {
    /// Whether the record changed.
    pub(super) fn news(&self) -> bool {
        self.news
    }
}

impl Machine {
    pub(super) fn limited(&mut self, limits: &Limits, effects: &mut Effects) {
        let (answered, on_its_way) = (self.active(), self.record.candidate);
        let taken = self.forbid(limits);
        if taken.news {
            self.persist(effects);
        }
        if self.active() != answered {
            self.answer_otherwise(effects);
        }
        let loading = on_its_way.filter(|it| it.stage.is_before_trial());
        if loading.is_some() && self.record.candidate.is_none() {
            push(effects, Effect::DropCandidate);
        }
        self.tell(&taken, effects);
    }

    /// What was taken away, to the controller; then the files.
    pub(super) fn tell(&mut self, taken: &Taken, effects: &mut Effects) {
        let revoked = Some(Reason::Revoked);
        let ended = taken.ended.map(|(artifact, state)| (artifact, state, revoked));
        let lost = taken.lost.map(|artifact| (artifact, State::Reverted, revoked));
        let came_back = taken.came_back.map(|artifact| (artifact, State::Committed, None));
        for (artifact, state, reason) in ended.into_iter().chain(lost).chain(came_back) {
            let artifact = Some(artifact);
            push(effects, Effect::Announce(Announcement { state, artifact, reason }));
        }
        for slot in taken.emptied.into_iter().flatten() {
            push(effects, Effect::EraseSlot(slot));
        }
    }

    /// Changes the record, and nothing else: at a start this comes before anything is loaded.
    pub(super) fn forbid(&mut self, limits: &Limits) -> Taken {
        let mut taken = Taken { news: self.record.limits.learn(limits), ..Taken::default() };
        let answered = self.record.active_artifact();
        for slot in [SlotId::A, SlotId::B] {
            let artifact = self.record.slot(slot).artifact();
            if artifact.is_some_and(|artifact| self.record.limits.is_revoked(&artifact)) {
                self.record.set_slot(slot, Slot::Empty);
                taken.emptied[slot as usize] = Some(slot);
            }
        }
        if taken.emptied == [None; 2] {
            return taken;
        }
        taken.news = true;
        taken.ended = self.end_revoked_candidate();
        if let Some(slot) = self.record.active
            && self.record.slot(slot).runnable().is_none()
        {
            self.record.active = None;
            let ended = taken.ended.map(|(artifact, _)| artifact);
            taken.lost = answered.filter(|answered| ended != Some(*answered));
        }
        if let (Some(artifact), None) = (taken.lost, taken.ended) {
            let reason = Some(Reason::Revoked);
            self.record.outcome = Some(Outcome { state: State::Reverted, artifact, reason });
        }
        let on_trial = matches!(taken.ended, Some((_, State::Reverted)));
        if self.record.active.is_none() && (taken.lost.is_some() || on_trial) {
            taken.came_back = self.fall_back();
        }
        taken
    }

    /// Ends a candidate whose slot was emptied; one on trial that has nothing to go back to any
    /// more goes on.
    fn end_revoked_candidate(&mut self) -> Option<(Digest, State)> {
        let candidate = self.record.candidate?;
        let Candidate { slot, artifact, stage, .. } = candidate;
        if self.record.slot(slot).artifact() != Some(artifact) {
            let state = match stage {
                Stage::Trial { previous } => {
                    self.record.active = previous;
                    State::Reverted
                }
                Stage::Fetch | Stage::Test => State::Rejected,
            };
            self.conclude(state, artifact, Some(Reason::Revoked));
            return Some((artifact, state));
        }
        if let Stage::Trial { previous: Some(previous) } = stage
            && self.record.slot(previous).runnable().is_none()
        {
            let stage = Stage::Trial { previous: None };
            self.record.candidate = Some(Candidate { stage, ..candidate });
        }
        None
    }

    /// Nothing answers any more. What has proved itself here does from now on; what is whole but
    /// has not, unless it was turned down, must pass self-test and trial as any candidate. The
    /// floor does not count: this is going back, not a new install. Returns the candidate that
    /// was on its way back already, and answers at once.
    fn fall_back(&mut self) -> Option<Digest> {
        let slots = [SlotId::A, SlotId::B];
        let candidate = self.record.candidate;
        let proven = slots.into_iter().find(|slot| {
            let proven = matches!(self.record.slot(*slot), Slot::Committed(_));
            proven && candidate.is_none_or(|candidate| candidate.slot == *slot)
        });
        if let Some(slot) = proven {
            self.record.active = Some(slot);
            let Candidate { artifact, .. } = candidate?;
            self.conclude(State::Committed, artifact, None);
            return Some(artifact);
        }
        if candidate.is_none() {
            let whole = slots.into_iter().find_map(|slot| self.never_turned_down(slot));
            self.record.candidate = whole.map(|(slot, artifact)| Candidate {
                slot,
                artifact,
                stage: Stage::Fetch,
                origin: Origin::Fallback,
                attempts: 0,
                attempts_max: ATTEMPTS_MAX_DEFAULT,
            });
        }
        None
    }

    fn never_turned_down(&self, slot: SlotId) -> Option<(SlotId, Digest)> {
        let artifact = self.record.slot(slot).runnable()?;
        let turned_down = self.record.rejection(artifact, Generation(0)).is_some();
        (!turned_down).then_some((slot, artifact))
    }

    /// What answered no longer may.
    fn answer_otherwise(&mut self, effects: &mut Effects) {
        if let Some((slot, artifact)) = self.active() {
            return push(effects, Effect::Activate { slot, artifact });
        }
        match (self.phase, self.record.candidate) {
            // It has passed its self-test, and there is nothing left to compare with.
            (Phase::Shadow, Some(_)) => self.start_trial(effects),
            (Phase::Idle, Some(Candidate { slot, artifact, .. })) => {
                push(effects, Effect::Deactivate);
                self.phase = Phase::Verifying;
                push(effects, Effect::Verify { slot, artifact });
                self.announce(artifact, effects);
            }
            _ => push(effects, Effect::Deactivate),
        }
    }
}
