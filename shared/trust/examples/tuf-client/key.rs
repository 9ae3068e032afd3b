//! The keys of TUF's JSON.

use std::collections::BTreeMap;

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use serde::Deserialize;
use tidegate_trust::{KeyId, PublicKey};
use tidegate_wire::Digest;

/// A public key as it is written; fields that TUF does not define are left alone.
#[derive(Deserialize)]
pub struct KeyText {
    keytype: String,
    scheme: String,
    keyval: BTreeMap<String, serde_json::Value>,
}

/// A public key.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// `ed25519`.
    Ed25519(PublicKey),
    /// `ecdsa-sha2-nistp256`.
    P256(Box<VerifyingKey>),
    /// A kind that this client does not know, which verifies nothing: a root may have such keys
    /// beside others.
    Unknown(String),
}

impl Key {
    /// The key that is written there. None if it is a broken one of a kind that is known.
    pub fn read(text: &KeyText) -> Option<Self> {
        let public = text.keyval.get("public").and_then(|public| public.as_str());
        match (text.keytype.as_str(), text.scheme.as_str()) {
            ("ed25519", "ed25519") => {
                Some(Self::Ed25519(PublicKey::from_bytes(&hex(public?)?).ok()?))
            }
            // Older repositories give the scheme's name as the type.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                let key = VerifyingKey::from_public_key_pem(public?).ok()?;
                Some(Self::P256(Box::new(key)))
            }
            (_, scheme) => Some(Self::Unknown(scheme.to_string())),
        }
    }

    /// Whether `signature` over `message` was made with this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => key.verifies(message, signature),
            Self::P256(key) => DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::Unknown(_) => false,
        }
    }
}

/// The name of a key. TUF's are texts of any form; ours are digests.
pub fn id(text: &str) -> KeyId {
    KeyId(Digest::of(text.as_bytes()))
}

/// The bytes that hexadecimal digits stand for.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.chunks(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}
