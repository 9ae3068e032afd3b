//! The only way back after a restart.

use super::*;

/// How the agent's last start ended, if it was not asked to stop. Whatever it was, it has used up
/// an attempt of a candidate that was loaded; only the reason that is told differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Death {
    /// It crashed, was killed, or lost its power.
    #[default]
    Unknown,
    /// The system ended it for want of memory.
    OutOfMemory,
}

impl Death {
    fn reason(self) -> Reason {
        match self {
            Self::Unknown => Reason::CrashLoop,
            Self::OutOfMemory => Reason::OutOfMemory,
        }
    }
}

impl Machine {
    /// The machine after a start of the agent, and what to do first.
    ///
    /// `record` is what [`newest`](crate::newest) found. A candidate that was loaded when the
    /// agent stopped without being asked to has used up an attempt; when none is left it is given
    /// up before it is loaded again. `limits` is what the stored metadata forbids: power may have
    /// gone between its writing and the record's, and what it revokes is not loaded either.
    pub fn recover(record: Option<Record>, limits: &Limits) -> (Self, Effects) {
        Self::recover_after(Death::Unknown, record, limits)
    }

    /// The same, when it is known how the last start ended.
    pub fn recover_after(death: Death, record: Option<Record>, limits: &Limits) -> (Self, Effects) {
        let mut machine = Self { record: record.unwrap_or_default(), phase: Phase::Idle };
        let mut effects = Effects::new();
        let taken = machine.forbid(limits);
        if taken.news() {
            machine.persist(&mut effects);
        }
        let stop = core::mem::replace(&mut machine.record.stop, Stop::Unclean);
        match machine.record.candidate {
            None => machine.resume_active(stop, &mut effects),
            Some(candidate) if candidate.stage == Stage::Fetch => {
                machine.resume_active(stop, &mut effects);
                machine.resume_fetch(candidate, &mut effects);
            }
            Some(candidate) => {
                machine.resume_loaded(candidate, stop, death.reason(), &mut effects);
            }
        }
        machine.tell(&taken, &mut effects);
        (machine, effects)
    }

    fn resume_active(&mut self, stop: Stop, effects: &mut Effects) {
        if stop == Stop::Clean {
            self.persist(effects);
        }
        if let Some((slot, artifact)) = self.active() {
            push(effects, Effect::Activate { slot, artifact });
        }
    }

    fn resume_fetch(&mut self, candidate: Candidate, effects: &mut Effects) {
        let Candidate { slot, artifact, .. } = candidate;
        if self.record.slot(slot).runnable() == Some(artifact) {
            self.phase = Phase::Verifying;
            push(effects, Effect::Verify { slot, artifact });
        } else {
            self.start_fetch(slot, artifact, None, effects);
        }
    }

    fn resume_loaded(
        &mut self,
        candidate: Candidate,
        stop: Stop,
        reason: Reason,
        effects: &mut Effects,
    ) {
        let used_up = match stop {
            Stop::Clean => 0,
            Stop::Unclean => 1,
        };
        let attempts = candidate.attempts.saturating_add(used_up);
        let candidate = Candidate { attempts, ..candidate };
        let Candidate { slot, artifact, attempts_max, .. } = candidate;
        self.record.candidate = Some(candidate);
        let given_up = attempts >= attempts_max;
        match (candidate.stage, given_up) {
            (Stage::Trial { .. }, true) => self.go_back(reason, effects),
            (Stage::Trial { .. }, false) => {
                self.phase = Phase::Trial;
                self.persist(effects);
                push(effects, Effect::Activate { slot, artifact });
                push(effects, Effect::StartTrial);
            }
            (_, true) => {
                self.reject(reason, effects);
                self.resume_active(Stop::Unclean, effects);
            }
            (_, false) => {
                self.phase = Phase::SelfTest;
                self.persist(effects);
                self.resume_active(Stop::Unclean, effects);
                push(effects, Effect::SelfTest { slot, artifact });
            }
        }
    }

    /// The active model cannot be loaded: its files were damaged since. The other slot answers if
    /// it has proved itself; the damaged one is fetched anew if the directive still names it.
    pub(super) fn active_failed(&mut self, reason: Reason, effects: &mut Effects) {
        if self.phase == Phase::Trial {
            return self.go_back(reason, effects);
        }
        let Some((slot, artifact)) = self.active() else { return };
        self.record.set_slot(slot, Slot::Empty);
        let other = slot.other();
        let proven = matches!(self.record.slot(other), Slot::Committed(_));
        self.record.active = proven.then_some(other);
        if proven || self.record.candidate.is_none() {
            self.conclude(State::Reverted, artifact, Some(reason));
        }
        self.persist(effects);
        match self.active() {
            Some((slot, artifact)) => {
                push(effects, Effect::DropCandidate);
                push(effects, Effect::Activate { slot, artifact });
            }
            None => push(effects, Effect::Deactivate),
        }
        // Said of the damaged one, wherever a candidate beside it is.
        let reason = Some(reason);
        let state = State::Reverted;
        push(effects, Effect::Announce(Announcement { state, artifact: Some(artifact), reason }));
        push(effects, Effect::Reconsider);
    }
}
