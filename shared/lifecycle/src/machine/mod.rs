//! The state machine: events in, effects out.

mod boot;
mod candidate;
mod directed;
mod limited;

use heapless::Vec;
use tidegate_wire::{Digest, Generation, Reason, State};

use crate::limits::Limits;
use crate::record::{Candidate, Origin, Outcome, Record, Slot, SlotId, Stage, Stop};

pub use boot::Death;

/// What a directive, and the trust in what it names, mean for this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// What to run.
    pub artifact: Digest,
    /// The generation at which the present attempt to bring it out began.
    pub since: Generation,
    /// Whether it may be installed now: signed, not revoked, not below the floor, fitting this
    /// device, by metadata that has not expired; then its release number. It does not matter for
    /// what runs already.
    pub installable: Result<u64, Reason>,
}

/// What happened.
// One variant is large, so that there is no allocator and an event is a plain value; few exist at a
// time.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The signed metadata was read, anew or again: this is what the publishers forbid. It comes
    /// before the directive that is looked at by the same metadata.
    Limited(Limits),
    /// A verified directive was read, from the network or from disk after a restart. `None`: no
    /// rule takes this device.
    Directed {
        /// The directive's number.
        generation: Generation,
        /// The rule that takes this device.
        to: Option<Assignment>,
    },
    /// All files of the candidate are in its slot.
    FetchFinished,
    /// Fetching failed for now or for good; the machine decides which.
    FetchFailed(Reason),
    /// Lengths and digests of all files are right.
    VerifyPassed {
        /// From the manifest: starts before a crash loop is called one.
        attempts_max: u8,
    },
    /// A file is not what was signed.
    VerifyFailed(Reason),
    /// The candidate loads and answers its golden set.
    SelfTestPassed,
    /// It does not.
    SelfTestFailed(Reason),
    /// Live comparison was good enough, or gave too few samples to say.
    ShadowPassed,
    /// Live comparison was bad.
    ShadowFailed(Reason),
    /// The candidate was healthy for its window.
    TrialPassed,
    /// It was not.
    TrialFailed(Reason),
    /// The active model cannot be loaded after a restart.
    ActiveFailed(Reason),
    /// The time of [`Machine::deadline`] has come.
    TimerFired,
    /// The agent was asked to stop.
    Stopping,
}

/// What to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Write [`Machine::record`] durably before anything that follows.
    Persist,
    /// Remove what lies in the slot.
    EraseSlot(SlotId),
    /// Bring the artifact's missing files into the slot.
    Fetch {
        /// Where to.
        slot: SlotId,
        /// What.
        artifact: Digest,
    },
    /// Check every byte in the slot against the signed digests.
    Verify {
        /// Where.
        slot: SlotId,
        /// What should be there.
        artifact: Digest,
    },
    /// Load the candidate beside the active model and run its golden set.
    SelfTest {
        /// Where.
        slot: SlotId,
        /// What.
        artifact: Digest,
    },
    /// Show the candidate live inputs.
    StartShadow,
    /// Let go of the candidate: its download, its self-test, its shadow, its memory.
    DropCandidate,
    /// Let this slot answer from now on, loading it unless it is loaded.
    Activate {
        /// Where.
        slot: SlotId,
        /// What.
        artifact: Digest,
    },
    /// Answer nothing any more: there is no model to go back to.
    Deactivate,
    /// Begin to watch the active model on probation.
    StartTrial,
    /// Read the stored directive again and send it as [`Event::Directed`].
    Reconsider,
    /// Tell the controller.
    Announce(Announcement),
}

/// A step on a model's way, for the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The state that was reached.
    pub state: State,
    /// What it is about.
    pub artifact: Option<Digest>,
    /// Why, if something was turned down, or why it waits.
    pub reason: Option<Reason>,
}

/// Effects of one step. Nine are the most: a trial gives way and another artifact begins.
pub type Effects = Vec<Effect, 12>;

/// Where the candidate is. More than the record knows: what a restart begins anew is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Fetching { failures: u8, retry_at: Option<u64>, waiting_for: Option<Reason> },
    Verifying,
    SelfTest,
    Shadow,
    Trial,
}

/// The machine of one model on one device. See the crate's documentation.
#[derive(Debug, Clone)]
pub struct Machine {
    record: Record,
    phase: Phase,
}

