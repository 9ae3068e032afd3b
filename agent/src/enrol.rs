//! How the device gets into its fleet: once, with the operator's token and a key of its own.

use std::path::Path;
use std::time::Duration;

use tidegate_trust::{Trusted, sign_enrol};
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::envelope;

use crate::clock::Backoff;
use crate::config::{Config, ConfigError};
use crate::store::files::StoreError;
use crate::store::identity::{Enrolment, Identity};
use crate::store::trust::TrustStore;
use crate::upstream::{Upstream, UpstreamError};

/// First and longest wait between two tries.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The device cannot get in, and trying again will not help.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No token, and not enrolled.
    #[error(
        "this device has not enrolled yet and has no token: set `enrol_token` or \
         `enrol_token_file`; `tidegate serve` prints the token when it starts"
    )]
    NoToken,
    /// The token file cannot be read.
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
    Store(#[from] StoreError),
}

/// Enrols unless that was done before. Tries for ever while the controller is away.
///
/// # Errors
/// [`EnrolError`] for what only an operator can change.
pub async fn enrol(
    config: &Config,
    identity: &mut Identity,
    trust: &TrustStore,
    upstream: &Upstream,
) -> Result<Enrolment, EnrolError> {
    if let Some(enrolment) = identity.enrolment() {
        let enrolment = enrolment.clone();
        check_same_device(config, &enrolment)?;
        return Ok(enrolment);
    }
    let token = config.token()?.ok_or(EnrolError::NoToken)?;
    let key = identity.key();
    let request = EnrolRequest {
        device: config.device.clone(),
        labels: config.labels.clone(),
        public_key: key.public().as_bytes().to_vec(),
        token,
        agent: env!("CARGO_PKG_VERSION").to_string(),
    };
    let request = sign_enrol(&key, &request);
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let problem = match upstream.enrol(request.clone()).await {
            Ok(answer) => match admit(config, identity, trust, &answer)? {
                Ok(enrolment) => return Ok(enrolment),
                Err(problem) => problem,
            },
            Err(UpstreamError { status: Some(409), .. }) => {
                return Err(EnrolError::Taken { device: config.device.to_string() });
            }
            Err(error) => error.to_string(),
        };
        let wait = backoff.next_wait();
        let (controller, seconds) = (&config.controller, wait.as_secs_f32());
        tracing::warn!(
            "not enrolled yet at {controller}: {problem}; trying again in {seconds:.1} s"
        );
        tokio::time::sleep(wait).await;
    }
}

fn check_same_device(config: &Config, enrolment: &Enrolment) -> Result<(), EnrolError> {
    if enrolment.device == config.device {
        return Ok(());
    }
    Err(EnrolError::OtherDevice {
        folder: Path::display(&config.data_dir).to_string(),
        was: enrolment.device.to_string(),
        now: config.device.to_string(),
    })
}

/// Keeps the answer: the root first, since an identity that says "enrolled" without one is stuck.
fn admit(
    config: &Config,
    identity: &mut Identity,
    trust: &TrustStore,
    answer: &[u8],
) -> Result<Result<Enrolment, String>, EnrolError> {
    let answer: EnrolResponse = match envelope::open(answer) {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(format!("the controller's answer is {error}"))),
    };
    match Trusted::<tidegate_trust::CoseCbor>::from_root(answer.root.clone()) {
        Ok(trusted) if *trusted.fleet() == answer.fleet => {}
        Ok(_) => return Ok(Err("the controller sent another fleet's root".to_string())),
        Err(error) => return Ok(Err(format!("the controller's root metadata is bad: {error}"))),
    }
    trust.persist(tidegate_trust::Role::Root, &answer.root)?;
    let enrolment = Enrolment {
        device: config.device.clone(),
        controller: config.controller.clone(),
        fleet: answer.fleet,
        broker: answer.broker,
        password: answer.password,
    };
    identity.enrolled(enrolment.clone())?;
    Ok(Ok(enrolment))
}
