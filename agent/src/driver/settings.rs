//! What the device is told at the start: what the operator decided, and what this machine has.

use std::net::SocketAddr;

use tidegate_device::Settings;
use tidegate_trust::{AgentVersion, DeviceFacts, EngineFacts};
use tidegate_wire::Labels;

use crate::config::Config;
use crate::engine;
use crate::memory;

/// How often the gate of a candidate is asked, milliseconds: people watch a rollout.
const JUDGE_EVERY_MS: u64 = 100;

/// What a device with this configuration is told. `instance` is random, drawn at the start.
pub fn settings(config: &Config, api: SocketAddr, instance: u64) -> Settings {
    Settings {
        device: config.device.clone(),
        facts: device_facts(&config.labels),
        agent: env!("CARGO_PKG_VERSION").to_string(),
        api: api.to_string(),
        instance,
        // Without random numbers the device waits as it did last time, which is no harm.
        seed: getrandom::u64().unwrap_or(instance),
        heartbeat_ms: config.reports.heartbeat_seconds.saturating_mul(1_000),
        judge_every_ms: JUDGE_EVERY_MS,
        jitter_ms_max: config.downloads.start_jitter_seconds_max.saturating_mul(1_000),
    }
}

/// What this device has, for the requirements of artifacts.
fn device_facts(labels: &Labels) -> DeviceFacts {
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
