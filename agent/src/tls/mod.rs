//! TLS as a client of the controller speaks it: whom it believes, and how it shows itself.
//!
//! There is no way around a check: whoever cannot prove to be the fleet's authority's server of that
//! name is not talked to. TLS 1.2 at least, by rustls and ring. The command line of the controller
//! connects by this module too.
//!
//! ```
//! use tidegate_agent::tls::{self, Authority, TimeFloor};
//! use tidegate_wire::Digest;
//!
//! let pinned = Authority::Pinned(Digest::of(b"the certificate of the fleet's authority"));
//! let config = tls::client(&pinned, None, &TimeFloor::default())?;
//! # Ok::<(), tls::TlsError>(())
//! ```

mod credentials;
mod floor;
mod problem;
#[cfg(test)]
mod tests;
mod verifier;

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use tidegate_wire::Digest;

pub use credentials::Credentials;
pub(crate) use credentials::pkcs8;
pub use floor::TimeFloor;
pub use problem::{explain, hung_up};
pub use verifier::AuthorityMissing;

use verifier::Verifier;

/// Whose servers are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The authority whose certificate, DER, has this SHA-256. The server shows that certificate in
    /// its chain.
    Pinned(Digest),
    /// The authorities with these certificates, DER.
    Known(Vec<Vec<u8>>),
}

/// No connection can be made with what is given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// A certificate of an authority cannot be used.
    #[error("the certificate of an authority cannot be used: {0}")]
    Authority(rustls::Error),
    /// No authority is given, so nobody could be believed.
    #[error("there is no certificate of an authority")]
    NoAuthority,
    /// The client's own certificate cannot be used, or is for another key.
    #[error("this client's certificate cannot be used with its key: {0}")]
    Certificate(rustls::Error),
}

/// How a client connects: to servers of `authority` only, showing `credentials` if it has some. Its
/// clock is the system's, and never before `floor`.
///
/// # Errors
/// [`TlsError`] if a certificate cannot be used.
pub fn client(
    authority: &Authority,
    credentials: Option<&Credentials>,
    floor: &TimeFloor,
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Verifier::new(authority, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_details(provider, Arc::new(floor.clone()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has suites for both")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match credentials {
        None => Ok(builder.with_no_client_auth()),
        Some(credentials) => builder
            .with_client_auth_cert(vec![credentials.certificate()], credentials.key())
            .map_err(TlsError::Certificate),
    }
}

/// One TLS provider for the whole process: ring. That one is installed already is fine.
pub fn install_provider() {
    let _ = ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
