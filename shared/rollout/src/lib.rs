//! Waves, cohorts, gates: how a new artifact reaches a fleet, and how it is taken back.
//!
//! - [`Policy`] says in which waves, and when a wave is good or bad. It is read from TOML.
//! - [`start`] makes a [`Rollout`], a value that the controller journals.
//! - [`plan`] looks at the fleet and says what to do *now*: open a wave, hold, take back, complete;
//!   with the directive to sign and with every reason. It is a pure function.
//! - [`check`] reviews a plan before it is carried out, without the planner's arithmetic: it
//!   evaluates the directive's rules device by device, as the devices will.
//! - [`pause`], [`resume`], [`promote`], [`revert`], [`cancel`] are what operators do.
//!
//! A wave is one directive: every device computes from it whether it takes part. A device that
//! joins later falls into place by itself: a wave is exact when it opens and may grow later.
//!
//! # What it deliberately does not do
//!
//! It has no clock, no IO and no randomness: time is an argument (Unix milliseconds), salts come in
//! from outside. It signs nothing and sends nothing. It keeps no list of members: membership is
//! arithmetic over ids. It never decides on a bool, and never takes missing data for good data.
//!
//! # Example
//!
//! ```
//! use tidegate_rollout::{
//!     ArtifactFacts, Decision, DeviceView, Evidence, FleetView, Known, Policy, Presence, Progress,
//!     RolloutId, Start, World, check, plan, start,
//! };
//! use tidegate_wire::{ArtifactRef, Digest, Generation};
//!
//! let artifact = |version: &str| ArtifactRef {
//!     digest: Digest::of(version.as_bytes()),
//!     version: version.parse().unwrap(),
//! };
//! let (old, new) = (artifact("1.0.0"), artifact("1.1.0"));
//! let facts = ArtifactFacts::default().with(&old, Known::Signed).with(&new, Known::Signed);
//! let fleet: FleetView = (0..12)
//!     .map(|n| DeviceView {
//!         id: format!("device-{n}").parse().unwrap(),
//!         labels: Default::default(),
//!         joined_ms: 0,
//!         presence: Presence::Online,
//!         progress: Progress::Untouched,
//!     })
//!     .collect();
//!
//! let request = Start {
//!     id: RolloutId(1),
//!     fleet: "plant".parse()?,
//!     model: "digits".parse()?,
//!     from: Some(old),
//!     to: new,
//!     policy: Policy::default(),
//!     salt: *b"sixteen, random.",
//!     standing: vec![],
//!     last: Generation(0),
//! };
//! let rollout = start(request, None, &facts, 1_000)?;
//! let evidence = Evidence::default();
//! let world = World { fleet: &fleet, evidence: &evidence, facts: &facts, directed: &[] };
//! let plan = plan(&rollout, &world, 1_000);
//! check(&rollout, &plan, &fleet, &facts)?;
//!
//! assert_eq!(plan.decision, Decision::OpenFirstWave);
//! assert_eq!(plan.to_string(), "open wave 1 of 4: 2 devices");
//! let directive = plan.directive.unwrap();
//! let taken = fleet.devices().iter().filter(|d| directive.rules[0].takes(&d.id, &d.labels));
//! assert_eq!(taken.count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;

mod check;
mod cohort;
mod command;
mod compare;
mod facts;
mod fleet;
mod gate;
mod percent;
mod planner;
mod policy;
mod rollout;
mod tally;
mod text;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use check::{Violation, check};
pub use cohort::Cohort;
pub use command::{
    CommandError, STANDING_MAX, Start, StartError, cancel, pause, promote, resume, revert, start,
};
pub use compare::{
    Comparison, Evidence, Figures, Group, Inputs, Metric, Outcome, Skip, comparisons, samples,
};
pub use facts::{ArtifactFacts, Known};
pub use fleet::{DeviceView, FleetView, Presence, Progress};
pub use gate::{Cause, HoldReason, Judgement, Verdict, committed_needed, judge};
pub use percent::Percent;
pub use planner::{Decision, Plan, Settled, World, plan};
pub use policy::{
    Gate, OnInputDrift, OnRegression, Policy, PolicyError, Unreached, WAVES_MAX, Wave, WaveSize,
};
pub use rollout::{Act, Rollout, RolloutId, Status, WaveRecord};
pub use tally::{MemberState, Tally, WaveProgress, WaveStage, member_state, progress};
pub use text::Devices;
