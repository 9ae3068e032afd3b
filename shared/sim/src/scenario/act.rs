//! What operators and publishers do.

use serde::{Deserialize, Serialize};

use crate::model::Behaviour;

/// Somebody does something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// When, seconds since the start.
    pub at_s: u64,
    /// What.
    #[serde(flatten)]
    pub kind: ActKind,
}

/// What somebody does. What does not apply at the time is refused, as it would be at the command
/// line; that is no failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum ActKind {
    /// Publishers release a version of the model.
    Release {
        /// Its number.
        version: u32,
        /// What it does on devices.
        behaviour: Behaviour,
    },
    /// An operator starts a rollout.
    Start {
        /// Where to.
        version: u32,
        /// How, as a policy file.
        policy: String,
    },
    /// An operator pauses the newest rollout.
    Pause,
    /// An operator resumes it.
    Resume,
    /// An operator opens its next wave.
    Promote,
    /// An operator takes it back.
    Revert,
    /// An operator leaves it where it is.
    Cancel,
    /// Publishers forbid a version for ever.
    Revoke {
        /// Its number.
        version: u32,
    },
    /// Publishers forbid installing anything older.
    RaiseFloor {
        /// The oldest version that stays.
        version: u32,
    },
    /// Root gives the directives to another key.
    RotateDirector,
    /// Root is renewed, with the same keys.
    RenewRoot,
}

impl ActKind {
    /// As people read it.
    pub fn text(&self) -> String {
        match self {
            Self::Release { version, behaviour } => format!("release {version} ({behaviour:?})"),
            Self::Start { version, .. } => format!("start a rollout of {version}"),
            Self::Pause => "pause".into(),
            Self::Resume => "resume".into(),
            Self::Promote => "promote".into(),
            Self::Revert => "revert".into(),
            Self::Cancel => "cancel".into(),
            Self::Revoke { version } => format!("revoke {version}"),
            Self::RaiseFloor { version } => format!("raise the floor to {version}"),
            Self::RotateDirector => "rotate the director's key".into(),
            Self::RenewRoot => "renew root".into(),
        }
    }
}
