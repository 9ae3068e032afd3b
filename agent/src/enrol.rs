//! How the device gets into its fleet: with an invitation, and a key that it made itself.
//!
//! ```text
//! invitation ─ pins the authority ─ signed request ─ certificate, authorities, root ─ kept
//! ```
//!
//! The invitation names the fingerprints of the authority and of the root metadata, so nothing is
//! believed because it came first. Each step may be cut off: the request is the same every time,
//! and a device whose key the controller knows gets its answer again.

use std::time::Duration;

use tidegate_disk::DiskError;
use tidegate_trust::{Role, Trusted, sign_enrol};
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::envelope;
use tidegate_wire::invitation::{Invitation, Secret};
use tidegate_wire::{Digest, FleetId};

use crate::clock::Backoff;
use crate::config::{Config, ConfigError};
use crate::store::TrustStore;
use crate::store::identity::{Enrolment, Identity};
use crate::tls::{self, Authority, TimeFloor, TlsError};
use crate::upstream::{Upstream, UpstreamError};

/// First and longest wait between two tries.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The device cannot get in, and trying again will not help.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No invitation, and not enrolled.
    #[error(
        "this device has not enrolled yet and has no invitation: set `enrol_token` or \
         `enrol_token_file` to what `tidegate device token` prints"
    )]
    NoToken,
    /// The token file cannot be used.
    #[error(transparent)]
    Token(#[from] ConfigError),
    /// The id belongs to another device.
    #[error(
        "device id {device} is already enrolled with another key: choose another `device`, or run \
         `tidegate device remove {device}` if this one replaces it"
    )]
    Taken {
        /// The id.
        device: String,
    },
    /// The device, or its key, was shut out.
    #[error(
        "the controller shut this device out ({detail}): to let it in again, run `tidegate device \
         remove {device}`, remove the file `identity` from {folder}, so that the device makes a new \
         key, and give it a new token"
    )]
    Revoked {
        /// The id.
        device: String,
        /// The data folder.
        folder: String,
        /// The controller's words.
        detail: String,
    },
    /// The controller gave other root metadata than the invitation names.
    #[error(
        "the controller sent root metadata that the invitation does not name (its SHA-256 is \
         {sent}, the invitation says {wanted}): ask for a new token"
    )]
    Root {
        /// The fingerprint in the invitation.
        wanted: Digest,
        /// The fingerprint of what came.
        sent: Digest,
    },
    /// The data folder belongs to another device or fleet.
    #[error(
        "the data folder {} belongs to device {was}, not to {now}: set `device` back, or use \
         another `data_dir`",
        folder
    )]
    OtherDevice {
        /// The folder.
        folder: String,
        /// The id that it was enrolled with.
        was: String,
        /// The id that is configured now.
        now: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Whom a device asks, and what it brings.
pub(crate) struct Errand {
    /// The controller's address.
    pub(crate) controller: String,
    /// How it is recognised.
    pub(crate) authority: Authority,
    /// SHA-256 of the signed root metadata to begin with.
    pub(crate) root: Digest,
    /// The invitation's secret. A device that is known needs none.
    pub(crate) secret: Option<Secret>,
}

/// Why the controller gave no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It could not be asked, or refused.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The authorities that are known cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its answer cannot be used.
    #[error("the controller's answer cannot be used: {0}")]
    Answer(String),
}

impl AskError {
    /// The HTTP status, if it answered.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Upstream(error) => error.status,
            _ => None,
        }
    }
}

impl Errand {
    fn invited(config: &Config, invitation: Invitation) -> Self {
        let Invitation { controller, authority, root, secret } = invitation;
        let controller = config.controller.clone().unwrap_or(controller);
        let authority = Authority::Pinned(authority);
        Self { controller, authority, root, secret: Some(secret) }
    }

    /// Of a device that the controller knows.
    pub(crate) fn known(config: &Config, enrolment: &Enrolment) -> Self {
        Self {
            controller: controller(config, enrolment),
            authority: enrolment.authority(),
            root: enrolment.root,
            secret: None,
        }
    }

    /// Asks once. No certificate is shown: the signature on the request is the device's proof, so a
    /// certificate that has expired is not in the way.
    pub(crate) async fn ask(
        &self,
        config: &Config,
        identity: &Identity,
        floor: &TimeFloor,
    ) -> Result<EnrolResponse, AskError> {
        let key = identity.key();
        let request = EnrolRequest {
            device: config.device.clone(),
            labels: config.labels.clone(),
            public_key: key.public().as_bytes().to_vec(),
            certificate_request: identity.certificate_request(&config.device),
            secret: self.secret.clone(),
            root: self.root,
            agent: env!("CARGO_PKG_VERSION").to_string(),
        };
        let tls = tls::client(&self.authority, None, floor)?;
        let upstream = Upstream::new(&self.controller, tls, silence_max(config))?;
        let answer = upstream.enrol(sign_enrol(&key, &request)).await?;
        envelope::open(&answer).map_err(|error| AskError::Answer(error.to_string()))
    }

