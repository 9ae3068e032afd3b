//! What controller and devices say to each other: names, messages, topics, reason codes, and the
//! one place where CBOR is read and written.
//!
//! Every message is a typed struct. [`codec`] turns it into deterministic CBOR inside a versioned
//! [`envelope`], and back: unknown fields are skipped, so an older reader understands a newer
//! writer; an unknown version is refused with a reason; nothing is decoded before its size was
//! checked.
//!
//! This crate does no IO, keeps no state and signs nothing: signatures are the business of
//! `tidegate-trust`, which signs bytes that were made here.
//!
//! Without the `alloc` feature only ids of fixed size, reason codes and policies remain, which is
//! what the lifecycle machine needs on a microcontroller without an allocator.
//!
//! ```
//! use tidegate_wire::{codec, envelope, report::Ack, Digest};
//!
//! let ack = Ack { spool: 7, seqs: vec![(0, 4)] };
//! let bytes = envelope::seal(&ack);
//! assert_eq!(envelope::open::<Ack>(&bytes).unwrap(), ack);
//! assert!(codec::decode::<Digest>(b"\xff", 64).is_err());
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;

mod digest;
mod generation;
pub mod humility;
pub mod policy;
mod reason;
mod state;

pub use digest::{Digest, ParseDigestError};
pub use generation::Generation;
pub use reason::Reason;
pub use state::State;

#[cfg(feature = "alloc")]
pub mod codec;
#[cfg(feature = "alloc")]
pub mod directive;
#[cfg(feature = "alloc")]
pub mod enrol;
#[cfg(feature = "alloc")]
pub mod envelope;
#[cfg(feature = "alloc")]
mod feedback;
#[cfg(feature = "alloc")]
mod id;
#[cfg(feature = "alloc")]
pub mod invitation;
#[cfg(feature = "alloc")]
pub mod manifest;
#[cfg(feature = "alloc")]
pub mod report;
#[cfg(feature = "alloc")]
pub mod tensor;
#[cfg(feature = "alloc")]
pub mod topic;

#[cfg(feature = "alloc")]
pub use id::{ArtifactRef, DeviceId, FleetId, InvalidName, Labels, ModelName, Version};
