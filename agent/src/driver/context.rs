//! What all models of a device share.

use std::sync::Arc;
use std::time::Duration;

use tidegate_trust::{AgentVersion, DeviceFacts, EngineFacts, Trusted};
use tidegate_wire::{DeviceId, Labels};

use super::reports::Reports;
use super::tasks::Answers;
use crate::clock::Clock;
use crate::engine;
use crate::fetch::Pace;
use crate::memory;
use crate::serving::Serving;
use crate::store::Store;
use crate::tls::TimeFloor;
use crate::upstream::Upstream;

/// What all models of a device share.
pub(super) struct Context {
    pub(super) device: DeviceId,
    pub(super) facts: DeviceFacts,
    pub(super) store: Store,
    pub(super) trusted: Trusted,
    pub(super) serving: Arc<Serving>,
    pub(super) reports: Reports,
    pub(super) upstream: Upstream,
    pub(super) floor: TimeFloor,
    pub(super) pace: Arc<Pace>,
    pub(super) jitter_max: Duration,
    pub(super) answers: Answers,
    pub(super) clock: Clock,
    /// The retained status at the broker is out of date.
    pub(super) status_due: bool,
}

/// What this device has, for the requirements of artifacts.
pub(super) fn device_facts(labels: &Labels) -> DeviceFacts {
    let opset_max = *engine::ONNX_OPSETS.end();
    let engine = EngineFacts { name: engine::TRACT_ONNX.to_string(), opset_max };
    let agent: AgentVersion =
        env!("CARGO_PKG_VERSION").parse().expect("the crate's version has three numbers");
    DeviceFacts { engines: vec![engine], agent, memory_mib: memory::mib(), labels: labels.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_knows_what_it_has() {
        let facts = device_facts(&Labels::new());
        assert!(facts.memory_mib > 16 && facts.memory_mib < u32::MAX);
        assert_eq!(
            (facts.engines[0].name.as_str(), facts.engines[0].opset_max),
            ("tract-onnx", 18)
        );
        assert_eq!(facts.agent.to_string(), env!("CARGO_PKG_VERSION"));
    }
}
