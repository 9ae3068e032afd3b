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
        let on_its_way = self.record.candidate.is_some_and(|it| it.artifact == to.artifact);
        if on_its_way && self.phase != Phase::Idle {
            if newer {
                self.announce(to.artifact, effects);
            }
            return;
        }
        self.let_go(effects);
        if self.record.active_artifact() == Some(to.artifact) {
            return self.stay_on(to.artifact, newer, effects);
        }
        if let Some(reason) = self.record.rejection(to.artifact, to.since) {
            return self.stay_rejected(to.artifact, reason, newer, effects);
        }
        match to.installable {
            Ok(()) => self.begin(to.artifact, effects),
            Err(reason) => self.turn_down(to.artifact, reason, effects),
        }
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
            Some(Candidate { artifact, .. }) => {
                self.conclude(State::Rejected, artifact, Some(Reason::Superseded));
                self.persist(effects);
                push(effects, Effect::DropCandidate);
            }
        }
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
        let outcome = Outcome { state: State::Rejected, artifact, reason: Some(reason) };
        if self.record.outcome != Some(outcome) {
            self.record.outcome = Some(outcome);
            self.persist(effects);
            self.announce_outcome(effects);
        }
    }

    fn begin(&mut self, artifact: Digest, effects: &mut Effects) {
        let slot = match self.record.active {
            Some(active) => active.other(),
            None => SlotId::A,
        };
        let whole = self.record.slot(slot).runnable() == Some(artifact);
        let resumed = self.record.slot(slot) == Slot::Filling(artifact);
        if !whole && !resumed {
            self.record.set_slot(slot, Slot::Filling(artifact));
        }
        self.record.candidate = Some(Candidate {
            slot,
            artifact,
            stage: Stage::Fetch,
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
