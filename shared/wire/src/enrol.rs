//! How a device gets in: a request signed with the key that the device made itself.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::Message;
use crate::{DeviceId, FleetId, Labels};

/// A device asks to join. Signed (COSE_Sign1) with the key in it, which proves possession and makes
/// a repeated request harmless: the same id with another key is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The id that it wants.
    pub device: DeviceId,
    /// What it says about itself.
    pub labels: Labels,
    /// Its Ed25519 public key.
    #[serde(with = "serde_bytes")]
    pub public_key: Vec<u8>,
    /// The operator's one-line secret that lets devices in.
    pub token: String,
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
    /// Its password at the broker, its id being the user name.
    pub password: String,
    /// The trusted root metadata, signed.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
}

impl Message for EnrolResponse {
    const KIND: &'static str = "enrol-response";
    const SIZE_MAX: usize = 64 * 1024;
}
