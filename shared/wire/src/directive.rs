//! Who runs what: the directive, and the arithmetic by which every device assigns itself.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::Message;
use crate::{ArtifactRef, DeviceId, Digest, FleetId, Generation, Labels, ModelName, Reason};

/// One model's assignment for the whole fleet. Signed by the director, sent retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// The fleet it is for.
    pub fleet: FleetId,
    /// The model it is about.
    pub model: ModelName,
    /// Its number; devices take only higher ones.
    pub generation: Generation,
    /// When it was signed, Unix seconds.
    pub issued: u64,
    /// When it stops to cause *new* installs, Unix seconds. It never stops running or reverting.
    pub expires: u64,
    /// The first rule that takes a device names its artifact.
    pub rules: Vec<Rule>,
    /// Why it was issued, if it takes something back.
    pub reason: Option<Reason>,
}

/// Names an artifact for the devices that it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Labels that a device must have, all of them. None: every device.
    pub selector: Labels,
    /// Devices that it takes whatever their position.
    pub include: Vec<DeviceId>,
    /// Devices that it never takes.
    pub exclude: Vec<DeviceId>,
    /// Shuffles the fleet; fresh for every rollout, so that the canaries differ.
    pub salt: Salt,
    /// Takes the devices whose [`position`] is below; [`LIMIT_ALL`] takes all.
    pub limit: u64,
    /// What the devices run.
    pub artifact: ArtifactRef,
    /// The generation at which the present attempt to bring out `artifact` began. A device that
    /// turned it down at `since` or later does not try it again.
    pub since: Generation,
}

impl Message for Directive {
    const KIND: &'static str = "directive";
    /// Room for some ten rules with a thousand devices by name.
    const SIZE_MAX: usize = 128 * 1024;
}

/// What shuffles a fleet into positions.
pub type Salt = [u8; 16];

/// The limit that takes every device.
pub const LIMIT_ALL: u64 = u64::MAX;

/// Where a device lies among all devices under a salt: uniform in `0..LIMIT_ALL`.
pub fn position(salt: &Salt, device: &DeviceId) -> u64 {
    let Digest(digest) = Digest::of_parts(&[salt, device.as_str().as_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first).min(LIMIT_ALL - 1)
}

impl Rule {
    /// Whether the rule takes a device with this id and these labels.
    pub fn takes(&self, device: &DeviceId, labels: &Labels) -> bool {
        matches(&self.selector, labels)
            && !self.exclude.contains(device)
            && (self.include.contains(device) || position(&self.salt, device) < self.limit)
    }
}

impl Directive {
    /// The rule for a device, if one takes it.
    pub fn rule_for(&self, device: &DeviceId, labels: &Labels) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.takes(device, labels))
    }
}

/// Whether a device with `labels` has everything that `selector` asks for.
pub fn matches(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    fn rule(limit: u64) -> Rule {
        let artifact = ArtifactRef { digest: Digest::of(b"m"), version: "1.0.0".parse().unwrap() };
        Rule {
            selector: Labels::new(),
            include: vec![],
            exclude: vec![],
            salt: *b"0123456789abcdef",
            limit,
            artifact,
            since: Generation(1),
        }
    }

    fn device(n: u32) -> DeviceId {
        format!("device-{n}").parse().unwrap()
    }

    /// From Python: int.from_bytes(sha256(b"0123456789abcdef" + b"device-1").digest()[:8], "big").
    #[test]
    fn position_is_the_start_of_the_salted_digest() {
        assert_eq!(position(b"0123456789abcdef", &device(1)), 0x959e_1ee2_a195_c743);
    }

    #[test]
    fn limits_nest_and_the_last_takes_all() {
        let labels = Labels::new();
        for n in 0..200 {
            let (low, half, all) = (rule(1 << 60), rule(1 << 63), rule(LIMIT_ALL));
            assert!(!low.takes(&device(n), &labels) || half.takes(&device(n), &labels));
            assert!(all.takes(&device(n), &labels));
            assert!(!rule(0).takes(&device(n), &labels));
        }
    }

    #[test]
    fn selector_then_exclusion_then_inclusion() {
        let mut rule = rule(0);
        rule.include = vec![device(1), device(2)];
        rule.exclude = vec![device(2)];
        rule.selector = Labels::from([("site".to_string(), "oslo".to_string())]);
        assert!(rule.takes(&device(1), &rule.selector.clone()));
        assert!(!rule.takes(&device(2), &rule.selector.clone()));
        assert!(!rule.takes(&device(1), &Labels::new()));
    }
}
