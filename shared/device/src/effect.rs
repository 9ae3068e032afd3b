//! What a shell does for a device.

use alloc::vec::Vec;

use tidegate_lifecycle::SlotId;
use tidegate_trust::Role;
use tidegate_wire::{Digest, ModelName, Reason};

/// What to do, in order.
pub type Effects = Vec<Effect>;

/// Something to do. What is not said to be answered is done when the next effect's turn comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The device follows this model from now on: until something answers, callers are told to wait.
    Follow {
        /// The model.
        model: ModelName,
    },
    /// Begin to bring an artifact into a slot; answered by [`crate::Outcome::Fetched`].
    Fetch {
        /// The model.
        model: ModelName,
        /// To be answered with.
        epoch: Epoch,
        /// What to bring where.
        order: Order,
    },
    /// End the download of this model: when the next effect's turn comes, it writes nothing more.
    StopFetch {
        /// The model.
        model: ModelName,
    },
    /// Remove what lies in a slot. What stays behind is checked like everything else.
    Erase {
        /// The model.
        model: ModelName,
        /// Which slot.
        slot: SlotId,
    },
    /// Begin to check every byte in a slot; answered by [`crate::Outcome::Verified`].
    Verify {
        /// The model.
        model: ModelName,
        /// To be answered with.
        epoch: Epoch,
        /// Where.
        slot: SlotId,
        /// What should lie there.
        artifact: Digest,
    },
    /// Begin to check every byte in a slot, load it and run its golden set; answered by
    /// [`crate::Outcome::Tested`].
    SelfTest {
        /// The model.
        model: ModelName,
        /// To be answered with.
        epoch: Epoch,
        /// Where.
        slot: SlotId,
        /// What should lie there.
        artifact: Digest,
    },
    /// Show live inputs to the candidate that passed its self-test, counted from zero.
    StartShadow {
        /// The model.
        model: ModelName,
    },
    /// End a shadow, and let go of a candidate that is loaded or being loaded.
    DropCandidate {
        /// The model.
        model: ModelName,
    },
    /// Let this artifact answer from now on, unless it does already. The candidate and what answered
    /// before it are at hand; anything else is checked, every byte, and loaded from the slot. If
    /// that fails, what answers stays and [`crate::Input::ActivationFailed`] follows.
    Activate {
        /// The model.
        model: ModelName,
        /// Where.
        slot: SlotId,
        /// What.
        artifact: Digest,
    },
    /// Let nothing answer any more.
    Deactivate {
        /// The model.
        model: ModelName,
    },
    /// Tell callers why nothing answers, until something does.
    TellAbsence {
        /// The model.
        model: ModelName,
        /// Why, if more than time is missing.
        reason: Option<Reason>,
    },
    /// Count from zero what the active model does on probation.
    StartTrial {
        /// The model.
        model: ModelName,
    },
    /// Ask a gate; answered at once by [`crate::Input::Judged`], unless nobody is before it.
    Judge {
        /// The model.
        model: ModelName,
        /// Which gate.
        gate: Gate,
    },
    /// Let go of what answered before the active model: there is no way back to it any more.
    ForgetPrevious {
        /// The model.
        model: ModelName,
    },
    /// Begin to fetch a metadata file; answered by [`crate::Input::Metadata`].
    AskMetadata {
        /// Whose.
        role: Role,
        /// Its version; None is the newest.
        version: Option<u64>,
        /// Bytes at most.
        length_max: usize,
    },
    /// Hand this to the link; answered by [`crate::Input::NotTaken`] if it has no room.
    Publish {
        /// What it is.
        publication: Publication,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// It is not earlier than this, Unix seconds.
    RaiseTimeFloor(u64),
}

/// Tells late answers apart: it rises whenever work for a model is begun or let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What to bring where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The artifact: its manifest's digest.
    pub artifact: Digest,
    /// The manifest's length as it was signed, bytes. None: its digest alone must do.
    pub manifest_length: Option<u64>,
    /// The slot; files may be linked from the other one.
    pub slot: SlotId,
    /// How long to wait before the first byte, milliseconds.
    pub delay_ms: u64,
}

/// What a candidate has to pass on live inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It is shown them.
    Shadow,
    /// It answers them.
    Trial,
}

/// What is handed to the link, always on the device's own topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// The report with this number, on [`tidegate_wire::topic::Topic::Report`].
    Report(u64),
    /// The status, on [`tidegate_wire::topic::Topic::Status`], which the broker keeps.
    Status,
}
