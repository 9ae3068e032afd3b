//! A policy as operators write it, and its checks.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use tidegate_wire::Labels;

use super::{Gate, OnInputDrift, OnRegression, Policy, PolicyError, Unreached, Wave, WaveSize};
use crate::Percent;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    control_percent: Option<f64>,
    directive_ttl_seconds: Option<f64>,
    #[serde(default)]
    selector: Labels,
    #[serde(default)]
    defaults: Defaults,
    waves: Option<Vec<WaveEntry>>,
    #[serde(default)]
    gate: GateEntry,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    soak_seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveEntry {
    devices: Option<u32>,
    percent: Option<f64>,
    soak_seconds: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateEntry {
    min_committed_percent: Option<f64>,
    max_failures: Option<u32>,
    max_failed_percent: Option<f64>,
    min_reported: Option<u32>,
    device_timeout_seconds: Option<f64>,
    unreached: Option<Unreached>,
    prediction_drift: Option<OnRegression>,
    confidence_drift: Option<OnRegression>,
    error_rate: Option<OnRegression>,
    input_drift: Option<OnInputDrift>,
    drift_tolerance_percent: Option<f64>,
    error_margin_percent: Option<f64>,
    min_rows: Option<u32>,
}

/// Ten years: beyond it a number of seconds is a slip of the pen.
const SECONDS_MAX: f64 = 315_360_000.0;

pub(super) fn read(text: &str) -> Result<Policy, PolicyError> {
    let file: PolicyFile =
        toml::from_str(text).map_err(|error| PolicyError::Toml(error.to_string()))?;
    let defaults = Policy::default();
    let control = percent("control_percent", file.control_percent, defaults.control)?;
    if control > Percent::whole(50) {
        return Err(range("control_percent", control, "0 to 50"));
    }
    let soak_ms = millis("defaults.soak_seconds", file.defaults.soak_seconds, super::SOAK_MS)?;
    let waves = match file.waves {
        None => defaults.waves.iter().map(|wave| Wave { soak_ms, ..*wave }).collect(),
        Some(entries) => waves(&entries, soak_ms)?,
    };
    let ttl = file.directive_ttl_seconds;
    let directive_ttl_ms = millis("directive_ttl_seconds", ttl, defaults.directive_ttl_ms)?;
    if directive_ttl_ms < 2000 {
        return Err(range("directive_ttl_seconds", ttl.unwrap_or(0.0), "2 or more"));
    }
    let gate = gate(file.gate)?;
    let policy = Policy { selector: file.selector, control, waves, gate, directive_ttl_ms };
    policy.validate()?;
    Ok(policy)
}

fn waves(entries: &[WaveEntry], soak_ms: u64) -> Result<Vec<Wave>, PolicyError> {
    let wave = |(index, entry): (usize, &WaveEntry)| {
        let key = format!("waves[{index}].soak_seconds");
        let soak_ms = millis(&key, entry.soak_seconds, soak_ms)?;
        Ok(Wave { size: size(index, entry)?, soak_ms })
    };
    entries.iter().enumerate().map(wave).collect()
}

fn size(index: usize, entry: &WaveEntry) -> Result<WaveSize, PolicyError> {
    match (entry.devices, entry.percent) {
        (Some(0), None) => Err(range(&format!("waves[{index}].devices"), 0, "1 or more")),
        (Some(devices), None) => Ok(WaveSize::Devices(devices)),
        (None, Some(_)) => {
            let key = format!("waves[{index}].percent");
            match percent(&key, entry.percent, Percent::ZERO)? {
                Percent::ZERO => Err(range(&key, 0, "more than 0")),
                percent => Ok(WaveSize::Percent(percent)),
            }
        }
        _ => Err(PolicyError::WaveSize(index)),
    }
}

fn gate(entry: GateEntry) -> Result<Gate, PolicyError> {
    let default = Gate::default();
    let share = |key: &str, value, default| percent(&format!("gate.{key}"), value, default);
    let count = |key: &str, value: Option<u32>, default| match value {
        Some(0) => Err(range(&format!("gate.{key}"), 0, "1 or more")),
        value => Ok(value.unwrap_or(default)),
    };
    let min_committed =
        share("min_committed_percent", entry.min_committed_percent, default.min_committed)?;
    if min_committed == Percent::ZERO {
        return Err(range("gate.min_committed_percent", 0, "more than 0"));
    }
    let timeout_key = "gate.device_timeout_seconds";
    let device_timeout_ms =
        millis(timeout_key, entry.device_timeout_seconds, default.device_timeout_ms)?;
    if device_timeout_ms == 0 {
        return Err(range(timeout_key, 0, "more than 0"));
    }
    Ok(Gate {
        min_committed,
        max_failures: count("max_failures", entry.max_failures, default.max_failures)?,
        max_failed: share("max_failed_percent", entry.max_failed_percent, default.max_failed)?,
        min_reported: count("min_reported", entry.min_reported, default.min_reported)?,
        device_timeout_ms,
        unreached: entry.unreached.unwrap_or(default.unreached),
        prediction_drift: entry.prediction_drift.unwrap_or(default.prediction_drift),
        confidence_drift: entry.confidence_drift.unwrap_or(default.confidence_drift),
        error_rate: entry.error_rate.unwrap_or(default.error_rate),
        input_drift: entry.input_drift.unwrap_or(default.input_drift),
        drift_tolerance: share(
            "drift_tolerance_percent",
            entry.drift_tolerance_percent,
            default.drift_tolerance,
        )?,
        error_margin: share(
            "error_margin_percent",
            entry.error_margin_percent,
            default.error_margin,
        )?,
        min_rows: count("min_rows", entry.min_rows, default.min_rows)?,
    })
}

fn percent(key: &str, value: Option<f64>, default: Percent) -> Result<Percent, PolicyError> {
    let Some(value) = value else { return Ok(default) };
    Percent::from_f64(value)
        .ok_or_else(|| range(key, value, "0 to 100, with at most three decimals"))
}

fn millis(key: &str, seconds: Option<f64>, default: u64) -> Result<u64, PolicyError> {
    match seconds {
        None => Ok(default),
        Some(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(libm::round(seconds * 1000.0) as u64)
        }
        Some(seconds) => Err(range(key, seconds, "0 to 315360000 seconds (ten years)")),
    }
}

fn range(key: &str, value: impl ToString, expected: &'static str) -> PolicyError {
    PolicyError::Range { key: String::from(key), value: value.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Policy::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
    }

    #[test]
    fn every_error_names_its_key() {
        let last = "[[waves]]\npercent = 100\n";
        let cases = [
            ("control_percent = 51", "control_percent = 51 %: 0 to 50"),
            ("control_percent = 0.0001", "control_percent = 0.0001: 0 to 100, with at most three"),
            ("waves = []", "waves: at least one wave is needed"),
            ("[[waves]]\n", "waves[0]: give either"),
            ("[[waves]]\ndevices = 2\npercent = 3", "waves[0]: give either"),
            ("[[waves]]\ndevices = 0", "waves[0].devices = 0: 1 or more"),
            ("[[waves]]\npercent = 0", "waves[0].percent = 0: more than 0"),
            ("[[waves]]\ndevices = 2", "waves[0] = 2 devices is the last wave and must be"),
            ("[[waves]]\npercent = 99.9", "waves[0] = 99.9 % is the last wave"),
            ("[[waves]]\npercent = 9\nsoak_seconds = -1", "waves[0].soak_seconds = -1: 0 to"),
            ("[gate]\nmax_failures = 0", "gate.max_failures = 0: 1 or more"),
            ("[gate]\nmin_committed_percent = 0", "gate.min_committed_percent = 0: more"),
            ("[gate]\ndevice_timeout_seconds = 0", "gate.device_timeout_seconds = 0: more"),
            ("[gate]\nmax_failed_percent = 101", "gate.max_failed_percent = 101: 0 to 100"),
            ("directive_ttl_seconds = 1", "directive_ttl_seconds = 1: 2 or more"),
        ];
        for (text, expected) in cases {
            assert!(error(text).starts_with(expected), "{text}\n{}", error(text));
        }
        let equal = format!("[[waves]]\npercent = 50\n[[waves]]\npercent = 50\n{last}");
        assert_eq!(error(&equal), "waves[1] = 50 % does not rise above waves[0] = 50 %");
        let falling = format!("[[waves]]\ndevices = 3\n[[waves]]\ndevices = 2\n{last}");
        assert_eq!(
            error(&falling),
            "waves[1] = 2 devices does not rise above waves[0] = 3 devices"
        );
        let after_all = format!("{last}[[waves]]\ndevices = 3\n{last}");
        assert_eq!(error(&after_all), "waves[1] = 3 devices does not rise above waves[0] = 100 %");
        let many: String = (1..34).map(|n| format!("[[waves]]\ndevices = {n}\n")).collect();
        assert_eq!(error(&many), "waves: 33 waves are more than 32");
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named_with_their_line() {
        for (text, line, name) in [
            ("\nwawes = 3", "line 2", "wawes"),
            ("[[waves]]\npercent = 100\nsoak = 3", "line 3", "soak"),
            ("[gate]\nmax_failure = 3", "line 2", "max_failure"),
            ("[gate]\ninput_drift = 'revert'", "line 2", "revert"),
            ("[gate]\nmax_failures = 'few'", "line 2", "few"),
            ("[defaults]\nsoak_ms = 3", "line 2", "soak_ms"),
            ("a b", "line 1", "a b"),
        ] {
            let error = error(text);
            assert!(error.contains(line) && error.contains(name), "{text}\n{error}");
        }
    }

    #[test]
    fn numbers_may_have_fractions_and_sizes_may_be_mixed() {
        let text = "[defaults]\nsoak_seconds = 2\n[[waves]]\ndevices = 5\nsoak_seconds = 0.25\n\
                    [[waves]]\npercent = 12.5\n[[waves]]\ndevices = 70\n[[waves]]\npercent = 100";
        let policy = Policy::parse(text).unwrap();
        let soaks: Vec<u64> = policy.waves.iter().map(|wave| wave.soak_ms).collect();
        assert_eq!(soaks, [250, 2000, 2000, 2000]);
        let sizes: Vec<String> = policy.waves.iter().map(|wave| wave.size.to_string()).collect();
        assert_eq!(sizes, ["5 devices", "12.5 %", "70 devices", "100 %"]);
    }
}
