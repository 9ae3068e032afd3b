//! The one place where CBOR is read and written.
//!
//! Written bytes are deterministic (RFC 8949, section 4.2.1: definite lengths, shortest integers,
//! map keys in bytewise order). Read bytes must be so too, which rules out duplicate keys,
//! trailing bytes and several encodings of one message before anything is built from them.
//! Floats are the exception: any of the three widths is accepted.
//!
//! `serde_cbor` writes; it is archived upstream, so it reads nothing from outside. The golden
//! vectors in this crate's tests pin its bytes, so that it can be replaced without a change on the
//! wire.

mod canonical;
mod read;
mod strict;

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Reason;

/// How deep arrays, maps and tags may nest. Our deepest message nests seven deep.
pub const DEPTH_MAX: usize = 16;

/// The bytes are not a message of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than this kind of message may have; nothing was decoded.
    #[error("{len} bytes are more than the {limit} that this kind of message may have")]
    TooLarge {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes are not deterministic CBOR.
    #[error("not deterministic CBOR at byte {offset}: {what}")]
    NotDeterministic {
        /// Where reading stopped.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The CBOR does not have the expected shape.
    #[error("not the expected message: {0}")]
    Shape(String),
    /// The envelope has another kind of message.
    #[error("a {found:?} message where a {expected:?} message belongs")]
    Kind {
        /// The kind that belongs here.
        expected: &'static str,
        /// The kind that came.
        found: String,
    },
    /// The envelope has a version that this build does not know.
    #[error("version {found} of a {kind:?} message; this build reads up to {newest}")]
    Version {
        /// The kind of message.
        kind: &'static str,
        /// The version that came.
        found: u64,
        /// The newest version that this build reads.
        newest: u64,
    },
}

impl DecodeError {
    /// The reason code that travels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Version { .. } => Reason::UnsupportedVersion,
            Self::Kind { .. } => Reason::WrongTopic,
            Self::NotDeterministic { .. } | Self::Shape(_) => Reason::Malformed,
        }
    }
}

/// Deterministic CBOR of `value`.
///
/// # Panics
/// If `value` cannot be CBOR (a map whose length is unknown, say): our own types all can.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = serde_cbor::to_vec(value).expect("our types are CBOR");
    canonical::sort_keys(&bytes)
}

/// Reads deterministic CBOR of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError::TooLarge`] before anything is read, [`DecodeError::NotDeterministic`] before
/// anything is built, [`DecodeError::Shape`] if it is not a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { len: bytes.len(), limit });
    }
    strict::check(bytes)?;
    read::value(bytes)
}

#[cfg(test)]
mod tests;
