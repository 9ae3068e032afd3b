//! What a directive changes.

use super::*;

impl Machine {
    pub(super) fn directed(
        &mut self,
        generation: Generation,
        to: Option<Assignment>,
        effects: &mut Effects,
    ) {
        if generation < self.record.generation {
            let reason = Some(Reason::StaleGeneration);
            let announcement = Announcement { state: self.state(), artifact: None, reason };
            return push(effects, Effect::Announce(announcement));
        }
        let newer = generation > self.record.generation;
        self.record.generation = generation;
        if newer {
            self.persist(effects);
        }
        let Some(to) = to else {
            // No rule takes this device: what runs stays, what is on its way is let go.
            return self.let_go(effects);
        };
        let installable = self.permitted(&to);
        let forbidden = |reason| matches!(reason, Reason::Revoked | Reason::BelowFloor);
        if let Some(candidate) = self.on_its_way(to.artifact) {
            return match installable {
                Err(reason) if forbidden(reason) && candidate.may_be_forbidden() => {
                    self.end(reason, effects);
                    self.announce(to.artifact, effects);
                }
                _ if newer => self.announce(to.artifact, effects),
                _ => {}
            };
        }
        self.let_go(effects);
        if self.record.active_artifact() == Some(to.artifact) {
            return self.stay_on(to.artifact, newer, effects);
        }
        let rejection = self.record.rejection(to.artifact, to.since);
        if let Some(reason) = rejection.filter(|_| installable != Err(Reason::Revoked)) {
            return self.stay_rejected(to.artifact, reason, newer, effects);
        }
        match installable {
            Ok(_) => self.begin(to.artifact, effects),
            Err(reason) => self.turn_down(to.artifact, reason, effects),
        }
    }

    /// The shell's word on an artifact, and what the record remembers against it: the signed
    /// metadata may have been lost since.
    fn permitted(&self, to: &Assignment) -> Result<(), Reason> {
        if self.record.limits.is_revoked(&to.artifact) {
            return Err(Reason::Revoked);
        }
        match to.installable? {
            release if release < self.record.limits.floor() => Err(Reason::BelowFloor),
            _ => Ok(()),
        }
    }

    fn on_its_way(&self, artifact: Digest) -> Option<Candidate> {
        let candidate = self.record.candidate.filter(|it| it.artifact == artifact);
        candidate.filter(|_| self.phase != Phase::Idle)
    }

    /// Lets go of a candidate that the newest directive does not name. One on trial gives way to
    /// the model before it.
    fn let_go(&mut self, effects: &mut Effects) {
        match self.record.candidate {
            None => {}
            Some(Candidate { stage: Stage::Trial { previous: None }, .. }) => {
                // There is nothing to go back to, and the directive names no reason to stop.
            }
            Some(Candidate { stage: Stage::Trial { .. }, .. }) => {
                self.go_back(Reason::Superseded, effects);
            }
            Some(Candidate { origin: Origin::Fallback, .. }) => {
                // All that this device still has, until there is something to install.
            }
            Some(_) => self.end(Reason::Superseded, effects),
        }
    }

    /// Ends the way of a candidate that answers nobody yet, without remembering anything against
    /// it.
    fn end(&mut self, reason: Reason, effects: &mut Effects) {
        let Some(Candidate { artifact, .. }) = self.record.candidate else { return };
        self.conclude(State::Rejected, artifact, Some(reason));
        self.persist(effects);
        push(effects, Effect::DropCandidate);
    }

    fn stay_on(&mut self, artifact: Digest, newer: bool, effects: &mut Effects) {
        let outcome = Outcome { state: State::Committed, artifact, reason: None };
        if self.record.outcome != Some(outcome) {
            self.record.outcome = Some(outcome);
            self.persist(effects);
            self.announce_outcome(effects);
        } else if newer {
            self.announce_outcome(effects);
        }
    }

    fn stay_rejected(
        &mut self,
        artifact: Digest,
        reason: Reason,
        newer: bool,
        effects: &mut Effects,
    ) {
        let state = match self.record.outcome {
            Some(outcome) if outcome.artifact == artifact => outcome.state,
            _ => State::Rejected,
        };
        self.record.outcome = Some(Outcome { state, artifact, reason: Some(reason) });
        if newer {
            self.persist(effects);
            self.announce_outcome(effects);
        }
    }

    /// Turned down before a byte was fetched, on grounds that may change while the directive does
    /// not: nothing is remembered against the artifact, and the next look may end otherwise.
    fn turn_down(&mut self, artifact: Digest, reason: Reason, effects: &mut Effects) {
        // One that answered and was taken back for the same reason stays what it is.
        let state = match self.record.outcome {
            Some(known) if (known.artifact, known.reason) == (artifact, Some(reason)) => {
                known.state
            }
            _ => State::Rejected,
        };
        let outcome = Outcome { state, artifact, reason: Some(reason) };
        if self.record.outcome != Some(outcome) {
            self.record.outcome = Some(outcome);
            self.persist(effects);
            self.announce_outcome(effects);
        }
    }

    fn begin(&mut self, artifact: Digest, effects: &mut Effects) {
        if self.record.candidate.is_some_and(|it| it.origin == Origin::Fallback) {
            self.give_up_fallback(effects);
        }
        let slot = self.free_slot(artifact);
        let whole = self.record.slot(slot).runnable() == Some(artifact);
        let resumed = self.record.slot(slot) == Slot::Filling(artifact);
        if !whole && !resumed {
            self.record.set_slot(slot, Slot::Filling(artifact));
        }
        self.record.candidate = Some(Candidate {
            slot,
            artifact,
            stage: Stage::Fetch,
            origin: Origin::Directed,
            attempts: 0,
            attempts_max: ATTEMPTS_MAX_DEFAULT,
        });
        self.persist(effects);
        if whole {
            // It lies there already: check it again, fetch nothing.
            self.phase = Phase::Verifying;
            push(effects, Effect::Verify { slot, artifact });
        } else {
            if !resumed {
                push(effects, Effect::EraseSlot(slot));
            }
            self.start_fetch(slot, artifact, None, effects);
        }
        self.announce(artifact, effects);
    }

    /// There is something better now. One on trial goes on answering meanwhile.
    fn give_up_fallback(&mut self, effects: &mut Effects) {
        let waits = self.record.candidate.is_some_and(|it| it.stage.is_before_trial());
        if waits {
            self.end(Reason::Superseded, effects);
        }
    }

    /// Where an artifact goes: never where the active model lies; if nothing answers, where it lies
    /// already, or where nothing whole would be lost.
    fn free_slot(&self, artifact: Digest) -> SlotId {
        if let Some(active) = self.record.active {
            return active.other();
        }
        let slots = [SlotId::A, SlotId::B];
        let find = |fits: &dyn Fn(Slot) -> bool| {
            slots.into_iter().find(|slot| fits(self.record.slot(*slot)))
        };
        find(&|content| content.artifact() == Some(artifact))
            .or_else(|| find(&|content| content.runnable().is_none()))
            .unwrap_or(SlotId::A)
    }

    pub(super) fn start_fetch(
        &mut self,
        slot: SlotId,
        artifact: Digest,
        waiting_for: Option<Reason>,
        effects: &mut Effects,
    ) {
        self.phase = Phase::Fetching { failures: 0, retry_at: None, waiting_for };
        push(effects, Effect::Fetch { slot, artifact });
    }
}
