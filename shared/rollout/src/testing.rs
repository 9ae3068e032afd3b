//! A small fleet for tests.

use alloc::format;
use alloc::string::ToString;
use core::ops::Range;

use tidegate_wire::{ArtifactRef, Digest, Generation, Labels};

use crate::*;

pub fn artifact(version: &str) -> ArtifactRef {
    ArtifactRef { digest: Digest::of(version.as_bytes()), version: version.parse().unwrap() }
}

pub fn act() -> Act {
    Act { by: "ada".to_string(), why: "a test".to_string() }
}

pub fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

/// Online devices `d000`, `d001`, … that have begun nothing; even ones stand in Oslo.
pub fn fleet(numbers: Range<u32>) -> FleetView {
    let device = |n: u32| DeviceView {
        id: format!("d{n:03}").parse().unwrap(),
        labels: Labels::from([(
            "site".to_string(),
            if n.is_multiple_of(2) { "oslo" } else { "bonn" }.to_string(),
        )]),
        joined_ms: 0,
        presence: Presence::Online,
        progress: Progress::Untouched,
    };
    numbers.map(device).collect()
}

/// Versions 0 to 3 are signed.
pub fn facts() -> ArtifactFacts {
    let versions = ["0", "1", "2", "3"];
    versions.iter().fold(ArtifactFacts::default(), |facts, version| {
        facts.with(&artifact(version), Known::Signed)
    })
}

/// A start from version 1 to version 2 after generation 6.
pub fn request(policy: Policy) -> Start {
    Start {
        id: RolloutId(3),
        fleet: "plant".parse().unwrap(),
        model: "digits".parse().unwrap(),
        from: Some(artifact("1")),
        to: artifact("2"),
        policy,
        salt: [7; 16],
        standing: alloc::vec::Vec::new(),
        last: Generation(6),
    }
}

pub fn started(policy: Policy) -> Rollout {
    start(request(policy), None, &facts(), 0).unwrap()
}
