//! What happens to a device.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_lifecycle::gates::Verdict;
use tidegate_wire::report::Window;
use tidegate_wire::topic::Topic;
use tidegate_wire::{Digest, ModelName, Reason};

use crate::effect::{Epoch, Gate, Publication};

/// What happened.
#[allow(clippy::large_enum_variant)] // Few exist at a time, and not for long.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The link is up, and all topics were asked for again.
    LinkUp,
    /// It is not any more.
    LinkDown,
    /// A message came.
    Message {
        /// Where.
        topic: Topic,
        /// What; nothing of it was checked.
        payload: Vec<u8>,
    },
    /// The link had no room for a publication.
    NotTaken(Publication),
    /// What came of [`crate::Effect::AskMetadata`].
    Metadata(tidegate_trust::Event),
    /// What came of a piece of work.
    Answer {
        /// The model that it was for.
        model: ModelName,
        /// As in the effect.
        epoch: Epoch,
        /// What came of it.
        outcome: Outcome,
    },
    /// [`crate::Effect::Activate`] could not be carried out.
    ActivationFailed {
        /// The model.
        model: ModelName,
        /// What should have answered.
        artifact: Digest,
        /// What answers, as before.
        still: Option<Digest>,
        /// Why.
        fault: Fault,
    },
    /// What a gate says, as [`crate::Effect::Judge`] asked.
    Judged {
        /// The model.
        model: ModelName,
        /// Which gate.
        gate: Gate,
        /// What it says.
        verdict: Verdict,
        /// The figures, for people.
        detail: String,
    },
    /// A closed window. To be handed over only while [`crate::Device::takes_windows`], or after
    /// [`Input::Stopping`].
    Window(Window),
    /// The time of [`crate::Device::deadline`] has come.
    Tick,
    /// The agent was asked to stop. Its last windows may follow, and nothing else but
    /// [`Input::Stopped`].
    Stopping,
    /// Nothing answers any more, and all windows were handed over.
    Stopped,
}

/// What came of a piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of [`crate::Effect::Fetch`].
    Fetched(Result<(), Fault>),
    /// Of [`crate::Effect::Verify`]: from the manifest, how many starts a candidate may use up.
    Verified(Result<u8, Fault>),
    /// Of [`crate::Effect::SelfTest`]: the figures, for people. The shell keeps the candidate
    /// loaded if it passed.
    Tested(Result<String, Fault>),
}

/// Something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The reason code that travels.
    pub reason: Reason,
    /// What happened, for people.
    pub detail: String,
}
