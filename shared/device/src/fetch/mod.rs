//! Brings an artifact's missing files into a slot.
//!
//! The manifest comes first: it is the blob named by the artifact. Every file that it lists and
//! that is not in the slot yet is linked from the other slot if it lies there, or fetched. Nothing
//! is believed for having arrived: each file is checked by length and digest while it comes, and
//! the whole slot again by the verification that follows.
//!
//! [`Fetch`] has no connection and no clock. It says what it wants ([`Effect`]), and whoever drives
//! it answers with an [`Input`] and the time, until it is [`Effect::Done`]:
//!
//! | wants | answer |
//! |---|---|
//! | [`Work`](Effect::Work): something on the disk that may take long | [`Input::Work`] |
//! | [`Ask`](Effect::Ask): a blob from an offset on | [`Answered`](Input::Answered), [`RangeRefused`](Input::RangeRefused) or [`Failed`](Input::Failed) |
//! | [`Read`](Effect::Read): more of the answer | [`Chunk`](Input::Chunk), [`Ended`](Input::Ended) or [`Failed`](Input::Failed) |
//! | [`Pause`](Effect::Pause): some milliseconds | [`Waited`](Input::Waited) |
//!
//! An input that does not fit what is wanted changes nothing. A fetch can be dropped at any point
//! and begun again: what had arrived is not fetched twice.

mod present;
mod transfer;
mod unmeasured;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};

use tidegate_disk::{Disk, DiskError, Fault};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::{FileEntry, Manifest};
use tidegate_wire::{Digest, Reason};

use transfer::{Progress, Transfer};
use unmeasured::Unmeasured;

pub use transfer::{RESUME_AFTER_MS, SLOWEST};

/// The manifest's file name in a slot. Other files have their role's name.
pub const MANIFEST: &str = "manifest";

/// What to bring where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The artifact: its manifest's digest.
    pub artifact: Digest,
    /// The manifest's length as it was signed, bytes. None: its digest alone must do.
    pub manifest_length: Option<u64>,
    /// The slot's folder on the disk.
    pub slot: String,
    /// The other slot's folder, whose files may be linked.
    pub other_slot: String,
}

/// A download ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// The reason code that travels.
    pub reason: Reason,
    /// What happened to which file, for people.
    pub detail: String,
}

impl From<DiskError> for FetchError {
    fn from(error: DiskError) -> Self {
        let reason = match error.fault {
            Fault::Full => Reason::DiskFull,
            Fault::Missing | Fault::Failed => Reason::StorageFailed,
        };
        Self { reason, detail: error.to_string() }
    }
}

/// What happened, as seen by whoever drives a [`Fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// Go ahead with what may take long.
    Work,
    /// The answer begins.
    Answered {
        /// The offset of its first byte; None if the server did not say.
        start: Option<u64>,
    },
    /// The server has no byte at this offset (HTTP 416). The error is what becomes of it if
    /// nothing else can be asked for.
    RangeRefused(FetchError),
    /// The next bytes of the answer.
    Chunk(&'a [u8]),
    /// The answer is over.
    Ended,
    /// No answer, or it broke off.
    Failed(FetchError),
    /// The pause is over.
    Waited,
}

/// What a [`Fetch`] wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// To look at the disk, or to sync it: may take seconds.
    Work,
    /// A blob from byte `offset` on. Whatever answer there was before is to be let go.
    Ask {
        /// Which.
        digest: Digest,
        /// From where on, bytes.
        offset: u64,
    },
    /// More of the answer.
    Read,
    /// Some time, before it goes on.
    Pause {
        /// How long, milliseconds.
        ms: u64,
    },
    /// Nothing any more. After Ok, all files are in the slot and on the disk.
    Done(Result<(), FetchError>),
}

/// One download of one artifact.
#[derive(Debug)]
pub struct Fetch {
    order: Order,
    /// Files that were not looked for yet.
    files: VecDeque<FileEntry>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Whether the manifest is there.
    Begin,
    /// The manifest, from a server.
    Manifest(Transfer),
    /// A manifest whose length is not known any more, since newer metadata does not name it.
    Unmeasured(Unmeasured),
    /// What the manifest lists, which is there now.
    Open,
    /// The next file, from the disk.
    Look,
    /// The next file, from a server.
    File(Transfer),
    Over(Result<(), FetchError>),
}

