//! The versioned envelope around every message: the CBOR array `[version, kind, body]`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};

/// A message that travels in an envelope.
pub trait Message: Serialize + DeserializeOwned {
    /// What stands in the envelope.
    const KIND: &'static str;
    /// The version that this build writes, and the newest that it reads.
    const VERSION: u64 = 1;
    /// The most bytes that an envelope with such a message may have.
    const SIZE_MAX: usize;
}

/// The bytes of `message` in its envelope.
pub fn seal<M: Message>(message: &M) -> Vec<u8> {
    codec::encode(&(M::VERSION, M::KIND, message))
}

/// Reads an envelope with a message of kind `M`.
///
/// # Errors
/// [`DecodeError`] says whether size, encoding, kind, version or shape was wrong. A message of
/// another kind or version is refused before its body is looked at.
pub fn open<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let Cover(version, kind, _) = codec::decode(bytes, M::SIZE_MAX)?;
    if kind != M::KIND {
        return Err(DecodeError::Kind { expected: M::KIND, found: kind });
    }
    if version == 0 || version > M::VERSION {
        let newest = M::VERSION;
        return Err(DecodeError::Version { kind: M::KIND, found: version, newest });
    }
    let (_, _, message): (u64, IgnoredAny, M) = codec::decode(bytes, M::SIZE_MAX)?;
    Ok(message)
}

#[derive(Deserialize)]
struct Cover(u64, String, #[allow(dead_code)] IgnoredAny);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;
    use crate::report::Ack;

    #[test]
    fn an_envelope_comes_back() {
        let ack = Ack { spool: 1, seqs: alloc::vec![(3, 9)] };
        assert_eq!(open::<Ack>(&seal(&ack)), Ok(ack));
    }

    #[test]
    fn other_kinds_and_versions_are_refused_with_a_reason() {
        let newer = codec::encode(&(2, Ack::KIND, "anything"));
        assert_eq!(open::<Ack>(&newer).unwrap_err().reason(), Reason::UnsupportedVersion);
        let zero = codec::encode(&(0, Ack::KIND, "anything"));
        assert_eq!(open::<Ack>(&zero).unwrap_err().reason(), Reason::UnsupportedVersion);
        let other = codec::encode(&(1, "report", "anything"));
        assert_eq!(open::<Ack>(&other).unwrap_err().reason(), Reason::WrongTopic);
        let shapeless = codec::encode(&(1, Ack::KIND, "anything"));
        assert_eq!(open::<Ack>(&shapeless).unwrap_err().reason(), Reason::Malformed);
    }
}
