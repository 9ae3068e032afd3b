//! COSE_Sign1 and COSE_Sign envelopes over exact bytes.
//!
//! An envelope is parsed without copying: the payload and the protected headers stay the bytes
//! that were received, and signatures are checked over those. What is parsed is also strict:
//! deterministic CBOR, tagged, the algorithm in a protected header, a `kid` of 32 bytes, an
//! attached payload, and no critical header, since this build knows no extension.
//!
//! # Source
//! RFC 9052, sections 3 and 4; RFC 9053, section 2.2 (EdDSA); RFC 9864 (algorithm −19).

mod merge;
mod reader;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::de::IgnoredAny;
use serde_bytes::Bytes;
use tidegate_wire::codec::{self, DecodeError};
use tidegate_wire::{Digest, Reason};

use crate::codec::Signed;
use crate::key::{KeyId, PublicKey, SigningKey};
pub use merge::merge;
use reader::{Label, Reader};

/// The most signatures that an envelope may have: no fleet has 32 publishers who all sign.
pub const SIGNATURES_MAX: usize = 32;

/// The most bytes that an envelope of [`SIGNATURES_MAX`] signatures adds to its payload. One
/// signature takes 107 bytes as we write it: 4 of algorithm, 36 of `kid`, 66 of signature, 1 of
/// array; others' headers may take a little more.
pub const OVERHEAD_MAX: usize = 4096;

/// COSE_Sign1's tag, 18, as bytes.
const TAG_SIGN1: [u8; 1] = [0xd2];
/// COSE_Sign's tag, 98, as bytes.
const TAG_SIGN: [u8; 2] = [0xd8, 0x62];
/// The protected header `{1: -8}`: algorithm EdDSA.
const PROTECTED: &[u8] = &[0xa1, 0x01, 0x27];

const LABEL_ALG: i64 = 1;
const LABEL_CRIT: i64 = 2;
const LABEL_KID: i64 = 4;

/// EdDSA (RFC 9053): what every library verifies, and what is written.
const ALG_EDDSA: i64 = -8;
/// Ed25519, fully specified (RFC 9864).
const ALG_ED25519: i64 = -19;

/// The bytes are not a COSE envelope that this build takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Too many bytes, or not deterministic CBOR.
    #[error("signed envelope: {0}")]
    Encoding(#[from] DecodeError),
    /// Neither COSE_Sign1 (tag 18) nor COSE_Sign (tag 98).
    #[error("neither a COSE_Sign1 nor a COSE_Sign message")]
    Tag,
    /// The envelope does not have the shape that RFC 9052 gives it.
    #[error("signed envelope: {0}")]
    Shape(&'static str),
    /// The payload is not in the envelope.
    #[error("signed envelope: the payload is detached")]
    Detached,
    /// A critical header, which a reader must refuse unless it understands it.
    #[error("signed envelope: a critical header that this build does not know")]
    Critical,
    /// More than [`SIGNATURES_MAX`] signatures.
    #[error("signed envelope: {0} signatures are more than the {SIGNATURES_MAX} allowed")]
    Signatures(u64),
}

impl CoseError {
    /// The reason code that travels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Encoding(error) => error.reason(),
            Self::Signatures(_) => Reason::TooLarge,
            Self::Critical => Reason::UnsupportedVersion,
            Self::Tag | Self::Shape(_) | Self::Detached => Reason::Malformed,
        }
    }
}

/// Which of the two structures an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// COSE_Sign1: one signer.
    Sign1,
    /// COSE_Sign: any number of signers.
    Sign,
}

/// A parsed envelope. Nothing in it was verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Which structure it is.
    pub structure: Structure,
    /// The bytes that were signed.
    pub payload: &'a [u8],
    /// The signatures, in the order in which they stand there.
    pub signatures: Vec<Signature<'a>>,
    /// The body's protected header, without the byte string around it.
    protected: &'a [u8],
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Who claims to have signed.
    pub kid: KeyId,
    /// Whether the algorithm is Ed25519. Signatures by others are skipped, not refused, so that
    /// a stronger algorithm can be introduced beside it.
    pub ed25519: bool,
    /// The signature's bytes.
    pub value: &'a [u8],
    protected: &'a [u8],
    item: &'a [u8],
}

impl Envelope<'_> {
    /// Whether the signature with this index was made by `key`, with `aad` as the external data.
    ///
    /// # Source
    /// RFC 9052, section 4.4 (`Sig_structure`).
    pub fn verifies_with(&self, index: usize, key: &PublicKey, aad: &[u8]) -> bool {
        let Some(signature) = self.signatures.get(index).filter(|one| one.ed25519) else {
            return false;
        };
        let message = match self.structure {
            Structure::Sign1 => sign1_message(self.protected, aad, self.payload),
            Structure::Sign => sign_message(self.protected, signature.protected, aad, self.payload),
        };
        key.verifies(&message, signature.value)
    }
}

