//! How a device gets in: a request signed with the key that the device made itself.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::envelope::Message;
use crate::invitation::Secret;
use crate::{DeviceId, Digest, FleetId, Labels};

/// A device asks to join, or for a fresh certificate. Signed (COSE_Sign1) with the key in it, which
/// proves possession and makes a repeated request harmless: the same id with another key is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The id that it wants.
    pub device: DeviceId,
    /// What it says about itself.
    pub labels: Labels,
    /// Its Ed25519 public key.
    #[serde(with = "serde_bytes")]
    pub public_key: Vec<u8>,
    /// What its certificate is to be made from: PKCS#10 in DER, for the same key, the common name being
    /// the id.
    #[serde(with = "serde_bytes")]
    pub certificate_request: Vec<u8>,
    /// The secret of an invitation. A device that is known already needs none: its key is its proof.
    pub secret: Option<Secret>,
    /// SHA-256 of the signed root metadata that it wants to begin with.
    pub root: Digest,
    /// Version of the agent.
    pub agent: String,
}

impl Message for EnrolRequest {
    const KIND: &'static str = "enrol-request";
    const SIZE_MAX: usize = 16 * 1024;
}

/// What an admitted device needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The fleet that it is in now.
    pub fleet: FleetId,
    /// The broker, `host:port`.
    pub broker: String,
    /// The signed root metadata that it named, or the newest if that is not known.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
    /// Its certificate, DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// The authorities that the controller's and the broker's certificates come from, DER.
    pub authorities: Vec<ByteBuf>,
    /// When its certificate ends, in seconds since 1970.
    pub expires: u64,
}

impl Message for EnrolResponse {
    const KIND: &'static str = "enrol-response";
    const SIZE_MAX: usize = 64 * 1024;
}
