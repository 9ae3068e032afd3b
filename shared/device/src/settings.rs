//! What a device is told when it starts, and the time that it is told with every input.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_lifecycle::Death;
use tidegate_trust::DeviceFacts;
use tidegate_wire::DeviceId;
use tidegate_wire::report::Status;

/// An instant by the device's two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of a clock that never goes back.
    pub ms: u64,
    /// Unix seconds by a clock that may be wrong, and may jump.
    pub unix: u64,
}

/// What a device is told once, when the agent starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub device: DeviceId,
    /// What it has, its labels among it.
    pub facts: DeviceFacts,
    /// Version of the agent, as the status says it.
    pub agent: String,
    /// Where its local API listens, `host:port`.
    pub api: String,
    /// Random, drawn at the start: two at a time mean two agents with one id.
    pub instance: u64,
    /// Random, drawn at the start: what the device draws its waits from.
    pub seed: u64,
    /// Milliseconds between two statuses when nothing changes.
    pub heartbeat_ms: u64,
    /// Milliseconds between two questions to the gate of a candidate in its shadow or on trial.
    pub judge_every_ms: u64,
    /// The most milliseconds that the first byte of an artifact may be waited for, so that the
    /// devices of one site do not choke its uplink.
    pub jitter_ms_max: u64,
    /// How the agent's last start ended, as far as the system tells.
    pub death: Death,
}

impl Settings {
    /// The status of a device that is gone: what the broker publishes in its name.
    pub fn offline(&self) -> Status {
        Status {
            device: self.device.clone(),
            agent: self.agent.clone(),
            online: false,
            instance: self.instance,
            labels: self.facts.labels.clone(),
            models: Vec::new(),
            api: self.api.to_string(),
            spooled: 0,
            dropped: 0,
            refused: Vec::new(),
        }
    }
}
