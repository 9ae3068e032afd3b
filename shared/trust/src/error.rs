//! Why something is not trusted.

use tidegate_wire::codec::DecodeError;
use tidegate_wire::{FleetId, ModelName, Reason};

use crate::cose::CoseError;
use crate::file::FileError;
use crate::key::InvalidKey;
use crate::metadata::Role;

/// Why signed bytes are not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The envelope with the signatures is not well formed.
    #[error(transparent)]
    Envelope(#[from] CoseError),
    /// The signed payload is not the message that belongs here.
    #[error(transparent)]
    Payload(#[from] DecodeError),
    /// A key is no Ed25519 public key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The metadata contradicts itself.
    #[error("{role} metadata: {what}")]
    Invalid {
        /// Whose metadata.
        role: Role,
        /// What is wrong.
        what: &'static str,
    },
    /// Too few distinct keys of the role signed it.
    #[error(
        "{role}: {valid} of the {threshold} signatures that it needs ({failed} did not verify)"
    )]
    Signatures {
        /// The role that should have signed.
        role: Role,
        /// Distinct keys of the role with a valid signature.
        valid: u32,
        /// How many the role needs.
        threshold: u32,
        /// Signatures in the name of a key of the role that do not verify.
        failed: u32,
    },
    /// A message that is signed by its sender alone does not verify.
    #[error("the sender's signature does not verify")]
    Possession,
    /// The message is for another fleet.
    #[error("it is for the fleet {found}, this is {expected}")]
    Fleet {
        /// Our fleet.
        expected: FleetId,
        /// The fleet named in it.
        found: FleetId,
    },
    /// The directive is about another model than the topic it came on.
    #[error("it is about the model {found}, {expected} belongs here")]
    Model {
        /// The model that belongs here.
        expected: ModelName,
        /// The model named in it.
        found: ModelName,
    },
    /// The metadata is older than what is trusted already.
    #[error("{role} version {found} is older than {trusted}, which is already trusted")]
    Rollback {
        /// Whose metadata is older.
        role: Role,
        /// The version that is trusted.
        trusted: u64,
        /// The version that came.
        found: u64,
    },
    /// The metadata has another version than the one that belongs here.
    #[error("{role} version {found} where version {expected} belongs")]
    Version {
        /// Whose metadata.
        role: Role,
        /// The version that belongs here.
        expected: u64,
        /// The version that came.
        found: u64,
    },
    /// The metadata has expired.
    #[error("{role} metadata expired at {expires} (Unix seconds), it is {now}")]
    Expired {
        /// Whose metadata.
        role: Role,
        /// When it expired, Unix seconds.
        expires: u64,
        /// The time it was checked against, Unix seconds.
        now: u64,
    },
    /// The file is not the one that other metadata names.
    #[error("{role} metadata: {error}")]
    File {
        /// Whose metadata.
        role: Role,
        /// What differs.
        error: FileError,
    },
    /// The server does not have the file.
    #[error("the server has no {role} metadata")]
    NotFound {
        /// Whose metadata.
        role: Role,
    },
    /// The file could not be fetched.
    #[error("{role} metadata could not be fetched: {reason}")]
    Fetch {
        /// Whose metadata.
        role: Role,
        /// Why.
        reason: Reason,
    },
    /// There is no such metadata yet.
    #[error("no {role} metadata is trusted yet")]
    Missing {
        /// Whose metadata.
        role: Role,
    },
    /// New targets metadata takes something away that the trusted one has.
    #[error("the new targets metadata removes or changes {0}")]
    Removes(alloc::string::String),
}

impl TrustError {
    /// The reason code that travels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Envelope(error) => error.reason(),
            Self::Payload(error) => error.reason(),
            Self::Key(error) => error.reason(),
            Self::Invalid { .. } => Reason::Malformed,
            Self::Signatures { failed: 0, .. } => Reason::ThresholdNotMet,
            Self::Signatures { .. } | Self::Possession => Reason::SignatureInvalid,
            Self::Fleet { .. } => Reason::WrongFleet,
            Self::Model { .. } => Reason::WrongTopic,
            Self::Rollback { .. } | Self::Removes(_) => Reason::MetadataRollback,
            Self::Version { .. } => Reason::MetadataMismatch,
            Self::Expired { .. } | Self::Missing { .. } => Reason::MetadataExpired,
            Self::File { error, .. } => error.reason(),
            Self::NotFound { .. } => Reason::BlobNotFound,
            Self::Fetch { reason, .. } => *reason,
        }
    }
}
