//! Names of fleets, devices, models and versions.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::Digest;

/// Labels of a device, for example `site=oslo`.
pub type Labels = BTreeMap<String, String>;

/// The text cannot be a name of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: use 1 to {max} of {allowed}")]
pub struct InvalidName {
    kind: &'static str,
    text: String,
    max: usize,
    allowed: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:literal, $accept:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let accept: fn(u8) -> bool = $accept;
                let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
                if starts_well && text.len() <= $max && text.bytes().all(accept) {
                    return Ok(Self(text.to_string()));
                }
                let text = text.chars().take(80).collect();
                Err(InvalidName { kind: $kind, text, max: $max, allowed: $allowed })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

// None of the alphabets has `/`, `+`, `#` or `$`, so every name is one safe MQTT topic level, one
// safe path segment and one safe file name.
name! {
    /// A fleet's name.
    FleetId, "fleet name", 64, "a-z, 0-9, '-', '_', starting with a letter or digit",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_')
}
name! {
    /// A device's name, unique in its fleet. It stands in the device's credentials.
    DeviceId, "device id", 64, "A-Z, a-z, 0-9, '-', '_', '.', starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}
name! {
    /// A model's name, unique in its fleet.
    ModelName, "model name", 64, "a-z, 0-9, '-', '_', starting with a letter or digit",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_')
}
name! {
    /// A model's version as its publisher calls it. Versions name, they do not order.
    Version, "version", 32, "A-Z, a-z, 0-9, '.', '-', '+', '_', starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'_')
}

/// One version of a model, by its publisher's name for it and by its manifest's digest.
///
/// The digest decides; the version is for people. The signed targets metadata binds the two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// SHA-256 of the manifest's bytes.
    pub digest: Digest,
    /// The publisher's name for it.
    pub version: Version,
}

impl fmt::Display for ArtifactRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn names_are_safe_topic_levels_and_file_names() {
        for text in ["", ".", "..", "a/b", "a+b", "#", "a b", "é", "-x"] {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
        assert!("Pi-4.oslo_7".parse::<DeviceId>().is_ok());
        assert!("Oslo".parse::<FleetId>().is_err());
        assert!("1.2.0-rc.1+arm".parse::<Version>().is_ok());
    }

    #[test]
    fn an_invalid_name_is_named_in_the_error() {
        let error = "a/b".parse::<ModelName>().unwrap_err();
        assert!(format!("{error}").starts_with("\"a/b\" is no model name"));
    }
}
