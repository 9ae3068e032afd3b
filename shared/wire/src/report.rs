//! What devices tell the controller: reports, which are stored until acknowledged, and a retained
//! status.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_drift::{LatencySummary, NumericSummary, OutputSummary};

use crate::envelope::Message;
pub use crate::feedback::Feedback;
use crate::{ArtifactRef, DeviceId, Digest, FleetId, Generation, Labels, ModelName, Reason, State};

/// One entry of a device's spool. `(device, spool, seq)` names it for ever; the controller counts
/// it once, however often it arrives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The sender's fleet.
    pub fleet: FleetId,
    /// The sender.
    pub device: DeviceId,
    /// A random number drawn when the device's spool was made.
    pub spool: u64,
    /// Rises by one from 0 in one spool.
    pub seq: u64,
    /// The lowest number that the spool still holds: lower ones will never come again.
    pub oldest: u64,
    /// Reports that this spool has dropped unsent because it was full.
    pub dropped: u64,
    /// When it was made, Unix seconds by the device's clock.
    pub at: u64,
    /// What it says.
    pub body: Body,
}

impl Message for Report {
    const KIND: &'static str = "report";
    /// A thousand features of at most 120 bytes, with room.
    const SIZE_MAX: usize = 160 * 1024;
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)] // Reports are encoded at once and never kept in numbers.
pub enum Body {
    /// A closed window of inferences.
    Window(Window),
    /// A step on a model's way.
    Transition(Transition),
}

/// What one artifact did between two instants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The model.
    pub model: ModelName,
    /// What answered.
    pub artifact: ArtifactRef,
    /// The start of the agent, and the window within it.
    pub boot: u64,
    /// Rises by one from 0 in one boot.
    pub window: u64,
    /// First inference, Unix seconds.
    pub opened: u64,
    /// Last inference, Unix seconds.
    pub closed: u64,
    /// Rows answered.
    pub rows: u64,
    /// Inferences that failed in the engine.
    pub errors: u64,
    /// Digest of the drift reference file that the features were binned by.
    pub reference: Option<Digest>,
    /// One per feature of the reference.
    pub features: Vec<NumericSummary>,
    /// Of the first output, if the model is a classifier.
    pub outputs: Option<OutputSummary>,
    /// Time in the engine.
    pub latency: LatencySummary,
    /// Requests that were refused because they do not fit the model's inputs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_inputs: u64,
    /// Rows to which each humility rule applied, by the rule's name; rules that applied to none are
    /// not in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub humility: BTreeMap<String, u64>,
    /// What came of labels that applications sent since the last window, if any came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A device's model went from one state to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The model.
    pub model: ModelName,
    /// The directive that it follows.
    pub generation: Generation,
    /// What it is about: the candidate, or the active artifact if there is no candidate.
    pub artifact: Option<ArtifactRef>,
    /// The state it is in now.
    pub state: State,
    /// What answers now.
    pub active: Option<ArtifactRef>,
    /// Why, if it is a refusal.
    pub reason: Option<Reason>,
    /// The figures behind the reason, for people; at most 200 bytes.
    pub detail: String,
}

/// What a device says of itself, retained, so that a controller that starts knows at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The sender.
    pub device: DeviceId,
    /// Version of the agent.
    pub agent: String,
    /// Whether it is connected; the broker sends `false` on its behalf when it is gone.
    pub online: bool,
    /// Random, drawn at the agent's start: two at a time mean two agents with one id.
    pub instance: u64,
    /// Its labels.
    pub labels: Labels,
    /// One per model.
    pub models: Vec<ModelStatus>,
    /// Where its HTTP API listens, `host:port`.
    pub api: String,
    /// Reports waiting in the spool.
    pub spooled: u64,
    /// Reports dropped because the spool was full.
    pub dropped: u64,
    /// What it was sent and did not believe, until something better came; at most
    /// [`Refusal::COUNT_MAX`].
    #[serde(default)]
    pub refused: Vec<Refusal>,
}

/// Signed bytes that a device did not believe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What they were to be, as in `timestamp metadata` or `directive for digits`.
    pub what: String,
    /// Why they were refused.
    pub reason: Reason,
    /// The figures behind it, for people; at most [`Refusal::DETAIL_MAX`] bytes.
    pub detail: String,
}

impl Refusal {
    /// Refusals in a status: with all the models that a device may have they fit its size.
    pub const COUNT_MAX: usize = 8;
    /// Bytes of the detail.
    pub const DETAIL_MAX: usize = 200;
}

impl core::fmt::Display for Refusal {
    /// One line for an operator.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { what, reason, detail } = self;
        write!(f, "{what} refused: {} (reason {}): {detail}", reason.text(), reason.code())
    }
}

impl Message for Status {
    const KIND: &'static str = "status";
    const SIZE_MAX: usize = 16 * 1024;
}

/// Where a device is with one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The model.
    pub model: ModelName,
    /// The newest directive that it follows.
    pub generation: Generation,
    /// Where it is.
    pub state: State,
    /// What answers.
    pub active: Option<ArtifactRef>,
    /// What is on its way.
    pub candidate: Option<ArtifactRef>,
    /// Why the last candidate was turned down.
    pub reason: Option<Reason>,
}

/// The controller has stored these reports; the device may forget them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The spool that they came from.
    pub spool: u64,
    /// First and last number of each run.
    pub seqs: Vec<(u64, u64)>,
}

impl Message for Ack {
    const KIND: &'static str = "ack";
    const SIZE_MAX: usize = 16 * 1024;
}
