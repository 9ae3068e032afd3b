//! Who this device is: its key, and what enrolment gave it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_trust::SigningKey;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::{DeviceId, FleetId};

use super::files::{self, Access, StoreError};

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
    /// Its password at broker and controller, its id being the user name.
    pub password: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    seed: Vec<u8>,
    enrolment: Option<Enrolment>,
}

impl Message for Stored {
    const KIND: &'static str = "identity";
    const SIZE_MAX: usize = 16 * 1024;
}

/// Identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is not what an agent wrote.
    #[error(
        "the identity in {} is damaged ({problem}): restore it, or remove the data folder and \
         enrol this device again after `tidegate device remove`",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The device's key and enrolment, and the file that keeps them.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    seed: [u8; 32],
    enrolment: Option<Enrolment>,
}

impl Identity {
    /// Reads the identity, or makes a new one: a device makes its key itself, and it never leaves.
    ///
    /// # Errors
    /// [`IdentityError`]. A damaged identity is not replaced: the fleet knows the device by it.
    pub fn load(path: PathBuf) -> Result<Self, IdentityError> {
        let Some(bytes) = files::read(&path, Stored::SIZE_MAX)? else {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(IdentityError::Random)?;
            let identity = Self { path, seed, enrolment: None };
            identity.save()?;
            return Ok(identity);
        };
        let damaged = |path, problem: String| IdentityError::Damaged { path, problem };
        let stored: Stored = match envelope::open(&bytes) {
            Ok(stored) => stored,
            Err(error) => return Err(damaged(path, error.to_string())),
        };
        match <[u8; 32]>::try_from(stored.seed.as_slice()) {
            Ok(seed) => Ok(Self { path, seed, enrolment: stored.enrolment }),
            Err(_) => Err(damaged(path, "the key does not have 32 bytes".to_string())),
        }
    }

    /// The device's key.
    pub fn key(&self) -> SigningKey {
        SigningKey::from_seed(&self.seed)
    }

    /// What enrolment gave, if the device has enrolled.
    pub fn enrolment(&self) -> Option<&Enrolment> {
        self.enrolment.as_ref()
    }

    /// Keeps what enrolment gave, durably.
    ///
    /// # Errors
    /// [`StoreError`]; nothing changed then.
    pub fn enrolled(&mut self, enrolment: Enrolment) -> Result<(), StoreError> {
        let before = self.enrolment.replace(enrolment);
        self.save().inspect_err(|_| self.enrolment = before)
    }

    /// Forgets the enrolment, durably; the key stays.
    ///
    /// # Errors
    /// [`StoreError`]; nothing changed then.
    pub fn leave(&mut self) -> Result<(), StoreError> {
        let before = self.enrolment.take();
        self.save().inspect_err(|_| self.enrolment = before)
    }

    fn save(&self) -> Result<(), StoreError> {
        let stored = Stored { seed: self.seed.to_vec(), enrolment: self.enrolment.clone() };
        files::replace(&self.path, &envelope::seal(&stored), Access::Owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_enrolment_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let mut identity = Identity::load(path.clone()).unwrap();
        let enrolment = Enrolment {
            device: "pi-1".parse().unwrap(),
            controller: "http://c:1".to_string(),
            fleet: "oslo".parse().unwrap(),
            broker: "b:1883".to_string(),
            password: "secret".to_string(),
        };
        identity.enrolled(enrolment.clone()).unwrap();
        let again = Identity::load(path).unwrap();
        assert_eq!(again.key().id(), identity.key().id());
        assert_eq!(again.enrolment(), Some(&enrolment));
    }

    #[test]
    fn two_devices_have_two_keys() {
        let folder = tempfile::tempdir().unwrap();
        let one = Identity::load(folder.path().join("one")).unwrap();
        let two = Identity::load(folder.path().join("two")).unwrap();
        assert_ne!(one.key().id(), two.key().id());
    }

    #[test]
    fn a_damaged_identity_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        std::fs::write(&path, b"\xff").unwrap();
        let error = Identity::load(path.clone()).unwrap_err().to_string();
        assert!(error.contains("identity") && error.contains("device remove"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"\xff");
    }
}
