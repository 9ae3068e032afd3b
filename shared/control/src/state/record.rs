//! What can be decided.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_rollout::{Rollout, RolloutId};
use tidegate_wire::directive::Directive;
use tidegate_wire::{DeviceId, Digest, FleetId, Labels, ModelName};

use super::Issued;
use crate::access::ApiRole;
use crate::certificate::IssuedCertificate;

/// One decision. Secrets are not in it, only their SHA-256.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// The data folder was made for a fleet.
    Founded {
        /// The fleet.
        fleet: FleetId,
        /// SHA-256 of the signed root metadata.
        root: Digest,
    },
    /// The journal was taken as it was although its end or its head file was missing.
    JournalAccepted {
        /// What was wrong with it.
        found: String,
    },
    /// An operator was let in.
    TokenIssued {
        /// The operator's name.
        name: String,
        /// SHA-256 of the token's secret.
        token: Digest,
        /// What they may do.
        role: ApiRole,
        /// Before which it is not good, Unix milliseconds.
        from_ms: Option<u64>,
        /// From which it is not good any more, Unix milliseconds.
        expires_ms: Option<u64>,
    },
    /// An operator was put out.
    TokenRevoked {
        /// The operator's name.
        name: String,
    },
    /// Some devices may enrol.
    DeviceTokenIssued {
        /// SHA-256 of the token.
        token: Digest,
        /// What the devices get.
        labels: Labels,
        /// How many devices.
        uses: u32,
        /// Until when, Unix milliseconds.
        expires_ms: u64,
    },
    /// A device came in.
    DeviceEnrolled {
        /// Its id.
        device: DeviceId,
        /// Its labels.
        labels: Labels,
        /// Its Ed25519 public key.
        #[serde(with = "serde_bytes")]
        public_key: Vec<u8>,
        /// Its first certificate.
        certificate: IssuedCertificate,
        /// Version of its agent.
        agent: String,
        /// SHA-256 of the token that let it in.
        token: Digest,
    },
    /// A device got another certificate, for the key that it came with.
    CertificateIssued {
        /// Its id.
        device: DeviceId,
        /// The certificate.
        certificate: IssuedCertificate,
    },
    /// A device was shut out: neither its id nor its key gets in any more.
    DeviceRevoked {
        /// Its id.
        device: DeviceId,
    },
    /// A device was forgotten: its certificates count no more, and its id is free.
    DeviceRemoved {
        /// Its id.
        device: DeviceId,
    },
    /// Other keys count from now on.
    RootPublished {
        /// Version of the root metadata.
        version: u64,
        /// SHA-256 of its signed bytes.
        digest: Digest,
    },
    /// The director's key was replaced: directives were signed anew, with the same words.
    DirectivesSigned {
        /// The newest of every model.
        directives: Vec<SignedDirective>,
    },
    /// Publishers released something.
    TargetsPublished {
        /// Version of the targets metadata.
        version: u64,
        /// SHA-256 of its signed bytes.
        digest: Digest,
        /// What it adds, in one line.
        #[serde(default)]
        what: String,
    },
    /// Too few publishers signed a release, which waits for the others.
    ReleaseProposed {
        /// Version of the targets metadata.
        version: u64,
        /// SHA-256 of what is signed, without the signatures.
        content: Digest,
        /// What it adds, in one line.
        what: String,
        /// Who signed it.
        signed: String,
    },
    /// More publishers signed the release that waits, still too few.
    ReleaseSigned {
        /// Version of the targets metadata.
        version: u64,
        /// Who signed it now.
        signed: String,
    },
    /// The release that waited was dropped.
    ReleaseWithdrawn {
        /// Version of the targets metadata.
        version: u64,
    },
    /// A rollout was started.
    RolloutStarted {
        /// As it begins.
        rollout: Box<Rollout>,
    },
    /// A rollout went on, by the planner or by an operator.
    RolloutChanged {
        /// As it is now.
        rollout: Box<Rollout>,
        /// What was decided, one line.
        decision: String,
        /// The directive that goes out with it.
        directive: Option<SignedDirective>,
    },
    /// The checker refused a plan.
    RolloutFaulted {
        /// The rollout.
        id: RolloutId,
        /// What is wrong with the plan.
        violation: String,
    },
}

