//! Who is believed: a server whose chain ends at the authority, and that has the name asked for.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use tidegate_wire::Digest;

use super::{Authority, TlsError};

/// A chain has a server's certificate, one between at most, and the authority's: so often can a
/// certificate be younger than the clock.
const YOUNGER_MAX: usize = 4;

/// The server does not show the authority's certificate that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("none of the {shown} certificates that it shows has the fingerprint {wanted}")]
pub struct AuthorityMissing {
    /// SHA-256 of the certificate that was looked for.
    pub wanted: Digest,
    /// How many certificates the server showed.
    pub shown: usize,
}

/// Verifies servers for one [`Authority`].
pub(super) struct Verifier {
    roots: Roots,
    provider: Arc<CryptoProvider>,
}

enum Roots {
    Pinned(Digest),
    Known(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    pub(super) fn new(
        authority: &Authority,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let roots = match authority {
            Authority::Pinned(digest) => Roots::Pinned(*digest),
            Authority::Known(certificates) if certificates.is_empty() => {
                return Err(TlsError::NoAuthority);
            }
            Authority::Known(certificates) => {
                let certificates = certificates.iter().map(|der| CertificateDer::from(&der[..]));
                let verifier = webpki(certificates, &provider).map_err(TlsError::Authority)?;
                Roots::Known(verifier)
            }
        };
        Ok(Self { roots, provider })
    }

    /// The verifier for this chain: its only roots are those that are trusted already.
    fn of_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let wanted = match &self.roots {
            Roots::Known(verifier) => return Ok(Arc::clone(verifier)),
            Roots::Pinned(wanted) => *wanted,
        };
        // Not the server's own certificate: an authority serves nobody itself.
        match others.iter().find(|certificate| Digest::of(certificate) == wanted) {
            Some(root) => webpki([root.clone()].into_iter(), &self.provider),
            None => {
                let shown = others.len() + usize::from(!end_entity.is_empty());
                let missing = Arc::new(AuthorityMissing { wanted, shown });
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(missing))))
            }
        }
    }
}

fn webpki<'a>(
    roots: impl Iterator<Item = CertificateDer<'a>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.into_owned())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.of_chain(end_entity, intermediates)?;
        let check = |now| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        let mut now = now;
        for _ in 0..YOUNGER_MAX {
            match check(now) {
                // A certificate that the authority signed says that it is at least so late. The
                // device's clock, which may stand at 1970, says nothing against it. The check goes on
                // with the later time, and fails if the authority did not sign this after all.
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before > now => now = not_before,
                checked => return checked,
            }
        }
        check(now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.roots {
            Roots::Pinned(digest) => write!(f, "Verifier(pinned {digest})"),
            Roots::Known(_) => f.write_str("Verifier(known authorities)"),
        }
    }
}
