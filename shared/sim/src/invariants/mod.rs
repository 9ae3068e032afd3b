//! What must always be so, each in a file of its own, with a name.
//!
//! A checker keeps its own books and does its own arithmetic: it must not believe what it checks.
//! It is shown everything that happens ([`Seen`]), and looks at what concerns it.

mod bad_model_stops;
mod blast_radius;
mod count_once;
mod decisions_stay;
mod every_operation_ends;
mod generations_rise;
mod liveness;
mod nothing_forbidden_active;
mod runnable_model;
mod sketches_add_up;
mod trust_rises;
mod views_agree;

use tidegate_control::Entry;
use tidegate_wire::report::{Ack, Report};
use tidegate_wire::{DeviceId, Digest};

pub use liveness::LIVENESS_HOURS;

use crate::world::World;

/// What happened, as far as checkers care.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A machine joined the fleet, or a twin of one.
    Joined {
        /// Which.
        node: usize,
    },
    /// An agent started, and has done nothing yet.
    Booted {
        /// Where.
        node: usize,
    },
    /// An agent took a step; its effects were not carried out yet.
    Stepped {
        /// Where.
        node: usize,
    },
    /// Something else answers now.
    Activated {
        /// Where.
        node: usize,
        /// What.
        artifact: Digest,
    },
    /// An agent has done all that followed from what happened.
    Settled {
        /// Where.
        node: usize,
    },
    /// An agent told its status.
    Told {
        /// Where.
        node: usize,
    },
    /// A machine got its disk back as it was some time ago.
    Restored {
        /// Which.
        node: usize,
    },
    /// The controller decided something.
    Decided {
        /// As it is journaled.
        entry: &'a Entry,
    },
    /// Reports are about to be taken in.
    Arriving {
        /// Them.
        reports: &'a [Report],
    },
    /// What was taken in is stored.
    Stored,
    /// It is not: the disk is full.
    NotStored,
    /// Reports are acknowledged.
    Acknowledged {
        /// Whose.
        device: &'a DeviceId,
        /// Which.
        ack: &'a Ack,
    },
    /// The controller started, with these decisions in its journal.
    ControllerBooted {
        /// All of them.
        entries: &'a [Entry],
    },
    /// The controller does not start from its disk.
    ControllerRefuses {
        /// In its words.
        detail: &'a str,
        /// What is wrong with its disk.
        disk: DiskState,
    },
    /// The controller's process ended.
    ControllerGone,
    /// The run is over; everything was quiet for long enough.
    Ended,
}

/// Whether a disk takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// It does.
    Sound,
    /// It is full.
    Full,
}

/// What a checker says of something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It does not concern it.
    Nothing,
    /// It looked, and all is well.
    Held,
    /// It must not be so, for this reason.
    Broken(String),
}

impl Finding {
    /// Held, unless there is something wrong.
    fn of(wrong: Option<String>) -> Self {
        wrong.map_or(Self::Held, Self::Broken)
    }
}

/// Something that must always be so.
pub trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// What it says, in one sentence.
    fn says(&self) -> &'static str;

    /// Looks at what happened.
    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding;
}

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// When, milliseconds since the start.
    pub at_ms: u64,
    /// How.
    pub detail: String,
}

/// All checkers.
pub struct Checks {
    checkers: Vec<(Box<dyn Invariant>, u64)>,
    /// The first thing that went wrong.
    pub violation: Option<Violation>,
}

impl Default for Checks {
    fn default() -> Self {
        let checkers = all().into_iter().map(|checker| (checker, 0)).collect();
        Self { checkers, violation: None }
    }
}

/// Every invariant, with empty books.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<runnable_model::RunnableModel>::default(),
        Box::<nothing_forbidden_active::NothingForbiddenActive>::default(),
        Box::<blast_radius::BlastRadius>::default(),
        Box::<generations_rise::GenerationsRise>::default(),
        Box::<trust_rises::TrustRises>::default(),
        Box::<bad_model_stops::BadModelStops>::default(),
        Box::<count_once::CountOnce>::default(),
        Box::<sketches_add_up::SketchesAddUp>::default(),
        Box::<decisions_stay::DecisionsStay>::default(),
        Box::<every_operation_ends::EveryOperationEnds>::default(),
        Box::<views_agree::ViewsAgree>::default(),
        Box::<liveness::Liveness>::default(),
    ]
}

impl Checks {
    /// Shows something to every checker. The first thing that is wrong stays.
    pub fn look(&mut self, seen: &Seen<'_>, world: &World) {
        if self.violation.is_some() {
            return;
        }
        for (checker, count) in &mut self.checkers {
            match checker.look(seen, world) {
                Finding::Nothing => {}
                Finding::Held => *count += 1,
                Finding::Broken(detail) => {
                    let (invariant, at_ms) = (checker.name(), world.now_ms());
                    self.violation = Some(Violation { invariant, at_ms, detail });
                    return;
                }
            }
        }
    }

    /// How often each invariant was looked at.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.checkers.iter().map(|(checker, count)| (checker.name(), *count)).collect()
    }
}
