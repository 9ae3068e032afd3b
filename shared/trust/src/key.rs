//! Ed25519 keys and their names.

use core::fmt;

use ed25519_dalek::Signer;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_wire::{Digest, Reason};

/// The name of a key: the SHA-256 of its 32 public bytes, so that a name cannot be given to another
/// key. Shown as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Digest);

impl KeyId {
    /// The bytes that stand in a COSE `kid` header.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes are no usable Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// An Ed25519 public key has 32 bytes.
    #[error("an Ed25519 public key has 32 bytes, these are {0}")]
    Length(usize),
    /// The bytes encode no point of the curve.
    #[error("the bytes are no point of the Ed25519 curve")]
    NoPoint,
    /// A point of small order, for which anybody can make signatures.
    #[error("the key is a point of small order, for which anybody can make signatures")]
    Weak,
}

impl InvalidKey {
    /// The reason code that travels.
    pub fn reason(self) -> Reason {
        Reason::Malformed
    }
}

/// An Ed25519 public key: 32 bytes that are a point of the curve, and not one of small order.
///
/// # Source
/// RFC 8032, section 5.1.5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes.
    ///
    /// # Errors
    /// [`InvalidKey`] says what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| InvalidKey::Length(bytes.len()))?;
        let point =
            ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidKey::NoPoint)?;
        if point.is_weak() { Err(InvalidKey::Weak) } else { Ok(Self(bytes)) }
    }

    /// The 32 bytes, as RFC 8032 encodes them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key's name.
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(&self.0))
    }

    /// Whether `signature` over `message` was made with this key. Strict: of the many encodings
    /// that loose verifiers accept, only the canonical one passes, so a signature cannot be
    /// changed into another valid one.
    ///
    /// # Source
    /// RFC 8032, section 5.1.7.
    // Its tables take kilobytes of stack: kept out of the frames of those who call.
    #[inline(never)]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0);
        let signature = ed25519_dalek::Signature::from_slice(signature);
        match (key, signature) {
            (Ok(key), Ok(signature)) => key.verify_strict(message, &signature).is_ok(),
            _ => false,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey(id {})", self.id())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(PublicKeyVisitor)
    }
}

struct PublicKeyVisitor;

impl Visitor<'_> for PublicKeyVisitor {
    type Value = PublicKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the 32 bytes of an Ed25519 public key")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<PublicKey, E> {
        PublicKey::from_bytes(bytes).map_err(E::custom)
    }
}

/// An Ed25519 private key. Its memory is overwritten when it is dropped, and it is never shown.
///
/// Files, PEM, passphrases and the random seed are the shell's business.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that grows from a secret seed of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The name of the public half.
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    /// The signature of `message`, 64 bytes, always the same for the same message.
    ///
    /// # Source
    /// RFC 8032, section 5.1.6.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(id {}, secret)", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// RFC 8032, section 7.1, test 2.
    const SEED: [u8; 32] = [
        0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e,
        0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8,
        0xa6, 0xfb,
    ];

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn rfc_8032_test_2() {
        let key = SigningKey::from_seed(&SEED);
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(hex(key.public().as_bytes()), public);
        let signature = key.sign(&[0x72]);
        assert!(hex(&signature).starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8f"));
        assert!(key.public().verifies(&[0x72], &signature));
        assert!(!key.public().verifies(&[0x73], &signature));
        assert!(!key.public().verifies(&[0x72], &signature[..63]));
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let shown = format!("{:?}", SigningKey::from_seed(&SEED));
        assert!(shown.ends_with("secret)") && !shown.contains(&hex(&SEED[..4])), "{shown}");
    }

    #[test]
    fn weak_and_misshapen_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(InvalidKey::Weak));
        assert_eq!(PublicKey::from_bytes(&[0; 31]), Err(InvalidKey::Length(31)));
        let mut no_point = [0; 32];
        no_point[0] = 2;
        assert_eq!(PublicKey::from_bytes(&no_point), Err(InvalidKey::NoPoint));
    }

    #[test]
    fn the_malleable_twin_of_a_signature_is_refused() {
        // S + L is the same scalar; RFC 8032 demands S < L.
        const L: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let key = SigningKey::from_seed(&SEED);
        let mut signature = key.sign(b"m");
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(L) {
            carry += u16::from(*byte) + u16::from(order);
            *byte = carry as u8;
            carry >>= 8;
        }
        assert!(!key.public().verifies(b"m", &signature));
    }

    /// R is the neutral element and S = k·a: loose verifiers accept it (computed in Python).
    #[test]
    fn a_signature_with_a_point_of_small_order_is_refused() {
        const S: [u8; 32] = [
            0xc7, 0xd9, 0x16, 0x95, 0x7d, 0xd6, 0x8c, 0xc9, 0x19, 0x9d, 0xca, 0xa2, 0xcd, 0xc3,
            0x05, 0x52, 0x04, 0x53, 0x3f, 0xe9, 0xf8, 0xb3, 0x3f, 0x58, 0x5d, 0x8a, 0xcc, 0x4f,
            0x3d, 0x1e, 0x00, 0x0c,
        ];
        let mut signature = [0; 64];
        signature[0] = 1;
        signature[32..].copy_from_slice(&S);
        let key = SigningKey::from_seed(&SEED);
        let loose = ed25519_dalek::Signature::from_bytes(&signature);
        assert!(key.0.verify(b"m", &loose).is_ok());
        assert!(!key.public().verifies(b"m", &signature));
    }
}
