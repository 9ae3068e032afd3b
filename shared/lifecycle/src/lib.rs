//! What runs on a device, and the only code that says so: one pure state machine per model, and
//! the durable record that brings it back after any crash.
//!
//! ```text
//! Idle → Fetching → Verifying → SelfTest → Shadow → Trial → Committed
//!           └───────────┴──────────┴─────────┴────────┴→ Rejected(reason) / Reverted(reason)
//! ```
//!
//! [`Machine::step`] takes an event and answers with [`Effects`], which the shell carries out in
//! order. [`Effect::Persist`] comes before whatever depends on it, so a power cut between any two
//! effects loses at most work, never the truth about what is safe to run. [`Machine::recover`] is
//! the only way back after a restart.
//!
//! Deliberately absent: fetching, checking signatures, loading and running models, files, clocks.
//! Those are the shell's, which reports how they went as events. Invariants, by name:
//!
//! - *runnable-model*: once a model was committed, [`Machine::active`] always names a slot whose
//!   content was verified, unless it was revoked or damaged and there is no other.
//! - *old-model-stays*: the slot of the active model is never erased or filled.
//! - *generations-rise*: [`Record::generation`] never falls.
//! - *no-second-try*: a rejected artifact is not tried again before a rollout that began later.
//! - *revoked-never-runs*: no slot of the record holds an artifact that it knows to be revoked, and
//!   none is fetched, loaded or gone back to.
//! - *never-below-floor*: no directive brings in a release below [`Limits::floor`]; only the
//!   device's own way back, out of a trial or off a revoked or damaged model, may lead there.
//!
//! ```
//! use tidegate_lifecycle::{Assignment, Effect, Event, Limits, Machine, SlotId};
//! use tidegate_wire::{Digest, Generation};
//!
//! let (mut machine, _) = Machine::recover(None, &Limits::NONE);
//! let artifact = Digest::of(b"a manifest");
//! let assignment = Assignment { artifact, since: Generation(1), installable: Ok(1) };
//! let effects = machine.step(0, Event::Directed { generation: Generation(1), to: Some(assignment) });
//! assert_eq!(effects[0], Effect::Persist);
//! assert!(effects.contains(&Effect::Fetch { slot: SlotId::A, artifact }));
//! ```
#![no_std]

pub mod gates;
pub mod humility;
mod limits;
mod machine;
mod record;

pub use limits::{Limits, REVOCATIONS_MAX};
pub use machine::{Announcement, Assignment, Death, Effect, Effects, Event, Machine};
pub use record::{
    Candidate, DamagedRecord, Origin, Outcome, RECORD_LEN, Record, Rejection, Slot, SlotId, Stage,
    Stop, newest,
};