    /// What the device keeps of an answer, if it is good for something.
    pub(crate) fn accept(
        &self,
        config: &Config,
        identity: &Identity,
        floor: &TimeFloor,
        answer: EnrolResponse,
    ) -> Result<Enrolment, AskError> {
        let enrolment = Enrolment {
            device: config.device.clone(),
            controller: self.controller.clone(),
            fleet: answer.fleet,
            broker: answer.broker,
            root: self.root,
            certificate: answer.certificate,
            authorities: answer.authorities,
            since: floor.now(),
            expires: answer.expires,
        };
        identity.tls(&enrolment, floor)?;
        Ok(enrolment)
    }
}

/// The controller's address: as configured, or where the device enrolled.
pub(crate) fn controller(config: &Config, enrolment: &Enrolment) -> String {
    config.controller.clone().unwrap_or_else(|| enrolment.controller.clone())
}

/// How long a connection to the controller may be silent.
pub(crate) fn silence_max(config: &Config) -> Duration {
    Duration::from_secs(config.downloads.silence_seconds_max)
}

/// Enrols unless that was done before. Tries for ever while the controller is away.
///
/// # Errors
/// [`EnrolError`] for what only an operator can change.
pub async fn enrol(
    config: &Config,
    identity: &mut Identity,
    trust: &TrustStore,
    floor: &TimeFloor,
) -> Result<Enrolment, EnrolError> {
    if let Some(enrolment) = identity.enrolment() {
        check_same_device(config, enrolment)?;
        if trust.load()?.is_some() {
            return Ok(enrolment.clone());
        }
        // Somebody removed the root: the controller knows the key, and gives the root again.
    }
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        // Read anew each time: a token that was used up can be replaced while the agent waits.
        let errand = errand(config, identity)?;
        let problem = match errand.ask(config, identity, floor).await {
            Ok(answer) => match admit(config, identity, trust, floor, &errand, answer)? {
                Ok(enrolment) => return Ok(enrolment),
                Err(problem) => problem,
            },
            Err(error) => match refused(config, &error) {
                Some(refused) => return Err(refused),
                None => error.to_string(),
            },
        };
        let wait = backoff.next_wait();
        let (controller, seconds) = (&errand.controller, wait.as_secs_f32());
        tracing::warn!(
            "not enrolled yet at {controller}: {problem}; trying again in {seconds:.1} s"
        );
        tokio::time::sleep(wait).await;
    }
}

fn errand(config: &Config, identity: &Identity) -> Result<Errand, EnrolError> {
    if let Some(enrolment) = identity.enrolment() {
        return Ok(Errand::known(config, enrolment));
    }
    let invitation = config.invitation()?.ok_or(EnrolError::NoToken)?;
    Ok(Errand::invited(config, invitation))
}

fn refused(config: &Config, error: &AskError) -> Option<EnrolError> {
    let device = config.device.to_string();
    match error.status() {
        Some(409) => Some(EnrolError::Taken { device }),
        Some(403) => {
            let (folder, detail) = (config.data_dir.display().to_string(), error.to_string());
            Some(EnrolError::Revoked { device, folder, detail })
        }
        _ => None,
    }
}

fn check_same_device(config: &Config, enrolment: &Enrolment) -> Result<(), EnrolError> {
    if enrolment.device == config.device {
        return Ok(());
    }
    Err(EnrolError::OtherDevice {
        folder: config.data_dir.display().to_string(),
        was: enrolment.device.to_string(),
        now: config.device.to_string(),
    })
}

/// Keeps the answer: the root first, since an identity that says "enrolled" without one is stuck.
fn admit(
    config: &Config,
    identity: &mut Identity,
    trust: &TrustStore,
    floor: &TimeFloor,
    errand: &Errand,
    answer: EnrolResponse,
) -> Result<Result<Enrolment, String>, EnrolError> {
    let sent = Digest::of(&answer.root);
    if sent != errand.root {
        return Err(EnrolError::Root { wanted: errand.root, sent });
    }
    let root = answer.root.clone();
    if let Err(problem) = check_root(&root, &answer.fleet) {
        return Ok(Err(problem));
    }
    let enrolment = match errand.accept(config, identity, floor, answer) {
        Ok(enrolment) => enrolment,
        Err(error) => return Ok(Err(error.to_string())),
    };
    trust.persist(Role::Root, &root)?;
    identity.enrolled(enrolment.clone())?;
    Ok(Ok(enrolment))
}

fn check_root(root: &[u8], fleet: &FleetId) -> Result<(), String> {
    match Trusted::<tidegate_trust::CoseCbor>::from_root(root.to_vec()) {
        Ok(trusted) if trusted.fleet() == fleet => Ok(()),
        Ok(_) => Err("the controller sent another fleet's root".to_string()),
        Err(error) => Err(format!("the controller's root metadata is bad: {error}")),
    }
}
