//! Devices' certificates, as far as decisions need them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Bytes of a serial number: enough that random ones never meet.
pub const SERIAL_LEN: usize = 16;

/// One certificate of a device, as it stands in the journal: enough to make it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// Its serial number, unique in the fleet.
    #[serde(with = "serde_bytes")]
    pub serial: Vec<u8>,
    /// When it was issued, Unix seconds.
    pub issued: u64,
    /// When it expires, Unix seconds.
    pub expires: u64,
}

impl IssuedCertificate {
    /// One whose serial number is made of random bytes; times in Unix seconds.
    pub fn new(random: [u8; SERIAL_LEN], issued: u64, expires: u64) -> Self {
        let mut serial = random;
        // A positive number that has the same length in DER, whoever encodes it.
        serial[0] = (serial[0] & 0x7f) | 0x40;
        Self { serial: serial.to_vec(), issued, expires }
    }
}
