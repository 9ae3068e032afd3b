//! What operators' tokens allow, and how one is asked for.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// What an operator's token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiRole {
    /// Looks at everything but tokens; changes nothing.
    Viewer,
    /// Also starts and stops rollouts, lets devices in and puts them out.
    Operator,
    /// A viewer that also uploads and releases models. The signatures are the publishers' keys'.
    Publisher,
    /// Everything, tokens and keys of trust included.
    Admin,
}

impl ApiRole {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Publisher, Self::Admin];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// Whether a token with this role may do what `needed` is needed for.
    pub fn covers(self, needed: Self) -> bool {
        self == Self::Admin || needed == Self::Viewer || self == needed
    }
}

impl fmt::Display for ApiRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The wish to let an operator in: `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The operator's name, as it will stand in the audit log.
    pub name: String,
    /// What they may do.
    pub role: ApiRole,
    /// Unix milliseconds before which it is not good; none: at once.
    #[serde(default)]
    pub from_ms: Option<u64>,
    /// Seconds for which it is good; none: until it is revoked.
    #[serde(default)]
    pub expires_seconds: Option<u64>,
    /// Why, for the audit log.
    pub why: String,
}

/// Whether a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenState {
    /// Its time has not come.
    Early,
    /// It is good.
    Valid,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl TokenState {
    /// One word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
