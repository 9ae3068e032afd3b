//! What goes over the HTTP API as JSON, in both directions. Server and command line share it.
//!
//! All times are Unix milliseconds unless a name says otherwise. Digests are 64 hexadecimal
//! digits. Unknown fields of requests are refused, unknown fields of responses are skipped, so an
//! older command line understands a newer server.

mod access;
mod trust;

pub use access::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use tidegate_control::books::ReportCounts;
pub use tidegate_control::planner::{DecisionView, RolloutCommand, RolloutStart};
use tidegate_wire::directive::Directive;
use tidegate_wire::report::Feedback;
use tidegate_wire::{
    ArtifactRef, DeviceId, Digest, FleetId, Generation, Labels, ModelName, Reason, State, Version,
};

pub use trust::*;

/// Body of every response that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What happened, to what, and what to do next.
    pub error: String,
}

/// `GET /healthz`, without a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The fleet.
    pub fleet: FleetId,
    /// Version of the controller.
    pub version: String,
    /// Whether the controller's own session at the broker is up.
    pub broker: bool,
}

/// A reason code with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonText {
    /// The number that travels.
    pub code: u16,
    /// What a person reads.
    pub text: String,
}

impl From<Reason> for ReasonText {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code(), text: reason.text().to_owned() }
    }
}

/// `GET /v1/fleet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSummary {
    /// The fleet.
    pub fleet: FleetId,
    /// Devices enrolled and not removed.
    pub devices: u32,
    /// Those among them whose session is up.
    pub online: u32,
    /// Models with at least one signed release.
    pub models: u32,
    /// Rollouts that run or are paused.
    pub open_rollouts: u32,
    /// What became of the devices' reports.
    pub reports: ReportCounts,
    /// What must be done soon, for people.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// By name.
    pub models: Vec<ModelSummary>,
}

/// One model in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Its name.
    pub model: ModelName,
    /// Its signed versions, in the order of their release numbers.
    pub versions: Vec<VersionSummary>,
    /// The rollout that runs or is paused, if there is one.
    pub open_rollout: Option<u64>,
}

/// One signed version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionSummary {
    /// The publisher's name for it.
    pub version: Version,
    /// SHA-256 of its manifest.
    pub digest: Digest,
    /// Its release number.
    pub release: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What runs it.
    pub engine: String,
    /// Why the publishers revoked it, if they did.
    pub revoked: Option<String>,
    /// Devices that it answers on.
    pub devices: u32,
    /// Whether it may be rolled out, or waits for publishers' signatures.
    pub state: ReleaseState,
    /// Who signed the release metadata that names it, and who has not.
    pub signatures: Signatures,
    /// What it answered, on all devices together.
    #[serde(default)]
    pub answers: Answers,
}

/// What an artifact answered, as reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Inferences answered.
    pub rows: u64,
    /// Inferences that failed.
    pub errors: u64,
    /// Requests refused because they do not fit the model's inputs.
    pub bad_inputs: u64,
    /// Rows to which each humility rule applied, by its name.
    pub humility: BTreeMap<String, u64>,
    /// What came of labels that applications sent.
    pub feedback: Feedback,
}

/// How far a release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// Enough publishers signed it.
    Released,
    /// It waits for signatures; nothing can be rolled out.
    Pending,
}

/// `GET /v1/models/{model}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: ModelSummary,
    /// What the fleet is directed to now.
    pub directive: Option<Directive>,
    /// Its rollouts, the newest first: the history of what was in production when.
    pub rollouts: Vec<RolloutSummary>,
}

/// `POST /v1/rollouts/{id}/{pause|resume|promote|revert|cancel}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutAct {
    /// Why, for the audit log.
    pub why: String,
}

/// `GET /v1/rollouts`, optionally with `?model=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutList {
    /// The newest first.
    pub rollouts: Vec<RolloutSummary>,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutStatus {
    /// Waves open as their gates allow.
    Running,
    /// No wave opens until an operator resumes.
    Paused,
    /// The last wave was committed and soaked.
    Completed,
    /// Everybody was directed back.
    Reverted,
    /// Stopped where it was.
    Cancelled,
}

