//! Who this device is: its key, and what enrolment gave it.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::ClientConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tidegate_disk::{Access, Disk, DiskError, read, replace};
use tidegate_trust::SigningKey;
use tidegate_wire::enrol::EnrolResponse;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::{DeviceId, Digest, FleetId};

use crate::disk::Folder;
use crate::tls::{self, Authority, Credentials, TimeFloor, TlsError};

/// The file's name.
const NAME: &str = "identity";

/// What an admitted device keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Its id at that time.
    pub device: DeviceId,
    /// The controller that admitted it.
    pub controller: String,
    /// The fleet that it is in.
    pub fleet: FleetId,
    /// The broker, `host:port`.
    pub broker: String,
    /// SHA-256 of the signed root metadata that it began with.
    pub root: Digest,
    /// Its certificate, DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// The authorities of controller and broker, DER.
    pub authorities: Vec<ByteBuf>,
    /// When it got its certificate, Unix seconds by its own clock.
    pub since: u64,
    /// When its certificate ends, Unix seconds.
    pub expires: u64,
}

impl Enrolment {
    /// Who is believed to be the controller or the broker.
    pub fn authority(&self) -> Authority {
        Authority::Known(self.authorities.iter().map(|der| der.to_vec()).collect())
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    seed: Vec<u8>,
    enrolment: Option<Enrolment>,
}

impl Message for Stored {
    const KIND: &'static str = "identity";
    const SIZE_MAX: usize = EnrolResponse::SIZE_MAX + 16 * 1024;
}

/// Identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what an agent wrote.
    #[error(
        "the identity in {place} cannot be read ({problem}): it is damaged, or of an agent that still \
         had a password. Restore it, or remove the data folder and enrol this device again after \
         `tidegate device remove`"
    )]
    Damaged {
        /// Which file, with its whole path.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The device's key and enrolment, and the file that keeps them. What is printed of it has no key.
pub struct Identity {
    disk: Folder,
    seed: [u8; 32],
    enrolment: Option<Enrolment>,
}

impl Identity {
    /// Reads the identity, or makes a new one: a device makes its key itself, and it never leaves.
    ///
    /// # Errors
    /// [`IdentityError`]. A damaged identity is not replaced: the fleet knows the device by it.
    pub fn load(disk: Folder) -> Result<Self, IdentityError> {
        let Some(bytes) = read(&disk, NAME, Stored::SIZE_MAX)? else {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(IdentityError::Random)?;
            let identity = Self { disk, seed, enrolment: None };
            identity.save()?;
            return Ok(identity);
        };
        let damaged = |problem| IdentityError::Damaged { place: disk.place(NAME), problem };
        let stored: Stored = match envelope::open(&bytes) {
            Ok(stored) => stored,
            Err(error) => return Err(damaged(error.to_string())),
        };
        match <[u8; 32]>::try_from(stored.seed.as_slice()) {
            Ok(seed) => Ok(Self { disk, seed, enrolment: stored.enrolment }),
            Err(_) => Err(damaged("the key does not have 32 bytes".to_string())),
        }
    }

    /// The device's key.
    pub fn key(&self) -> SigningKey {
        SigningKey::from_seed(&self.seed)
    }

    /// A certificate request for this key under the name `device`: PKCS#10, DER.
    pub fn certificate_request(&self, device: &DeviceId) -> Vec<u8> {
        let pkcs8 = tls::pkcs8(&self.seed);
        let key = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)
            .expect("every seed is an Ed25519 key");
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, device.as_str());
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        let request = params.serialize_request(&key);
        request.expect("a name and a key make a request").der().to_vec()
    }

    /// What this device shows of itself, with a certificate, DER, for its key.
    pub fn credentials(&self, certificate: Vec<u8>) -> Credentials {
        Credentials::ed25519(certificate, &self.seed)
    }

    /// How to connect with what `enrolment` gave for this key.
    ///
    /// # Errors
    /// [`TlsError`] if a certificate cannot be used, or is for another key.
    pub fn tls(&self, enrolment: &Enrolment, floor: &TimeFloor) -> Result<ClientConfig, TlsError> {
        let credentials = self.credentials(enrolment.certificate.clone());
        tls::client(&enrolment.authority(), Some(&credentials), floor)
    }

    /// What enrolment gave, if the device has enrolled.
    pub fn enrolment(&self) -> Option<&Enrolment> {
        self.enrolment.as_ref()
    }

    /// Keeps what enrolment gave, durably.
    ///
    /// # Errors
    /// [`DiskError`]; nothing changed then.
    pub fn enrolled(&mut self, enrolment: Enrolment) -> Result<(), DiskError> {
        let before = self.enrolment.replace(enrolment);
        self.save().inspect_err(|_| self.enrolment = before)
    }

    fn save(&self) -> Result<(), DiskError> {
        let stored = Stored { seed: self.seed.to_vec(), enrolment: self.enrolment.clone() };
        replace(&self.disk, NAME, &envelope::seal(&stored), Access::Owner)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk, seed: _, enrolment } = self;
        write!(f, "Identity({}, key ***, {enrolment:?})", disk.place(NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_enrolment_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut identity = Identity::load(Folder::new(folder.path())).unwrap();
        let enrolment = Enrolment {
            device: "pi-1".parse().unwrap(),
            controller: "https://c:1".to_string(),
            fleet: "oslo".parse().unwrap(),
            broker: "b:8883".to_string(),
            root: Digest::of(b"root"),
            certificate: vec![1; 300],
            authorities: vec![ByteBuf::from(vec![2; 300])],
            since: 1,
            expires: 2,
        };
        identity.enrolled(enrolment.clone()).unwrap();
        let again = Identity::load(Folder::new(folder.path())).unwrap();
        assert_eq!(again.key().id(), identity.key().id());
        assert_eq!(again.enrolment(), Some(&enrolment));
    }

    #[test]
    fn two_devices_have_two_keys() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] =
            folders.each_ref().map(|it| Identity::load(Folder::new(it.path())).unwrap());
        assert_ne!(one.key().id(), two.key().id());
    }

    #[test]
    fn a_damaged_identity_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        std::fs::write(&path, b"\xff").unwrap();
        let error = Identity::load(Folder::new(folder.path())).unwrap_err().to_string();
        assert!(error.contains("identity") && error.contains("device remove"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"\xff");
    }
}
