//! A candidate's way from its first byte to committed, rejected or reverted.

use super::*;

/// First wait after a failed fetch, milliseconds: longer than a dropped connection takes to come
/// back, short enough not to be noticed.
const RETRY_MS_MIN: u64 = 1_000;
/// Longest wait between two tries, milliseconds. A device that is back online should not idle
/// for longer than an operator's coffee.
const RETRY_MS_MAX: u64 = 300_000;
/// Tries for a failure that says the server, not the way to it, is wrong. One bit may flip on the
/// way; three times in a row it did not.
const WRONG_BYTES_MAX: u8 = 3;

/// Whether waiting can help.
enum Remedy {
    Wait,
    WaitAFewTimes,
    GiveUp,
}

fn remedy(reason: Reason) -> Remedy {
    match reason {
        Reason::Unreachable | Reason::DiskFull | Reason::TooShort | Reason::StorageFailed => {
            Remedy::Wait
        }
        Reason::BlobNotFound | Reason::DigestMismatch | Reason::TooLong => Remedy::WaitAFewTimes,
        _ => Remedy::GiveUp,
    }
}

impl Machine {
    pub(super) fn fetch_finished(&mut self, effects: &mut Effects) {
        let (Phase::Fetching { .. }, Some(candidate)) = (self.phase, self.record.candidate) else {
            return;
        };
        self.phase = Phase::Verifying;
        let Candidate { slot, artifact, .. } = candidate;
        push(effects, Effect::Verify { slot, artifact });
    }

    pub(super) fn fetch_failed(&mut self, now: u64, reason: Reason, effects: &mut Effects) {
        let (Phase::Fetching { failures, waiting_for, .. }, Some(candidate)) =
            (self.phase, self.record.candidate)
        else {
            return;
        };
        let failures = failures.saturating_add(1);
        let give_up = match remedy(reason) {
            Remedy::Wait => false,
            Remedy::WaitAFewTimes => failures >= WRONG_BYTES_MAX,
            Remedy::GiveUp => true,
        };
        if give_up {
            return self.reject(reason, effects);
        }
        let wait = RETRY_MS_MIN.saturating_mul(1 << (failures - 1).min(20)).min(RETRY_MS_MAX);
        let retry_at = Some(now.saturating_add(wait));
        self.phase = Phase::Fetching { failures, retry_at, waiting_for: Some(reason) };
        if waiting_for != Some(reason) {
            self.announce(candidate.artifact, effects);
        }
    }

    pub(super) fn timer_fired(&mut self, now: u64, effects: &mut Effects) {
        let (Phase::Fetching { failures, retry_at: Some(at), waiting_for }, Some(candidate)) =
            (self.phase, self.record.candidate)
        else {
            return;
        };
        if now >= at {
            self.phase = Phase::Fetching { failures, retry_at: None, waiting_for };
            let Candidate { slot, artifact, .. } = candidate;
            push(effects, Effect::Fetch { slot, artifact });
        }
    }

    pub(super) fn verify_passed(&mut self, attempts_max: u8, effects: &mut Effects) {
        let (Phase::Verifying, Some(candidate)) = (self.phase, self.record.candidate) else {
            return;
        };
        let Candidate { slot, artifact, .. } = candidate;
        if self.record.slot(slot) != Slot::Committed(artifact) {
            self.record.set_slot(slot, Slot::Verified(artifact));
        }
        let attempts_max = attempts_max.max(1);
        self.record.candidate = Some(Candidate { stage: Stage::Test, attempts_max, ..candidate });
        self.persist(effects);
        self.phase = Phase::SelfTest;
        push(effects, Effect::SelfTest { slot, artifact });
    }

