//! The certificate that the controller shows, which can be replaced while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{AuthorityError, Shown};

/// A certificate that handshakes from now on show.
#[derive(Debug)]
pub struct Presented {
    now: RwLock<Arc<CertifiedKey>>,
}

impl Presented {
    /// Shows this one until it is replaced.
    pub fn new(shown: &Shown) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new(Arc::clone(&shown.certified)) })
    }

    /// Replaces it. Connections that are up stay so.
    pub fn replace(&self, shown: &Shown) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::clone(&shown.certified);
    }

    fn now(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &str,
) -> Result<CertifiedKey, AuthorityError> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}
