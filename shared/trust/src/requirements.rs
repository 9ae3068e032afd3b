//! What an artifact needs of a device, signed with it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tidegate_wire::{Labels, Reason};

/// What a device must have. Everything that is not given is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// Engines that can run it, any one of them, for example `tract-onnx`.
    pub engines: Vec<String>,
    /// The ONNX operator set that it was exported for; the engine must know it.
    pub opset: Option<u32>,
    /// The oldest agent that can run it.
    pub agent_min: Option<AgentVersion>,
    /// Memory that the device must have in all, MiB.
    pub memory_mib_min: Option<u32>,
    /// Labels that the device must have, all of them.
    pub labels: Labels,
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engines, opset, agent_min, memory_mib_min, labels } = self;
        let mut comma = "";
        let mut say = |what: fmt::Arguments<'_>| {
            let written = write!(f, "{comma}{what}");
            comma = ", ";
            written
        };
        if !engines.is_empty() {
            say(format_args!("engine {}", engines.join(" or ")))?;
        }
        opset.iter().try_for_each(|opset| say(format_args!("ONNX operator set {opset}")))?;
        agent_min.iter().try_for_each(|agent| say(format_args!("agent {agent} or newer")))?;
        memory_mib_min.iter().try_for_each(|mib| say(format_args!("{mib} MiB of memory")))?;
        labels.iter().try_for_each(|(key, value)| say(format_args!("{key}={value}")))
    }
}

/// What a device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its engines.
    pub engines: Vec<EngineFacts>,
    /// The agent's version.
    pub agent: AgentVersion,
    /// Memory in all, MiB.
    pub memory_mib: u32,
    /// Its labels.
    pub labels: Labels,
}

/// One engine of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its name, for example `tract-onnx`.
    pub name: String,
    /// The newest ONNX operator set that it knows; 0 if it runs no ONNX.
    pub opset_max: u32,
}

/// An agent's version: major, minor, patch. Unlike artifacts' versions these are ordered.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct AgentVersion(pub [u32; 3]);

/// The text is no agent version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an agent's version has three numbers, as in 0.1.0")]
pub struct ParseAgentVersionError;

impl FromStr for AgentVersion {
    type Err = ParseAgentVersionError;

