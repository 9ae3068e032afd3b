//! An external broker: whom the controller believes there, and as whom it comes.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use crate::authority::{Authority, AuthorityError, Presented, read_certificates};
use crate::clock;

/// How an external broker is talked to.
pub struct External {
    authority: Arc<Authority>,
    others: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    days: u32,
}

impl External {
    /// Believes the fleet's authority, and those in `file` (PEM) if it is given. The controller's
    /// own certificate for it is good for so many days.
    ///
    /// # Errors
    /// [`AuthorityError`] names the file that cannot be used.
    pub fn new(
        authority: Arc<Authority>,
        file: Option<&Path>,
        days: u32,
    ) -> Result<Self, AuthorityError> {
        let others = file.map(read_certificates).transpose()?.unwrap_or_default();
        let mut roots = RootCertStore::clone(&authority.roots());
        for other in &others {
            roots.add(other.clone())?;
        }
        Ok(Self { authority, others, roots: Arc::new(roots), days })
    }

    /// The authorities beside the fleet's own, DER: devices must believe these too.
    pub fn others(&self) -> Vec<Vec<u8>> {
        self.others.iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// TLS for the next connection, with a certificate that is made anew when it gets old.
    ///
    /// # Errors
    /// [`AuthorityError`] if the disk fails.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, AuthorityError> {
        let shown = self.authority.controller(clock::now(), self.days)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(Presented::new(&shown));
        Ok(Arc::new(config))
    }
}