impl Signed<PublicKey> for Envelope<'_> {
    fn payload(&self) -> &[u8] {
        self.payload
    }

    fn signers(&self) -> impl Iterator<Item = KeyId> {
        self.signatures.iter().map(|signature| signature.kid)
    }

    fn verifies(&self, index: usize, key: &PublicKey) -> bool {
        self.verifies_with(index, key, b"")
    }
}

fn sign1_message(protected: &[u8], aad: &[u8], payload: &[u8]) -> Vec<u8> {
    message(b"\x84\x6aSignature1", &[protected, aad, payload])
}

fn sign_message(body: &[u8], signer: &[u8], aad: &[u8], payload: &[u8]) -> Vec<u8> {
    message(b"\x85\x69Signature", &[body, signer, aad, payload])
}

/// The `Sig_structure`: an array that starts so, and byte strings. Written in one go, since the
/// payload is the largest thing that a device has in memory.
fn message(start: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let heads = HEAD_MAX * parts.len();
    let length = start.len() + heads + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(start);
    parts.iter().for_each(|part| byte_string(&mut out, part));
    out
}

/// The most bytes before a byte string's own.
const HEAD_MAX: usize = 9;

/// # Source
/// RFC 8949, section 3 (major type 2), with the shortest length.
fn byte_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_be_bytes();
    match bytes.len() {
        few @ 0..=23 => out.push(0x40 | few as u8),
        24..=0xff => out.extend([0x58, length[7]]),
        0x100..=0xffff => out.extend([0x59, length[6], length[7]]),
        0x1_0000..=0xffff_ffff => {
            out.push(0x5a);
            out.extend_from_slice(&length[4..]);
        }
        _ => {
            out.push(0x5b);
            out.extend(length);
        }
    }
    out.extend_from_slice(bytes);
}

/// The unprotected header `{4: kid}`.
fn kid_header(id: &KeyId) -> BTreeMap<i64, serde_bytes::ByteBuf> {
    BTreeMap::from([(LABEL_KID, serde_bytes::ByteBuf::from(id.as_bytes().to_vec()))])
}

/// `payload` in a COSE_Sign1 envelope, signed by `key`, with `aad` (mostly empty) as the external
/// data that the verifier must supply.
///
/// # Source
/// RFC 9052, section 4.2.
pub fn sign1(key: &SigningKey, aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let value = key.sign(&sign1_message(PROTECTED, aad, payload));
    let (protected, payload) = (Bytes::new(PROTECTED), Bytes::new(payload));
    let body = codec::encode(&(protected, kid_header(&key.id()), payload, Bytes::new(&value)));
    [&TAG_SIGN1[..], &body].concat()
}

/// `payload` in a COSE_Sign envelope, signed by each of `keys` in their order.
///
/// # Panics
/// With more than [`SIGNATURES_MAX`] keys.
///
/// # Source
/// RFC 9052, section 4.1.
pub fn sign(keys: &[&SigningKey], payload: &[u8]) -> Vec<u8> {
    assert!(keys.len() <= SIGNATURES_MAX, "more keys than an envelope may have signatures");
    let signatures: Vec<Vec<u8>> = keys.iter().map(|key| signer_item(key, b"", payload)).collect();
    assemble(b"", payload, &signatures.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// One COSE_Signature.
fn signer_item(key: &SigningKey, body_protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let value = key.sign(&sign_message(body_protected, PROTECTED, b"", payload));
    codec::encode(&(Bytes::new(PROTECTED), kid_header(&key.id()), Bytes::new(&value)))
}

/// A COSE_Sign envelope of finished signatures.
fn assemble(protected: &[u8], payload: &[u8], signatures: &[&[u8]]) -> Vec<u8> {
    let mut out = TAG_SIGN.to_vec();
    out.push(0x84);
    byte_string(&mut out, protected);
    out.push(0xa0);
    byte_string(&mut out, payload);
    // SIGNATURES_MAX needs a second byte from 24 on.
    match signatures.len() as u8 {
        few @ 0..=23 => out.push(0x80 | few),
        many => out.extend([0x98, many]),
    }
    signatures.iter().for_each(|signature| out.extend_from_slice(signature));
    out
}

/// The COSE_Sign envelope with one more signature: payload and earlier signatures keep their
/// bytes. A signature that `key` made earlier is replaced, so signing twice changes nothing.
///
/// # Errors
/// [`CoseError`] if the bytes are no COSE_Sign envelope, or have [`SIGNATURES_MAX`] signatures.
pub fn add_signature(bytes: &[u8], limit: usize, key: &SigningKey) -> Result<Vec<u8>, CoseError> {
    let envelope = parse(bytes, limit)?;
    if envelope.structure != Structure::Sign {
        return Err(CoseError::Shape("only a COSE_Sign message takes more signatures"));
    }
    let id = key.id();
    let others = envelope.signatures.iter().filter(|signature| signature.kid != id);
    let mut items: Vec<&[u8]> = others.map(|signature| signature.item).collect();
    let own = signer_item(key, envelope.protected, envelope.payload);
    items.push(&own);
    if items.len() > SIGNATURES_MAX {
        return Err(CoseError::Signatures(items.len() as u64));
    }
    Ok(assemble(envelope.protected, envelope.payload, &items))
}

/// Parses an envelope of at most `limit` bytes. Verifies nothing.
///
/// # Errors
/// [`CoseError`] says what is not as RFC 9052 or this module demands.
pub fn parse(bytes: &[u8], limit: usize) -> Result<Envelope<'_>, CoseError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { len: bytes.len(), limit }.into());
    }
    let (structure, body) = match (bytes.strip_prefix(&TAG_SIGN1), bytes.strip_prefix(&TAG_SIGN)) {
        (Some(body), _) => (Structure::Sign1, body),
        (_, Some(body)) => (Structure::Sign, body),
        _ => return Err(CoseError::Tag),
    };
    codec::decode::<IgnoredAny>(body, limit)?;
    let mut reader = Reader::new(body);
    if reader.array()? != 4 {
        return Err(CoseError::Shape("four parts belong into it"));
    }
    let head = Header::read(&mut reader)?;
    if reader.rest().first() == Some(&0xf6) {
        return Err(CoseError::Detached);
    }
    let payload = reader.bytes("the payload must be a byte string")?;
    let signatures = match structure {
        Structure::Sign1 => {
            let value = reader.bytes("the signature must be a byte string")?;
            alloc::vec![head.signature(value, body)?]
        }
        Structure::Sign => signatures(&mut reader)?,
    };
    Ok(Envelope { structure, payload, signatures, protected: head.protected })
}

