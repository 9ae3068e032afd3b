//! Whom a fault befalls.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whom a fault befalls. In a file: `all`, `device 7`, `share 200` (of a thousand devices),
/// `servers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    /// Every device.
    All,
    /// One device.
    Device(u32),
    /// So many of a thousand devices, by their index: whoever else there is does not matter.
    Share(u16),
    /// Broker, mirrors or controller, whichever the fault is about.
    Servers,
}

impl Who {
    /// Whether a device is among them.
    pub fn takes(self, device: u32) -> bool {
        match self {
            Self::All => true,
            Self::Device(index) => index == device,
            // Fibonacci hashing spreads neighbours.
            Self::Share(permille) => {
                let spread = u64::from(device).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                spread % 1_000 < u64::from(permille)
            }
            Self::Servers => false,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Device(index) => write!(f, "device {index}"),
            Self::Share(permille) => write!(f, "share {permille}"),
            Self::Servers => f.write_str("servers"),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let who = match text.split_once(' ') {
            None if text == "all" => Some(Self::All),
            None if text == "servers" => Some(Self::Servers),
            Some(("device", index)) => number(index).map(Self::Device),
            Some(("share", permille)) => {
                let permille = number(permille).and_then(|it| u16::try_from(it).ok());
                permille.filter(|it| *it <= 1_000).map(Self::Share)
            }
            _ => None,
        };
        who.ok_or_else(|| {
            format!("{text:?} is nobody: `all`, `servers`, `device N` or `share PERMILLE`")
        })
    }
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_refused() {
        for who in [Who::All, Who::Device(7), Who::Share(250), Who::Servers] {
            assert_eq!(who.to_string().parse(), Ok(who));
        }
        for text in ["", "device", "device x", "share 1001", "everybody"] {
            assert!(text.parse::<Who>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says() {
        let taken = (0..10_000).filter(|device| Who::Share(200).takes(*device)).count();
        assert!((1_800..2_200).contains(&taken), "{taken}");
    }
}