impl RolloutStatus {
    /// One word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Reverted => "reverted",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it is still under way.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// One rollout in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Its number.
    pub id: u64,
    /// The model.
    pub model: ModelName,
    /// What the devices had before; none for a first install.
    pub from: Option<Version>,
    /// What they are to have.
    pub to: Version,
    /// Where it is.
    pub status: RolloutStatus,
    /// Why it was reverted.
    pub reason: Option<ReasonText>,
    /// The figures behind the reason, or the operator's words; empty if there are none.
    pub detail: String,
    /// The present wave, from 0; none before the first one is opened.
    pub wave: Option<usize>,
    /// Waves in its policy.
    pub waves: usize,
    /// Devices that the present wave takes.
    pub members: u32,
    /// Those among them that committed.
    pub committed: u32,
    /// Those among them that failed or timed out.
    pub failed: u32,
    /// When it was started.
    pub started_ms: u64,
    /// When it came to its end.
    pub ended_ms: Option<u64>,
    /// Who started it.
    pub by: String,
    /// In their words.
    pub why: String,
}

/// `GET /v1/rollouts/{id}`, and the answer to every command about a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: RolloutSummary,
    /// What it brings.
    pub artifact: ArtifactRef,
    /// The newest generation issued for the model by it.
    pub generation: Generation,
    /// Every wave, planned ones included. Counts include the devices of earlier waves.
    pub progress: Vec<WaveProgress>,
    /// What the planner decided last, and what it waits for.
    pub decision: DecisionView,
    /// What was compared with the control devices.
    pub comparisons: Vec<ComparisonView>,
    /// Every device that the policy selects, by id.
    pub devices: Vec<RolloutDevice>,
}

/// One wave for a progress bar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveProgress {
    /// From 0.
    pub wave: usize,
    /// As the policy has it: `2 devices`, `50 %`.
    pub size: String,
    /// How far it is.
    pub stage: WaveStage,
    /// Milliseconds that it must still soak, while it soaks.
    pub soak_left_ms: Option<u64>,
    /// When it was opened.
    pub opened_ms: Option<u64>,
    /// When enough of its devices had committed for the first time.
    pub committed_ms: Option<u64>,
    /// Its devices by what became of them.
    pub counts: WaveCounts,
}

/// How far a wave is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaveStage {
    /// Not opened yet.
    Planned,
    /// Its devices are on their way.
    Open,
    /// Enough have committed; it must stay healthy a little longer.
    Soaking,
    /// Committed and soaked; it waits for comparisons or an operator.
    Soaked,
    /// The next wave is open, or the rollout is completed.
    Done,
    /// The rollout ended before the wave was done.
    Stopped,
}

impl WaveStage {
    /// One word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Open => "open",
            Self::Soaking => "soaking",
            Self::Soaked => "soaked",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }
}

/// A wave's devices by what became of them. `members` is the sum of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveCounts {
    /// All that it takes.
    pub members: u32,
    /// Run the new artifact, committed.
    pub committed: u32,
    /// Turned it down.
    pub failed: u32,
    /// Took too long.
    pub timed_out: u32,
    /// Were offline and had not begun when their time was up.
    pub set_aside: u32,
    /// Are offline.
    pub offline: u32,
    /// Are online and have not begun.
    pub not_started: u32,
    /// Are on their way, by state, in the order of the way.
    pub working: Vec<StateCount>,
}

/// Devices in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    /// The state.
    pub state: State,
    /// How many.
    pub devices: u32,
}

/// One metric of the devices with the new artifact against the control devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonView {
    /// What was compared: `predictions`, `confidence`, `error rate`, `inputs`.
    pub metric: String,
    /// What came of it: `pass`, `inconclusive`, `regressed`, `drifted`, `skipped`.
    pub outcome: String,
    /// The figures, or why there is nothing to compare.
    pub text: String,
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutDevice {
    /// Its id.
    pub device: DeviceId,
    /// The wave that took it, from 0; none if no open wave takes it.
    pub wave: Option<usize>,
    /// Whether it is held back to compare with until the last wave.
    pub control: bool,
    /// Whether its session is up.
    pub online: bool,
    /// `waiting` (no wave takes it), `not-started`, `fetching` … `trial`, `committed`, `failed`,
    /// `timed-out`, `set-aside`, `offline`.
    pub state: String,
    /// Why it failed.
    pub reason: Option<ReasonText>,
    /// The figures behind the reason, as the device gave them; empty if there are none.
    pub detail: String,
    /// What answers now.
    pub active: Option<Version>,
    /// Whether the new artifact ever answered anyone on it, on trial included.
    pub ever_served: bool,
}

