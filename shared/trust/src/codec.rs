//! The seam between the workflow and the bytes: how metadata is wrapped, signed and encoded.

use core::fmt::Debug;

use tidegate_wire::envelope::{self, Message};

use crate::cose;
use crate::error::TrustError;
use crate::key::{KeyId, PublicKey};
use crate::metadata::{FileMeta, Role, Root, Snapshot, Targets, Timestamp};

/// How signed metadata is written. The workflow is generic over it, so that the same state machine
/// can be driven with TUF's own JSON by a public conformance suite; all else uses [`CoseCbor`].
pub trait Codec: Debug + Clone {
    /// The public keys that root metadata holds.
    type Key: Debug + Clone + PartialEq;
    /// An opened file.
    type Envelope<'a>: Signed<Self::Key>;

    /// Splits a file of at most `limit` bytes into payload and signatures. Verifies nothing.
    ///
    /// # Errors
    /// [`TrustError`] if the bytes are no signed file.
    fn open(bytes: &[u8], limit: usize) -> Result<Self::Envelope<'_>, TrustError>;

    /// Reads and validates root metadata.
    ///
    /// # Errors
    /// [`TrustError`] if the payload is no valid root metadata.
    fn root(payload: &[u8]) -> Result<Root<Self::Key>, TrustError>;

    /// Reads and validates timestamp metadata.
    ///
    /// # Errors
    /// [`TrustError`] if the payload is no valid timestamp metadata.
    fn timestamp(payload: &[u8]) -> Result<Timestamp, TrustError>;

    /// Reads and validates snapshot metadata.
    ///
    /// # Errors
    /// [`TrustError`] if the payload is no valid snapshot metadata.
    fn snapshot(payload: &[u8]) -> Result<Snapshot, TrustError>;

    /// Reads and validates targets metadata.
    ///
    /// # Errors
    /// [`TrustError`] if the payload is no valid targets metadata.
    fn targets(payload: &[u8]) -> Result<Targets, TrustError>;
}

/// An opened file: a payload and the signatures over it.
pub trait Signed<K> {
    /// What the metadata is decoded from: the very bytes that all signatures cover or, where those
    /// are a canonical form, the same content.
    fn payload(&self) -> &[u8];

    /// Who claims to have signed, in the order of the signatures.
    fn signers(&self) -> impl Iterator<Item = KeyId>;

    /// Whether `key` made the signature with this index.
    fn verifies(&self, index: usize, key: &K) -> bool;
}

/// Deterministic CBOR in COSE: what travels and what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoseCbor;

impl Codec for CoseCbor {
    type Key = PublicKey;
    type Envelope<'a> = cose::Envelope<'a>;

    fn open(bytes: &[u8], limit: usize) -> Result<cose::Envelope<'_>, TrustError> {
        Ok(cose::parse(bytes, limit)?)
    }

    fn root(payload: &[u8]) -> Result<Root, TrustError> {
        let root: Root = envelope::open(payload)?;
        root.validate()?;
        Ok(root)
    }

    fn timestamp(payload: &[u8]) -> Result<Timestamp, TrustError> {
        let timestamp: Timestamp = open(Role::Timestamp, payload, |t: &Timestamp| t.version)?;
        complete(Role::Timestamp, &timestamp.snapshot)?;
        timestamp.targets.iter().try_for_each(|meta| complete(Role::Timestamp, meta))?;
        Ok(timestamp)
    }

    fn snapshot(payload: &[u8]) -> Result<Snapshot, TrustError> {
        let snapshot: Snapshot = open(Role::Snapshot, payload, |s: &Snapshot| s.version)?;
        complete(Role::Snapshot, &snapshot.targets)?;
        Ok(snapshot)
    }

    fn targets(payload: &[u8]) -> Result<Targets, TrustError> {
        open(Role::Targets, payload, |t: &Targets| t.version)
    }
}

/// Not inlined, so that its locals are not on a small device's stack while signatures are verified.
#[inline(never)]
fn open<M: Message>(role: Role, payload: &[u8], version: fn(&M) -> u64) -> Result<M, TrustError> {
    let message = envelope::open(payload)?;
    match version(&message) {
        0 => Err(TrustError::Invalid { role, what: "versions start with 1" }),
        _ => Ok(message),
    }
}

/// Ours always name the next file by version, length and digest.
fn complete(role: Role, meta: &FileMeta) -> Result<(), TrustError> {
    if meta.version == 0 || meta.length.is_none() || meta.digest.is_none() {
        let what = "the next file's version, length or digest is missing";
        return Err(TrustError::Invalid { role, what });
    }
    Ok(())
}
