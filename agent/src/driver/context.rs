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
use crate::serving::Serving;
use crate::store::Store;
use crate::upstream::Upstream;

/// The newest ONNX operator set that the engine knows. Newer ones may load too; an operator that it
/// lacks is found by the self-test.
const ONNX_OPSET_MAX: u32 = 21;

/// What all models of a device share.
pub(super) struct Context {
    pub(super) device: DeviceId,
    pub(super) facts: DeviceFacts,
    pub(super) store: Store,
    pub(super) trusted: Trusted,
    pub(super) serving: Arc<Serving>,
    pub(super) reports: Reports,
    pub(super) upstream: Upstream,
    pub(super) pace: Arc<Pace>,
    pub(super) jitter_max: Duration,
    pub(super) answers: Answers,
    pub(super) clock: Clock,
    /// The retained status at the broker is out of date.
    pub(super) status_due: bool,
}

/// What this device has, for the requirements of artifacts.
pub(super) fn device_facts(labels: &Labels) -> DeviceFacts {
    let engine = EngineFacts { name: engine::TRACT_ONNX.to_string(), opset_max: ONNX_OPSET_MAX };
    let agent: AgentVersion =
        env!("CARGO_PKG_VERSION").parse().expect("the crate's version has three numbers");
    DeviceFacts { engines: vec![engine], agent, memory_mib: memory_mib(), labels: labels.clone() }
}

/// Memory in all, MiB. Where the system does not say, requirements of memory do not bind.
fn memory_mib() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(u32::MAX, |kib| u32::try_from(kib / 1024).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_knows_what_it_has() {
        let facts = device_facts(&Labels::new());
        assert!(facts.memory_mib > 16 && facts.memory_mib < u32::MAX);
        assert_eq!(facts.engines[0].name, "tract-onnx");
    }
}
