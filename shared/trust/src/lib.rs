//! Keys, roles, COSE envelopes and the TUF workflow: what decides whether bytes from outside are
//! to be believed.
//!
//! Two questions, two keys. *May this model ever run?* is answered by release metadata (root,
//! targets, snapshot, timestamp), which publishers sign, k of n. *Which devices run it now?* is
//! answered by directives, which the director signs, a role in root. So a stolen controller can
//! only choose among models that the publishers signed, above the floor and not revoked.
//!
//! - [`key`] and [`cose`]: Ed25519, and signatures over exact bytes as received.
//! - [`metadata`] and [`requirements`]: what is signed.
//! - [`codec`]: the seam between the workflow and the bytes.
//! - [`authorise`]: whether an artifact may be installed, and if not, why.
//! - [`trusted`] and [`workflow`]: what a device trusts, and how it comes to trust newer metadata.
//! - [`reduced`]: the same with fewer steps, for microcontrollers.
//! - [`directive`] and [`enrol`]: the two other signed messages.
//! - [`release`]: the publishers' and the controller's side.
//! - [`file`](mod@file): length and digest of everything that is fetched.
//!
//! Deliberately absent: clocks (times come in as Unix seconds), files, PEM and passphrases,
//! random numbers, sockets, TUF's delegations and mirror lists (a fleet has one set of
//! publishers), and any way to trust something unsigned.
//!
//! ```
//! use tidegate_trust::release::{self, Keyring, Roster};
//! use tidegate_trust::{SigningKey, Trusted};
//!
//! let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
//! let (alice, bob, online) = (key(1), key(2), key(3));
//! let publishers = Keyring { keys: vec![alice.public(), bob.public()], threshold: 2 };
//! let controller = Keyring { keys: vec![online.public()], threshold: 1 };
//! let roster = Roster {
//!     root: publishers.clone(),
//!     targets: publishers,
//!     snapshot: controller.clone(),
//!     timestamp: controller.clone(),
//!     director: controller,
//! };
//! let root = release::initial("oslo".parse()?, &roster, 1_900_000_000)?;
//! let bytes = release::sign_metadata(&root, &[&alice, &bob]);
//! let device: Trusted = Trusted::from_root(bytes)?;
//! assert_eq!(device.root().version, 1);
//!
//! let too_few = release::sign_metadata(&root, &[&alice]);
//! assert!(Trusted::<tidegate_trust::CoseCbor>::from_root(too_few).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod authorise;
pub mod codec;
pub mod cose;
pub mod directive;
pub mod enrol;
mod error;
pub mod file;
pub mod key;
pub mod metadata;
pub mod reduced;
pub mod release;
pub mod requirements;
pub mod trusted;
pub mod workflow;

#[cfg(test)]
mod testing;

pub use authorise::Refusal;
pub use codec::CoseCbor;
pub use directive::{VerifiedDirective, sign_directive, verify_directive};
pub use enrol::{sign_enrol, verify_enrol};
pub use error::TrustError;
pub use file::{FileError, Verifier};
pub use key::{InvalidKey, KeyId, PublicKey, SigningKey};
pub use metadata::{FileMeta, Role, Root, Snapshot, TargetEntry, Targets, Timestamp};
pub use reduced::Counter;
pub use requirements::{AgentVersion, DeviceFacts, EngineFacts, Requirements};
pub use trusted::{Recovered, Stored, Trusted};
pub use workflow::{Effect, Event, Limits, Refresh, Summary};