fn signatures<'a>(reader: &mut Reader<'a>) -> Result<Vec<Signature<'a>>, CoseError> {
    let count = reader.array()?;
    if count > SIGNATURES_MAX as u64 {
        return Err(CoseError::Signatures(count));
    }
    let mut signatures = Vec::new();
    for _ in 0..count {
        let item = reader.item()?;
        let mut inner = Reader::new(item);
        if inner.array()? != 3 {
            return Err(CoseError::Shape("a signature has three parts"));
        }
        let head = Header::read(&mut inner)?;
        let value = inner.bytes("the signature must be a byte string")?;
        signatures.push(head.signature(value, item)?);
    }
    Ok(signatures)
}

/// What matters of a protected and an unprotected header.
struct Header<'a> {
    protected: &'a [u8],
    alg: Option<Label>,
    kid: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Reads the two parts with which a body and every signature start.
    fn read(reader: &mut Reader<'a>) -> Result<Self, CoseError> {
        let protected = reader.bytes("the protected header must be a byte string")?;
        let mut header = Self { protected, alg: None, kid: None };
        // RFC 9052, section 3: an empty protected header is an empty string or an empty map.
        if !protected.is_empty() {
            codec::decode::<IgnoredAny>(protected, protected.len())?;
            let mut inner = Reader::new(protected);
            header.labels(&mut inner, true)?;
            if !inner.is_empty() {
                return Err(CoseError::Shape("bytes after the protected header"));
            }
        }
        header.labels(reader, false)?;
        Ok(header)
    }

    fn labels(&mut self, reader: &mut Reader<'a>, protected: bool) -> Result<(), CoseError> {
        for _ in 0..reader.map()? {
            match reader.label()? {
                Label::Int(LABEL_CRIT) => return Err(CoseError::Critical),
                Label::Int(LABEL_ALG) if protected => self.alg = Some(reader.label()?),
                Label::Int(LABEL_ALG) => {
                    return Err(CoseError::Shape("the algorithm must be protected"));
                }
                Label::Int(LABEL_KID) if self.kid.is_none() => {
                    self.kid = Some(reader.bytes("the kid must be a byte string")?);
                }
                Label::Int(LABEL_KID) => return Err(CoseError::Shape("two kids")),
                _ => {
                    reader.item()?;
                }
            }
        }
        Ok(())
    }

    fn signature(&self, value: &'a [u8], item: &'a [u8]) -> Result<Signature<'a>, CoseError> {
        let alg = self.alg.ok_or(CoseError::Shape("the algorithm is missing"))?;
        let kid = self.kid.and_then(|kid| <[u8; 32]>::try_from(kid).ok());
        let kid = KeyId(Digest(kid.ok_or(CoseError::Shape("a kid of 32 bytes is missing"))?));
        let ed25519 = matches!(alg, Label::Int(ALG_EDDSA | ALG_ED25519));
        Ok(Signature { kid, ed25519, value, protected: self.protected, item })
    }
}

#[cfg(test)]
mod tests;