/// `GET /v1/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// By id.
    pub devices: Vec<DeviceSummary>,
}

/// One device in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSummary {
    /// Its id.
    pub device: DeviceId,
    /// Whether its session is up.
    pub online: bool,
    /// Its labels: what it said of itself when it enrolled, and what its token added.
    pub labels: Labels,
    /// Version of its agent.
    pub agent: String,
    /// Where its HTTP API listens, `host:port`; empty if it has not said so.
    pub api: String,
    /// When it enrolled.
    pub joined_ms: u64,
    /// When it was last heard of; none if never.
    pub seen_ms: Option<u64>,
    /// Reports waiting in its spool, as it said last.
    pub spooled: u64,
    /// Reports that it dropped because its spool was full.
    pub dropped: u64,
    /// Where it is with each model.
    pub models: Vec<DeviceModel>,
    /// What an operator should look at, for example two agents with this id; newest last.
    pub warnings: Vec<String>,
    /// When its newest certificate expires; it renews that by itself.
    #[serde(default)]
    pub certificate_expires_ms: Option<u64>,
    /// How it was shut out, if it was.
    #[serde(default)]
    pub revoked: Option<RevokedView>,
}

/// That a device was shut out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedView {
    /// When.
    pub at_ms: u64,
    /// Who did it.
    pub by: String,
    /// In their words.
    pub why: String,
}

/// `POST /v1/devices/{id}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeDevice {
    /// Why, for the audit log.
    pub why: String,
}

/// Where a device is with one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceModel {
    /// The model.
    pub model: ModelName,
    /// The newest directive that it follows.
    pub generation: Generation,
    /// Where it is.
    pub state: State,
    /// What answers.
    pub active: Option<Version>,
    /// What is on its way.
    pub candidate: Option<Version>,
    /// Why the last candidate was turned down.
    pub reason: Option<ReasonText>,
}

/// `GET /v1/devices/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: DeviceSummary,
    /// What became of its reports.
    pub reports: ReportCounts,
    /// What was turned away of what it sent, since the controller started.
    #[serde(default)]
    pub rejected: Vec<RejectedCount>,
    /// What its artifacts answered.
    pub served: Vec<Served>,
    /// Its last steps, the newest first.
    pub transitions: Vec<TransitionView>,
}

/// What one artifact answered on one device, as reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: Version,
    /// Inferences answered.
    pub rows: u64,
    /// Inferences that failed.
    pub errors: u64,
    /// First window's start.
    pub first_ms: u64,
    /// Last window's end.
    pub last_ms: u64,
    /// Median time in the engine, microseconds, from a histogram: within 25 %.
    pub median_us: f64,
    /// Requests refused because they do not fit the model's inputs.
    #[serde(default)]
    pub bad_inputs: u64,
    /// Rows to which each humility rule applied, by its name.
    #[serde(default)]
    pub humility: BTreeMap<String, u64>,
    /// What came of labels that applications sent.
    #[serde(default)]
    pub feedback: Feedback,
}

/// A step on a model's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionView {
    /// By the device's clock.
    pub at_ms: u64,
    /// The model.
    pub model: ModelName,
    /// The directive that it follows.
    pub generation: Generation,
    /// What it is about.
    pub version: Option<Version>,
    /// The state it went to.
    pub state: State,
    /// What answered then.
    pub active: Option<Version>,
    /// Why, if it is a refusal.
    pub reason: Option<ReasonText>,
    /// The figures behind the reason.
    pub detail: String,
}

/// `POST /v1/device-tokens`: lets devices in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceTokenRequest {
    /// Labels that every device which comes with it gets, over what it says of itself.
    #[serde(default)]
    pub labels: Labels,
    /// Devices that it lets in.
    pub uses: u32,
    /// Seconds from now until it lets nobody in any more.
    pub expires_seconds: u64,
    /// Why, for the audit log.
    #[serde(default)]
    pub why: String,
}

/// Versions of published metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetsPublished {
    /// Version of the targets metadata.
    pub targets: u64,
    /// Version of the snapshot that names it.
    pub snapshot: u64,
    /// Version of the timestamp that names that.
    pub timestamp: u64,
}

/// Answer to `PUT /v1/blobs/{digest}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStored {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub length: u64,
}
