//! One entry as bytes: `length: u32 LE ‖ crc: u32 LE ‖ payload`.
//!
//! The CRC-32C covers length and payload, so that a damaged length is noticed too. The payload is an
//! [`Entry`] in deterministic CBOR; its SHA-256 is what the next entry holds as `previous`.

use alloc::vec::Vec;

use crc::{CRC_32_ISCSI, Crc};
use tidegate_wire::Digest;
use tidegate_wire::codec::{self, DecodeError};

use super::JournalError;
use crate::Entry;

/// The most bytes of one payload: a rollout with its signed directive has at most 300 KB.
pub(super) const PAYLOAD_MAX: usize = 1 << 20;

/// Bytes before the payload.
pub(super) const HEADER: usize = 8;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What a journal's first entry holds as `previous`.
pub(super) const ORIGIN: Digest = Digest([0; 32]);

/// The frame of `entry` and the digest of its payload.
pub(super) fn encode(entry: &Entry) -> Result<(Vec<u8>, Digest), JournalError> {
    let payload = codec::encode(entry);
    if payload.len() > PAYLOAD_MAX {
        return Err(JournalError::TooLarge { bytes: payload.len() });
    }
    let length = (payload.len() as u32).to_le_bytes();
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&checksum(length, &payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    let digest = Digest::of(&payload);
    Ok((frame, digest))
}

/// What stands at the beginning of some bytes.
pub(super) enum Found<'a> {
    /// A whole frame with this payload.
    Frame(&'a [u8]),
    /// Fewer bytes than a frame has, or a wrong CRC.
    Broken,
}

/// Looks for a frame at the beginning of `bytes`.
pub(super) fn find(bytes: &[u8]) -> Found<'_> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return Found::Broken };
    let [a, b, c, d, e, f, g, h] = header.try_into().expect("eight bytes");
    let (length, crc) = ([a, b, c, d], u32::from_le_bytes([e, f, g, h]));
    let payload = rest.get(..u32::from_le_bytes(length) as usize);
    match payload {
        Some(payload)
            if (1..=PAYLOAD_MAX).contains(&payload.len()) && checksum(length, payload) == crc =>
        {
            Found::Frame(payload)
        }
        _ => Found::Broken,
    }
}

/// Reads a payload.
pub(super) fn decode(payload: &[u8]) -> Result<Entry, DecodeError> {
    codec::decode(payload, PAYLOAD_MAX)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&length);
    digest.update(payload);
    digest.finalize()
}
