//! The fleet's certificate authority: who may talk to the controller and the broker, and how they
//! recognise these.
//!
//! ```text
//! ca/ca.pem               its certificate; devices and passes know it by its SHA-256
//! ca/ca.key               its key, 0600
//! ca/server.pem, .key     what the controller shows, and an external broker may show
//! ca/controller.pem, .key what the controller shows to an external broker
//! ca/revoked.crl          certificates that no longer count, for external brokers
//! ```
//!
//! It decides nothing: who gets a certificate, and for how long, stands in the journal before it is
//! made. Its keys are ECDSA P-256, which every TLS stack takes; devices bring their Ed25519 keys.

mod certificate;
mod file;
mod presented;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tidegate_wire::{DeviceId, Digest, FleetId};

pub use certificate::issue;
pub(crate) use certificate::{is_name, read_request, read_shown};
pub(crate) use file::read_certificates;
pub use presented::Presented;
pub use tidegate_control::certificate::IssuedCertificate;

use crate::broker::CONTROLLER;
use crate::data_dir::DataDirError;

/// The certificate's file name in the folder.
pub const CERTIFICATE: &str = "ca.pem";

/// The list of certificates that no longer count, PEM.
pub const REVOKED: &str = "revoked.crl";

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written durably.
    #[error(transparent)]
    Write(#[from] DataDirError),
    /// One of certificate and key is there, the other one is not.
    #[error(
        "{missing} is missing although {found} is there: restore it from a backup, or remove both \
         to make a new authority, with which every device must enrol anew"
    )]
    Half {
        /// What is there.
        found: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// A file holds something else.
    #[error("{path} is damaged ({what}): restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Others may read a private key.
    #[error("{path} can be read by others (mode {mode:04o}): chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A name cannot stand in a certificate.
    #[error("{name:?} is no host name or address: correct `names` in the configuration")]
    Name {
        /// The name.
        name: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library does not take a certificate.
    #[error("the TLS library refuses a certificate of this authority: {0}")]
    Tls(#[from] rustls::Error),
}

/// The fleet's certificate authority.
pub struct Authority {
    folder: PathBuf,
    certificate: CertificateDer<'static>,
    pem: String,
    expires: u64,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in a folder, or makes one if there is none. `now` in Unix seconds.
    ///
    /// # Errors
    /// [`AuthorityError`] if it is damaged: it is never replaced by itself.
    pub fn open(folder: &Path, fleet: &FleetId, now: u64) -> Result<Self, AuthorityError> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join("ca.key"));
        match (file::exists(&certificate)?, file::exists(&key)?) {
            (true, true) => Self::read(folder),
            (true, false) => Err(AuthorityError::Half { found: certificate, missing: key }),
            // The key is written first: a founding that was broken off begins anew.
            (false, _) => Self::make(folder, fleet, now),
        }
    }

    fn make(folder: &Path, fleet: &FleetId, now: u64) -> Result<Self, AuthorityError> {
        file::folder(folder)?;
        let key = certificate::new_key()?;
        let made = certificate::authority(fleet, now)?.self_signed(&key)?;
        file::write_private(&folder.join("ca.key"), &key.serialize_pem())?;
        file::write_public(&folder.join(CERTIFICATE), &made.pem())?;
        Self::read(folder)
    }

    fn read(folder: &Path) -> Result<Self, AuthorityError> {
        let path = folder.join(CERTIFICATE);
        let pem = file::read(&path)?;
        let damaged = |what: String| AuthorityError::Damaged { path: path.clone(), what };
        let certificate = file::certificates(&path, &pem)?.remove(0);
        let key_path = folder.join("ca.key");
        let key = KeyPair::from_pem(&file::read_private(&key_path)?).map_err(|error| {
            AuthorityError::Damaged { path: key_path.clone(), what: error.to_string() }
        })?;
        let facts = certificate::facts(&certificate).map_err(damaged)?;
        if facts.public_key != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(damaged(format!("it is not for the key in {}", key_path.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let (folder, expires) = (folder.to_owned(), facts.expires);
        Ok(Self { folder, certificate, pem, expires, issuer })
    }

    /// SHA-256 of the certificate: how others recognise it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it expires, Unix seconds.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// What it signed is trusted, and nothing else.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        // It was parsed when it was read.
        let added = roots.add(self.certificate.clone());
        debug_assert!(added.is_ok());
        Arc::new(roots)
    }

    /// The certificate of a device, DER.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] if the key is no Ed25519 key.
    pub fn device(
        &self,
        device: &DeviceId,
        public_key: &[u8],
        issued: &IssuedCertificate,
    ) -> Result<Vec<u8>, AuthorityError> {
        let key = certificate::Ed25519(public_key);
        let made = certificate::client(device.as_str(), issued)?.signed_by(&key, &self.issuer)?;
        Ok(made.der().to_vec())
    }

    /// What the controller shows to devices and operators: what is in the folder, or a new one if that
    /// is for other names or past half its life.
    ///
    /// # Errors
    /// [`AuthorityError::Name`] names what cannot stand in a certificate.
    pub fn server(&self, names: &[String], now: u64, days: u32) -> Result<Shown, AuthorityError> {
        let wanted = Wanted { file: "server", names, seconds: u64::from(days) * DAY };
        self.shown(&wanted, now, |until| certificate::server(names, until))
    }

    /// What the controller shows to an external broker.
    ///
    /// # Errors
    /// [`AuthorityError`] if the disk fails.
    pub fn controller(&self, now: u64, days: u32) -> Result<Shown, AuthorityError> {
        let wanted = Wanted { file: "controller", names: &[], seconds: u64::from(days) * DAY };
        self.shown(&wanted, now, |until| {
            certificate::client(CONTROLLER, &certificate::issue(now, until))
        })
    }

    fn shown(
        &self,
        wanted: &Wanted,
        now: u64,
        params: impl FnOnce(u64) -> Result<CertificateParams, AuthorityError>,
    ) -> Result<Shown, AuthorityError> {
        let certificate = self.folder.join(format!("{}.pem", wanted.file));
        let key = certificate.with_extension("key");
        if let Some(kept) = self.kept(&certificate, &key, wanted, now) {
            return Ok(kept);
        }
        let pair = certificate::new_key()?;
        let until = (now + wanted.seconds).min(self.expires);
        let made = params(until)?.signed_by(&pair, &self.issuer)?;
        // A pair that does not fit, after a power cut in between, is made anew.
        file::write_private(&key, &pair.serialize_pem())?;
        file::write_public(&certificate, &format!("{}{}", made.pem(), self.pem))?;
        let chain = vec![made.der().clone(), self.certificate.clone()];
        Shown::new(chain, &pair.serialize_pem(), until)
    }

    /// What is in the folder, if it will do. Whatever is wrong with it, it can be made anew.
    fn kept(&self, certificate: &Path, key: &Path, wanted: &Wanted, now: u64) -> Option<Shown> {
        let chain = file::certificates(certificate, &file::read(certificate).ok()?).ok()?;
        let facts = certificate::facts(chain.first()?).ok()?;
        let fresh = facts.expires > now + wanted.seconds / 2;
        let ours = chain.get(1) == Some(&self.certificate);
        let fits = fresh && ours && facts.names == certificate::sorted(wanted.names);
        let key = file::read_private(key).ok().filter(|_| fits)?;
        Shown::new(chain, &key, facts.expires).ok()
    }

    /// Writes which certificates no longer count, as serial numbers and when that was decided.
    ///
    /// # Errors
    /// [`AuthorityError`] if the disk fails; the list before stays then.
    pub fn revoke(&self, revoked: &[(Vec<u8>, u64)], now: u64) -> Result<(), AuthorityError> {
        let list = certificate::revoked(revoked, now, self.expires)?.signed_by(&self.issuer)?;
        file::write_public(&self.folder.join(REVOKED), &list.pem()?)
    }
}

/// A day in seconds.
const DAY: u64 = 24 * 3600;

/// What a certificate of the controller itself must be.
struct Wanted<'a> {
    file: &'static str,
    names: &'a [String],
    seconds: u64,
}

/// A certificate with its key, as TLS needs it.
pub struct Shown {
    /// The chain, the authority's own certificate included, and the key.
    pub certified: Arc<rustls::sign::CertifiedKey>,
    /// When it expires, Unix seconds.
    pub expires: u64,
}

impl Shown {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &str,
        expires: u64,
    ) -> Result<Self, AuthorityError> {
        let certified = presented::certified(chain, key)?;
        Ok(Self { certified: Arc::new(certified), expires })
    }
}