impl Machine {
    /// Takes an event at `now`, in milliseconds of any clock that does not go back.
    ///
    /// An event that does not belong to the present state changes nothing: it is the late answer
    /// of something that was let go.
    pub fn step(&mut self, now: u64, event: Event) -> Effects {
        let mut effects = Effects::new();
        match event {
            Event::Limited(limits) => self.limited(&limits, &mut effects),
            Event::Directed { generation, to } => self.directed(generation, to, &mut effects),
            Event::FetchFinished => self.fetch_finished(&mut effects),
            Event::FetchFailed(reason) => self.fetch_failed(now, reason, &mut effects),
            Event::VerifyPassed { attempts_max } => self.verify_passed(attempts_max, &mut effects),
            Event::VerifyFailed(reason) => self.verify_failed(reason, &mut effects),
            Event::SelfTestPassed => self.self_test_passed(&mut effects),
            Event::SelfTestFailed(reason) if self.phase == Phase::SelfTest => {
                self.reject(reason, &mut effects);
            }
            Event::ShadowPassed if self.phase == Phase::Shadow => self.start_trial(&mut effects),
            Event::ShadowFailed(reason) if self.phase == Phase::Shadow => {
                self.reject(reason, &mut effects);
            }
            Event::TrialPassed if self.phase == Phase::Trial => self.commit(&mut effects),
            Event::TrialFailed(reason) if self.phase == Phase::Trial => {
                self.go_back(reason, &mut effects);
            }
            Event::ActiveFailed(reason) => self.active_failed(reason, &mut effects),
            Event::TimerFired => self.timer_fired(now, &mut effects),
            Event::Stopping => {
                self.record.stop = Stop::Clean;
                self.persist(&mut effects);
            }
            _ => {}
        }
        effects
    }

    /// When to send [`Event::TimerFired`] if nothing else happens, on the clock of `step`.
    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Fetching { retry_at, .. } => retry_at,
            _ => None,
        }
    }

    /// What [`Effect::Persist`] writes.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The slot that answers, and what lies there.
    pub fn active(&self) -> Option<(SlotId, Digest)> {
        Some((self.record.active?, self.record.active_artifact()?))
    }

    /// The artifact on its way, and its slot.
    pub fn candidate(&self) -> Option<(SlotId, Digest)> {
        self.record.candidate.map(|candidate| (candidate.slot, candidate.artifact))
    }

    /// Where this model is.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Fetching { .. } => State::Fetching,
            Phase::Verifying => State::Verifying,
            Phase::SelfTest => State::SelfTest,
            Phase::Shadow => State::Shadow,
            Phase::Trial => State::Trial,
            Phase::Idle => self.record.outcome.map_or(State::Idle, |outcome| outcome.state),
        }
    }

    /// What keeps the candidate waiting, or why the last one was turned down.
    pub fn reason(&self) -> Option<Reason> {
        match self.phase {
            Phase::Fetching { waiting_for, .. } => waiting_for,
            Phase::Idle => self.record.outcome.and_then(|outcome| outcome.reason),
            _ => None,
        }
    }

    /// Once in a step and before everything else: what is written is the record after the step, and
    /// a second write would overwrite the place that holds the record before it.
    fn persist(&mut self, effects: &mut Effects) {
        if !effects.contains(&Effect::Persist) {
            self.record.seq += 1;
            effects.insert(0, Effect::Persist).expect("room for one more effect");
        }
    }

    /// Ends a candidate's way: what is remembered, then what is told.
    fn conclude(&mut self, state: State, artifact: Digest, reason: Option<Reason>) {
        self.record.candidate = None;
        self.record.outcome = Some(Outcome { state, artifact, reason });
        self.phase = Phase::Idle;
    }

    fn announce(&self, artifact: Digest, effects: &mut Effects) {
        let (state, reason) = (self.state(), self.reason());
        let announcement = Announcement { state, artifact: Some(artifact), reason };
        push(effects, Effect::Announce(announcement));
    }

    /// Tells how the newest assignment ended. The phase may be about something else: a first model
    /// stays on trial while another one is turned down.
    fn announce_outcome(&self, effects: &mut Effects) {
        let Some(Outcome { state, artifact, reason }) = self.record.outcome else { return };
        let announcement = Announcement { state, artifact: Some(artifact), reason };
        push(effects, Effect::Announce(announcement));
    }

    fn candidate_in(&self, stage: Stage) -> Option<Candidate> {
        self.record.candidate.filter(|candidate| candidate.stage == stage)
    }
}

fn push(effects: &mut Effects, effect: Effect) {
    effects.push(effect).expect("no step has more effects than the list holds");
}

/// Attempts for a candidate whose manifest has not been read yet.
const ATTEMPTS_MAX_DEFAULT: u8 = 3;

#[cfg(test)]
mod tests;
