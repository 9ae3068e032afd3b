//! Who may use the API, what they did, and what was turned away.

use std::fmt;

use serde::{Deserialize, Serialize};
pub use tidegate_control::access::{ApiRole, TokenRequest, TokenState};
use tidegate_wire::Digest;

/// An invitation or a pass, shown this once. Only the SHA-256 of its secret is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// The line to hand over; it holds the secret.
    pub token: String,
    /// When it expires; none if it does not.
    pub expires_ms: Option<u64>,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, expires_ms } = self;
        f.debug_struct("IssuedToken")
            .field("token", &"***")
            .field("expires_ms", expires_ms)
            .finish()
    }
}

/// `POST /v1/tokens/{name}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRevocation {
    /// Why, for the audit log.
    pub why: String,
}

/// Answer to `POST /v1/tokens/{name}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// Whose token it was.
    pub name: String,
    /// When the last admin token that is left expires, if all of them do: nobody gets in then.
    pub admins_until_ms: Option<u64>,
}

/// `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// In the order in which they were made, those that are no longer good included.
    pub tokens: Vec<TokenView>,
}

/// One operator's token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: ApiRole,
    /// Whether it is good now.
    pub state: TokenState,
    /// When it was made.
    pub issued_ms: u64,
    /// Who made it.
    pub by: String,
    /// When it begins to be good, if not at once.
    pub from_ms: Option<u64>,
    /// When it expires, if it does.
    pub expires_ms: Option<u64>,
    /// When it was revoked, if it was.
    pub revoked_ms: Option<u64>,
    /// When it was last used since the controller started; none if it was not.
    pub used_ms: Option<u64>,
}

/// How often something was turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedCount {
    /// Where: `ingest`, `broker`, `door`, `api`.
    #[serde(rename = "where")]
    pub place: String,
    /// Why, for example `malformed`.
    pub reason: String,
    /// How often since the controller started.
    pub count: u64,
}

/// `GET /v1/audit`, optionally with `?after=<seq>&limit=<n>`: what was decided, by whom and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Ascending.
    pub entries: Vec<AuditEntry>,
    /// What to give as `after` for the next page; none on the last one.
    pub next: Option<u64>,
}

/// `GET /v1/audit/head`: the last entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Its number; 0 if there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// One line of `GET /v1/audit/export` and of `tidegate audit export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// As in the list.
    #[serde(flatten)]
    pub said: AuditEntry,
    /// Hash of the entry before it; of the first one, zeros.
    pub previous: Digest,
    /// The entry as it stands in the journal, CBOR, in base64: `hash` is the SHA-256 of these bytes,
    /// and `previous` is in them.
    pub entry: String,
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When.
    pub at_ms: u64,
    /// Who: an operator's token by name, a device, or `planner`.
    pub who: String,
    /// The kind of thing, for example `rollout-started`.
    pub kind: String,
    /// What, as one line.
    pub what: String,
    /// In their words; empty if they gave none.
    pub why: String,
    /// SHA-256 of the entry, which the next one holds.
    pub hash: Digest,
}