    pub(super) fn verify_failed(&mut self, reason: Reason, effects: &mut Effects) {
        let (Phase::Verifying, Some(candidate)) = (self.phase, self.record.candidate) else {
            return;
        };
        let Candidate { slot, artifact, .. } = candidate;
        let was_whole = self.record.slot(slot).runnable() == Some(artifact);
        if was_whole {
            // Every byte was right once, so it is this disk that failed, not the artifact. A fleet
            // that goes back must not lose a device to that. What is fetched now gets no second
            // chance: the slot is only being filled then.
            self.record.set_slot(slot, Slot::Filling(artifact));
            self.persist(effects);
            push(effects, Effect::EraseSlot(slot));
            self.start_fetch(slot, artifact, Some(reason), effects);
            return self.announce(artifact, effects);
        }
        self.record.set_slot(slot, Slot::Empty);
        self.reject(reason, effects);
    }

    pub(super) fn self_test_passed(&mut self, effects: &mut Effects) {
        let (Phase::SelfTest, Some(candidate)) = (self.phase, self.record.candidate) else {
            return;
        };
        if self.record.slot(candidate.slot) == Slot::Committed(candidate.artifact) {
            // It has proved itself here before; going back must not wait for live inputs.
            self.return_to(candidate, effects)
        } else if self.record.active.is_none() {
            // There is nothing to compare with.
            self.start_trial(effects);
        } else {
            self.phase = Phase::Shadow;
            push(effects, Effect::StartShadow);
            self.announce(candidate.artifact, effects);
        }
    }

    fn return_to(&mut self, candidate: Candidate, effects: &mut Effects) {
        if let (Some(left), Some(artifact)) = (self.record.active, self.record.active_artifact()) {
            // Whatever was left has to prove itself again before it comes back.
            self.record.set_slot(left, Slot::Verified(artifact));
        }
        let Candidate { slot, artifact, .. } = candidate;
        self.record.active = Some(slot);
        self.conclude(State::Committed, artifact, None);
        self.persist(effects);
        push(effects, Effect::Activate { slot, artifact });
        self.announce(artifact, effects);
    }

    pub(super) fn start_trial(&mut self, effects: &mut Effects) {
        let Some(candidate) = self.candidate_in(Stage::Test) else { return };
        let stage = Stage::Trial { previous: self.record.active };
        let Candidate { slot, artifact, .. } = candidate;
        self.record.candidate = Some(Candidate { stage, attempts: 0, ..candidate });
        self.record.active = Some(slot);
        self.phase = Phase::Trial;
        self.persist(effects);
        push(effects, Effect::Activate { slot, artifact });
        push(effects, Effect::StartTrial);
        self.announce(artifact, effects);
    }

    pub(super) fn commit(&mut self, effects: &mut Effects) {
        let Some(Candidate { slot, artifact, .. }) = self.record.candidate else { return };
        self.record.set_slot(slot, Slot::Committed(artifact));
        self.conclude(State::Committed, artifact, None);
        self.persist(effects);
        self.announce(artifact, effects);
    }

    /// Turns down a candidate that has not answered anyone.
    pub(super) fn reject(&mut self, reason: Reason, effects: &mut Effects) {
        let Some(Candidate { artifact, .. }) = self.record.candidate else { return };
        self.record.reject(artifact, reason);
        self.conclude(State::Rejected, artifact, Some(reason));
        self.persist(effects);
        push(effects, Effect::DropCandidate);
        self.announce(artifact, effects);
    }

    /// Takes back a candidate that answers: the model before it answers again.
    pub(super) fn go_back(&mut self, reason: Reason, effects: &mut Effects) {
        let Some(Candidate { artifact, stage: Stage::Trial { previous }, .. }) =
            self.record.candidate
        else {
            return;
        };
        if reason != Reason::Superseded {
            self.record.reject(artifact, reason);
        }
        self.record.active = previous;
        self.conclude(State::Reverted, artifact, Some(reason));
        self.persist(effects);
        match self.active() {
            Some((slot, artifact)) => push(effects, Effect::Activate { slot, artifact }),
            None => push(effects, Effect::Deactivate),
        }
        self.announce(artifact, effects);
    }
}
