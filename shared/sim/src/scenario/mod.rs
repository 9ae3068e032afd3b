//! A run as data: everything that decides how it goes. Running it twice gives the same twice.

mod act;
mod draw;
mod fault;
mod who;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use act::{Act, ActKind};
pub use draw::{DEVICES_MAX, HOURS_MAX, Wanted};
pub use fault::{Fault, FaultKind, FaultName, UnknownFault, Wreck};
pub use who::Who;

use crate::model::Behaviour;

/// A fleet, what befalls it, and what its operators do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Of all randomness that is not written out here: delays, losses, inputs.
    pub seed: u64,
    /// How many devices.
    pub devices: u32,
    /// Hours in which faults and operators act; a quiet time follows.
    pub hours: u64,
    /// Why it is kept, if it is a regression: what went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The invariant that it broke when it was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub broke: String,
    /// How coarse the run is.
    #[serde(default)]
    pub settings: Settings,
    /// What operators do, in the order of time.
    #[serde(default)]
    pub acts: Vec<Act>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// How coarse a run is: what trades detail for speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Inferences of one device in an hour.
    pub rows_per_hour: u32,
    /// Rows after which a device closes a window.
    pub window_rows: u32,
    /// Hours between statuses of a device where nothing changes.
    pub heartbeat_hours: u32,
    /// Seconds between two looks of the planner.
    pub plan_seconds: u32,
    /// Hours for which a timestamp is good.
    pub timestamp_hours: u32,
    /// Seconds that the controller gathers reports before it stores them.
    pub gather_seconds: u32,
}

impl Default for Settings {
    /// Coarse: an hour of a quiet device costs a few microseconds.
    fn default() -> Self {
        Self {
            rows_per_hour: 30,
            window_rows: 120,
            heartbeat_hours: 24,
            plan_seconds: 600,
            timestamp_hours: 14 * 24,
            gather_seconds: 1,
        }
    }
}

/// A scenario file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no scenario.
    #[error("{path} is no scenario: {detail}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] names the file and the line.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let io = |source| ScenarioError::Io { path: path.into(), source };
        let text = std::fs::read_to_string(path).map_err(io)?;
        let shape = |detail| ScenarioError::Shape { path: path.into(), detail };
        let scenario = Self::parse(&text).map_err(|error| shape(error.to_string()))?;
        scenario.validate().map_err(shape)?;
        Ok(scenario)
    }

    /// Reads a scenario from its text.
    ///
    /// # Errors
    /// The parser's words, with line and column.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of a scenario.
    pub fn text(&self) -> String {
        toml::to_string(self).expect("numbers and names can be written")
    }

    /// Writes a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] names the file.
    pub fn write(&self, path: &Path) -> Result<(), ScenarioError> {
        std::fs::write(path, self.text())
            .map_err(|source| ScenarioError::Io { path: path.into(), source })
    }

    /// What the type does not say.
    fn validate(&self) -> Result<(), String> {
        if self.devices == 0 || self.devices > DEVICES_MAX {
            return Err(format!("devices = {}: 1 to {DEVICES_MAX}", self.devices));
        }
        if self.hours == 0 || self.hours > HOURS_MAX {
            return Err(format!("hours = {}: 1 to {HOURS_MAX}", self.hours));
        }
        if self.settings.window_rows < 50 {
            return Err("settings.window_rows: at least 50, as a device reports".into());
        }
        if self.settings.rows_per_hour == 0 || self.settings.plan_seconds == 0 {
            return Err("settings: rows_per_hour and plan_seconds must not be 0".into());
        }
        let policies = self.acts.iter().filter_map(|act| match &act.kind {
            ActKind::Start { policy, .. } => Some(policy),
            _ => None,
        });
        for policy in policies {
            tidegate_rollout::Policy::parse(policy).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What a version does, as its release says.
    pub fn behaviour(&self, version: u32) -> Option<Behaviour> {
        self.acts.iter().find_map(|act| match act.kind {
            ActKind::Release { version: it, behaviour } if it == version => Some(behaviour),
            _ => None,
        })
    }
}