    /// Reads `1.2.3`; what follows a `-` or `+` does not count.
    fn from_str(text: &str) -> Result<Self, ParseAgentVersionError> {
        let core = text.split(['-', '+']).next().unwrap_or(text);
        let mut numbers = core.split('.').map(|part| match part.as_bytes() {
            [b'0'..=b'9', ..] => part.parse().map_err(|_| ParseAgentVersionError),
            _ => Err(ParseAgentVersionError),
        });
        let mut next = || numbers.next().unwrap_or(Err(ParseAgentVersionError));
        let version = Self([next()?, next()?, next()?]);
        if numbers.next().is_some() { Err(ParseAgentVersionError) } else { Ok(version) }
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What a device lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It has none of the engines.
    #[error("it needs one of the engines {0:?}")]
    Engine(Vec<String>),
    /// Its engine does not know the operator set.
    #[error("it needs an engine that knows ONNX operator set {0}")]
    Opset(u32),
    /// The agent is too old.
    #[error("it needs agent {needed}, this is {found}")]
    Agent {
        /// The oldest that would do.
        needed: AgentVersion,
        /// The one that is there.
        found: AgentVersion,
    },
    /// Too little memory.
    #[error("it needs {needed} MiB of memory, the device has {found}")]
    Memory {
        /// MiB needed.
        needed: u32,
        /// MiB there.
        found: u32,
    },
    /// A label is missing or has another value.
    #[error("it needs the label {0}={1}")]
    Label(String, String),
}

impl Misfit {
    /// The reason code that travels.
    pub fn reason(&self) -> Reason {
        Reason::Incompatible
    }
}

/// Whether an artifact with these requirements fits a device.
///
/// # Errors
/// The first [`Misfit`].
pub fn fits(requirements: &Requirements, facts: &DeviceFacts) -> Result<(), Misfit> {
    let Requirements { engines, opset, agent_min, memory_mib_min, labels } = requirements;
    let named = |engine: &&EngineFacts| engines.is_empty() || engines.contains(&engine.name);
    let mut usable = facts.engines.iter().filter(named).peekable();
    if !engines.is_empty() && usable.peek().is_none() {
        return Err(Misfit::Engine(engines.clone()));
    }
    if let Some(opset) = *opset
        && !usable.any(|engine| engine.opset_max >= opset)
    {
        return Err(Misfit::Opset(opset));
    }
    if let Some(needed) = *agent_min
        && facts.agent < needed
    {
        return Err(Misfit::Agent { needed, found: facts.agent });
    }
    if let Some(needed) = *memory_mib_min
        && facts.memory_mib < needed
    {
        return Err(Misfit::Memory { needed, found: facts.memory_mib });
    }
    match labels.iter().find(|(key, value)| facts.labels.get(*key) != Some(*value)) {
        None => Ok(()),
        Some((key, value)) => Err(Misfit::Label(key.clone(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn facts() -> DeviceFacts {
        let engine = |name: &str, opset_max| EngineFacts { name: name.to_string(), opset_max };
        DeviceFacts {
            engines: vec![engine("trees", 0), engine("tract-onnx", 18)],
            agent: "0.3.1".parse().unwrap(),
            memory_mib: 512,
            labels: Labels::from([("hw".to_string(), "pi4".to_string())]),
        }
    }

    #[test]
    fn what_is_not_asked_for_does_not_matter() {
        assert_eq!(fits(&Requirements::default(), &facts()), Ok(()));
    }

    #[test]
    fn requirements_are_told_in_one_line() {
        let all = Requirements {
            engines: vec!["tract-onnx".to_string()],
            opset: Some(18),
            agent_min: "0.2.0".parse().ok(),
            memory_mib_min: Some(64),
            labels: facts().labels,
        };
        let expected = "engine tract-onnx, ONNX operator set 18, agent 0.2.0 or newer, 64 MiB of memory, hw=pi4";
        assert_eq!(all.to_string(), expected);
        assert_eq!(Requirements::default().to_string(), "");
    }

    #[test]
    fn every_requirement_counts() {
        let open = Requirements::default();
        let engines = |name: &str| vec!["other".to_string(), name.to_string()];
        let label = |value: &str| Labels::from([("hw".to_string(), value.to_string())]);
        let agent = |text: &str| Some(text.parse().unwrap());
        let cases = [
            (Requirements { engines: engines("tract-onnx"), ..open.clone() }, true),
            (Requirements { engines: engines("candle"), ..open.clone() }, false),
            (Requirements { opset: Some(18), ..open.clone() }, true),
            (Requirements { opset: Some(19), ..open.clone() }, false),
            (Requirements { engines: engines("trees"), opset: Some(9), ..open.clone() }, false),
            (Requirements { agent_min: agent("0.3.1"), ..open.clone() }, true),
            (Requirements { agent_min: agent("0.10.0"), ..open.clone() }, false),
            (Requirements { memory_mib_min: Some(512), ..open.clone() }, true),
            (Requirements { memory_mib_min: Some(513), ..open.clone() }, false),
            (Requirements { labels: label("pi4"), ..open.clone() }, true),
            (Requirements { labels: label("pi5"), ..open.clone() }, false),
        ];
        for (requirements, expected) in cases {
            let verdict = fits(&requirements, &facts());
            assert_eq!(verdict.is_ok(), expected, "{requirements:?}: {verdict:?}");
        }
    }

    #[test]
    fn agent_versions_are_three_numbers() {
        assert_eq!("1.2.3-rc.1+x".parse(), Ok(AgentVersion([1, 2, 3])));
        for text in ["", "1", "1.2", "1.2.3.4", "1.+2.3", "1.2.x", "1.2.99999999999"] {
            assert_eq!(text.parse::<AgentVersion>(), Err(ParseAgentVersionError), "{text}");
        }
        assert_eq!(AgentVersion([0, 10, 2]).to_string(), "0.10.2");
    }
}
