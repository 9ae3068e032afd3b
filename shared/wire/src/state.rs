//! Where a device is on a model's way.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Where a device is with one model. The last three stay until the next directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing to do: no directive names a new artifact for this device.
    Idle,
    /// Missing blobs are on their way into the free slot.
    Fetching,
    /// Lengths and digests are being checked.
    Verifying,
    /// The candidate is loaded within limits and answers its golden set.
    SelfTest,
    /// The candidate sees live inputs; its answers are compared and thrown away.
    Shadow,
    /// The candidate answers, on probation.
    Trial,
    /// The candidate was healthy for its window and is the active model.
    Committed,
    /// The candidate was turned down before it answered anyone.
    Rejected,
    /// The candidate answered, failed its probation, and the previous model is back.
    Reverted,
}

impl State {
    /// The name, as in messages, tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching => "fetching",
            Self::Verifying => "verifying",
            Self::SelfTest => "self-test",
            Self::Shadow => "shadow",
            Self::Trial => "trial",
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Reverted => "reverted",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