impl Fetch {
    /// A download that has not begun.
    pub fn new(order: Order) -> Self {
        Self { order, files: VecDeque::new(), stage: Stage::Begin }
    }

    /// What it wants now; always the same until [`Fetch::step`] is called.
    pub fn wants(&self) -> Effect {
        match &self.stage {
            Stage::Begin | Stage::Open | Stage::Look => Effect::Work,
            Stage::Manifest(transfer) | Stage::File(transfer) => transfer.wants(),
            Stage::Unmeasured(manifest) => manifest.wants(),
            Stage::Over(result) => Effect::Done(result.clone()),
        }
    }

    /// Takes what happened, and says what it wants then. `now_ms` is a monotonic clock,
    /// milliseconds.
    pub fn step<D: Disk + ?Sized>(&mut self, disk: &D, now_ms: u64, input: Input<'_>) -> Effect {
        if let Err(error) = self.advance(disk, now_ms, input) {
            self.stage = Stage::Over(Err(error));
        }
        self.wants()
    }

    fn advance<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        now_ms: u64,
        input: Input<'_>,
    ) -> Result<(), FetchError> {
        let next = match (&mut self.stage, input) {
            (Stage::Begin, Input::Work) => self.begin(disk, now_ms)?,
            (Stage::Open, Input::Work) => {
                self.files = self.open(disk)?.files.into();
                Stage::Look
            }
            (Stage::Look, Input::Work) => self.look(disk, now_ms)?,
            (Stage::Unmeasured(manifest), input) => match manifest.step(disk, input)? {
                Progress::Wanting => return Ok(()),
                Progress::InPlace => Stage::Open,
            },
            (Stage::Manifest(transfer), input) => match transfer.step(disk, now_ms, input)? {
                Progress::Wanting => return Ok(()),
                Progress::InPlace => Stage::Open,
            },
            (Stage::File(transfer), input) => match transfer.step(disk, now_ms, input)? {
                Progress::Wanting => return Ok(()),
                Progress::InPlace => Stage::Look,
            },
            (Stage::Begin | Stage::Open | Stage::Look | Stage::Over(_), _) => return Ok(()),
        };
        self.stage = next;
        Ok(())
    }

    fn begin<D: Disk + ?Sized>(&self, disk: &D, now_ms: u64) -> Result<Stage, FetchError> {
        let Order { artifact: digest, slot, manifest_length, .. } = &self.order;
        tidegate_disk::make_folder(disk, slot)?;
        let path = format!("{slot}/{MANIFEST}");
        let there = tidegate_disk::read(disk, &path, Manifest::SIZE_MAX).ok().flatten();
        if there.is_some_and(|bytes| Digest::of(&bytes) == *digest) {
            return Ok(Stage::Open);
        }
        match *manifest_length {
            None => Ok(Stage::Unmeasured(Unmeasured::new(*digest, path))),
            Some(length) if length <= Manifest::SIZE_MAX as u64 => {
                Ok(Stage::Manifest(Transfer::open(disk, now_ms, *digest, length, path)?))
            }
            Some(length) => {
                let detail = format!("a manifest of {length} bytes is larger than one may be");
                Err(FetchError { reason: Reason::TooLarge, detail })
            }
        }
    }

    fn open<D: Disk + ?Sized>(&self, disk: &D) -> Result<Manifest, FetchError> {
        let path = format!("{}/{MANIFEST}", self.order.slot);
        let bytes = tidegate_disk::read(disk, &path, Manifest::SIZE_MAX)?.unwrap_or_default();
        envelope::open(&bytes).map_err(|error| FetchError {
            reason: error.reason(),
            detail: format!("the manifest {} is not one: {error}", self.order.artifact),
        })
    }

    fn look<D: Disk + ?Sized>(&mut self, disk: &D, now_ms: u64) -> Result<Stage, FetchError> {
        while let Some(FileEntry { role, length, digest }) = self.files.pop_front() {
            let path = format!("{}/{}", self.order.slot, role.name());
            let twin = format!("{}/{}", self.order.other_slot, role.name());
            if !present::take(disk, &path, &twin, length, digest) {
                return Ok(Stage::File(Transfer::open(disk, now_ms, digest, length, path)?));
            }
        }
        disk.sync_folder(&self.order.slot)?;
        Ok(Stage::Over(Ok(())))
    }
}

#[cfg(test)]
mod tests;