/// A directive as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedDirective {
    /// What it says.
    pub directive: Directive,
    /// Signed, as it travels.
    #[serde(with = "serde_bytes")]
    pub signed: Vec<u8>,
}

impl SignedDirective {
    pub(super) fn into_issued(self) -> (ModelName, Issued) {
        let Self { directive, signed } = self;
        (directive.model.clone(), Issued { directive, signed })
    }
}

impl Record {
    /// Its kind, for the audit log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Founded { .. } => "fleet-founded",
            Self::JournalAccepted { .. } => "journal-accepted",
            Self::TokenIssued { .. } => "token-issued",
            Self::TokenRevoked { .. } => "token-revoked",
            Self::DeviceTokenIssued { .. } => "device-token-issued",
            Self::DeviceEnrolled { .. } => "device-enrolled",
            Self::CertificateIssued { .. } => "certificate-issued",
            Self::DeviceRevoked { .. } => "device-revoked",
            Self::DeviceRemoved { .. } => "device-removed",
            Self::RootPublished { .. } => "root-published",
            Self::DirectivesSigned { .. } => "directives-signed",
            Self::TargetsPublished { .. } => "release-published",
            Self::ReleaseProposed { .. } => "release-proposed",
            Self::ReleaseSigned { .. } => "release-signed",
            Self::ReleaseWithdrawn { .. } => "release-withdrawn",
            Self::RolloutStarted { .. } => "rollout-started",
            Self::RolloutChanged { .. } => "rollout-changed",
            Self::RolloutFaulted { .. } => "rollout-faulted",
        }
    }

    /// What was decided, as one line.
    pub fn line(&self) -> String {
        match self {
            Self::Founded { fleet, .. } => format!("the fleet {fleet} was founded"),
            Self::JournalAccepted { found } => format!("the journal was accepted although {found}"),
            Self::TokenIssued { name, role, .. } => {
                format!("{name} was given a token with the role {role}")
            }
            Self::TokenRevoked { name } => format!("the token of {name} was revoked"),
            Self::DeviceTokenIssued { uses, .. } => format!("{uses} devices may enrol"),
            Self::DeviceEnrolled { device, .. } => format!("device {device} enrolled"),
            Self::CertificateIssued { device, .. } => format!("device {device}: new certificate"),
            Self::DeviceRevoked { device } => format!("device {device} was shut out"),
            Self::DeviceRemoved { device } => format!("device {device} was removed"),
            Self::RootPublished { version, .. } => format!("root metadata {version}"),
            Self::DirectivesSigned { directives } => {
                format!("{} directives signed with the new director key", directives.len())
            }
            Self::TargetsPublished { version, what, .. } => {
                format!("release metadata {version} {what}").trim_end().to_owned()
            }
            Self::ReleaseProposed { version, what, signed, .. } => {
                format!("release metadata {version} proposed: {what}; signed by {signed}")
            }
            Self::ReleaseSigned { version, signed } => {
                format!("release metadata {version} signed by {signed} too")
            }
            Self::ReleaseWithdrawn { version } => format!("release metadata {version} withdrawn"),
            Self::RolloutStarted { rollout } => {
                format!("rollout {} of {} to {}", rollout.id, rollout.model, rollout.to)
            }
            Self::RolloutChanged { rollout, decision, .. } => {
                format!("rollout {} of {}: {decision}", rollout.id, rollout.model)
            }
            Self::RolloutFaulted { id, violation } => {
                format!("rollout {id} is not planned any more: {violation}")
            }
        }
    }
}
