//! What a client shows of itself: a certificate, and the key that it is for.

use std::fmt;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What stands before the seed of an Ed25519 key in PKCS#8.
///
/// # Source
/// RFC 8410, section 7: version 0, algorithm 1.3.101.112, an octet string in an octet string.
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A client's certificate with its key. What is printed of it has no key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Credentials {
    /// A certificate, DER, and the seed of the Ed25519 key that it is for.
    pub fn ed25519(certificate: Vec<u8>, seed: &[u8; 32]) -> Self {
        Self { certificate, key: pkcs8(seed) }
    }

    /// A certificate, DER, and the key that it is for, PKCS#8.
    pub fn pkcs8(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        Self { certificate, key }
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate.clone())
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate, key: _ } = self;
        write!(f, "Credentials(a certificate of {} bytes, key ***)", certificate.len())
    }
}

/// An Ed25519 key in PKCS#8, from its seed.
pub(crate) fn pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    [PKCS8_ED25519.as_slice(), seed].concat()
}
