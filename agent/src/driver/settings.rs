//! What the device is told at the start: what the operator decided, and what this machine has.

use tidegate_device::Settings;
use tidegate_lifecycle::Death;
use tidegate_trust::{AgentVersion, DeviceFacts, EngineFacts};

use crate::config::Config;
use crate::engine;
use crate::memory;

/// How often the gate of a candidate is asked, milliseconds: people watch a rollout.
const JUDGE_EVERY_MS: u64 = 100;

/// What a device with this configuration is told. `instance` is random, drawn at the start.
pub fn settings(config: &Config, api: &str, instance: u64) -> Settings {
    Settings {
        device: config.device.clone(),
        facts: device_facts(config),
        agent: env!("CARGO_PKG_VERSION").to_string(),
        api: api.to_string(),
        instance,
        // Without random numbers the device waits as it did last time, which is no harm.
        seed: getrandom::u64().unwrap_or(instance),
        heartbeat_ms: config.reports.heartbeat_seconds.saturating_mul(1_000),
        judge_every_ms: JUDGE_EVERY_MS,
        jitter_ms_max: config.downloads.start_jitter_seconds_max.saturating_mul(1_000),
        death: Death::Unknown,
    }
}

/// What this device has, for the requirements of artifacts.
fn device_facts(config: &Config) -> DeviceFacts {
    let fact = |name: &str| EngineFacts {
        name: name.to_string(),
        // Engines that read no ONNX files know no operator sets.
        opset_max: match name {
            engine::TRACT_ONNX | engine::ONNXRUNTIME => *engine::ONNX_OPSETS.end(),
            _ => 0,
        },
    };
    let has = |name: &&str| *name != engine::ONNXRUNTIME || config.engines.onnxruntime.is_some();
    let engines = engine::names().into_iter().filter(has).map(fact).collect();
    let agent: AgentVersion =
        env!("CARGO_PKG_VERSION").parse().expect("the crate's version has three numbers");
    let labels = config.labels.clone();
    DeviceFacts { engines, agent, memory_mib: memory::mib(), labels }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_device_knows_what_it_has() {
        let text = "device = \"pi-1\"\ndata_dir = \"/d\"\n";
        let mut config = Config::parse(text, Path::new("agent.toml")).unwrap();
        let facts = device_facts(&config);
        assert!(facts.memory_mib > 16 && facts.memory_mib < u32::MAX);
        let engine = |name: &str| facts.engines.iter().find(|engine| engine.name == name);
        assert_eq!(engine("tract-onnx").unwrap().opset_max, 18);
        assert_eq!(engine("tract-nnef").unwrap().opset_max, 0);
        assert_eq!(engine("candle-bert").is_some(), cfg!(feature = "candle"));
        assert!(engine("onnxruntime").is_none());
        config.engines.onnxruntime = Some("/usr/lib/libonnxruntime.so".into());
        let found = device_facts(&config).engines.iter().any(|fact| fact.name == "onnxruntime");
        assert_eq!(found, cfg!(feature = "onnxruntime"));
        assert_eq!(facts.agent.to_string(), env!("CARGO_PKG_VERSION"));
    }
}
