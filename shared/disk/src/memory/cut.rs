//! What a power cut leaves of that which was not durable.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::content::{Content, PAGE};
use super::files::{Change, Entry, File, Renaming};
use super::{Inner, MemoryDisk};

/// What becomes of one change that was not durable when power went. Changes of names, and files
/// that were cut off, know only [`Fate::Whole`]; anything else is as if it had never been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Whole,
    /// It is not there.
    Missing,
    /// So many bytes from its start are there.
    Prefix(u64),
    /// Of the sectors (512 bytes) that it touches, those whose bit is set are there; the 65th goes
    /// by the first bit again. The file has grown for all of it.
    Sectors(u64),
    /// The file has grown for it, but where it should be there are zeros, or what was there before.
    Hole,
}

/// A change that a power cut may undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsynced {
    /// The number of its operation.
    pub operation: u64,
    /// A name of what it is about.
    pub name: String,
    /// What kind of change.
    pub what: What,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Bytes of a file.
    Bytes {
        /// Where they begin.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// A file was cut off.
    CutOff,
    /// A name was made, removed, or given to something else.
    Name,
}

/// A disk as it may be found after a power cut.
#[derive(Debug, Clone)]
pub struct Found {
    /// What became of each change that was not durable, oldest first.
    pub fates: Vec<Fate>,
    /// The disk, with power.
    pub disk: MemoryDisk,
}

impl MemoryDisk {
    /// What is not durable, oldest first.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        self.inner.borrow().pending().into_iter().map(|(unsynced, _)| unsynced).collect()
    }

    /// The disk as it is found after a power cut now, or after the one that was. `fates` are those
    /// of [`MemoryDisk::unsynced`]; what has none is missing. Full disks and bad blocks stay.
    pub fn after_power_cut(&self, fates: &[Fate]) -> Self {
        let inner = self.inner.borrow();
        let mut after = inner.clone();
        (after.operations, after.cut_at, after.is_off) = (0, None, false);
        let renamings = core::mem::take(&mut after.files.renamings);
        for change in renamings.iter().rev().flat_map(|renaming| renaming.names.iter().rev()) {
            after.files.set(&change.name, change.before);
        }
        for file in after.files.inodes_mut() {
            file.take_back();
        }
        for ((_, pending), fate) in inner.pending().into_iter().zip(fates) {
            match pending {
                Pending::Content(inode, change) => {
                    if let Some(file) = after.files.inode_mut(inode) {
                        apply(file, change, *fate);
                    }
                }
                Pending::Name(renaming) if *fate == Fate::Whole => {
                    for change in &renaming.names {
                        after.files.set(&change.name, change.after);
                    }
                }
                Pending::Name(_) => {}
            }
        }
        after.files.forget_homeless();
        Self { inner: after.into() }
    }

    /// The disk as the next process finds it when this one was killed, power or not: all that was
    /// done is there, and what was not durable is not durable yet.
    pub fn after_kill(&self) -> Self {
        let mut after = self.inner.borrow().clone();
        (after.operations, after.cut_at, after.is_off) = (0, None, false);
        Self { inner: after.into() }
    }

    /// The disks that may be found, as far as they are worth a look: all that was not durable is
    /// there or nothing, each change alone is missing, alone there or torn, the first or the last
    /// few are there. Some dozens for each change; each disk once.
    pub fn power_cuts(&self) -> Vec<Found> {
        let unsynced = self.unsynced();
        let mut seen = BTreeSet::new();
        let mut found = vec![];
        for fates in interesting(&unsynced) {
            let disk = self.after_power_cut(&fates);
            if seen.insert(disk.image()) {
                found.push(Found { fates, disk });
            }
        }
        found
    }

    /// What may become of each change that is not durable, by numbers drawn from `next`.
    pub fn draw_fates(&self, next: &mut dyn FnMut() -> u64) -> Vec<Fate> {
        let unsynced = self.unsynced();
        let one = |it: &Unsynced, next: &mut dyn FnMut() -> u64| match (it.what, next() % 8) {
            (_, 0..=2) => Fate::Whole,
            (What::Bytes { length, .. }, 5) => Fate::Prefix(next() % (length + 1)),
            (What::Bytes { .. }, 6) => Fate::Sectors(next()),
            (What::Bytes { .. }, 7) => Fate::Hole,
            _ => Fate::Missing,
        };
        match next() % 4 {
            // Most disks keep the order: whole until power went, and one torn.
            0 | 1 => {
                let kept = (next() % (unsynced.len() as u64 + 1)) as usize;
                let mut fates = vec![Fate::Whole; kept];
                fates.extend(unsynced.get(kept).map(|it| one(it, next)));
                fates.resize(unsynced.len(), Fate::Missing);
                fates
            }
            _ => unsynced.iter().map(|it| one(it, next)).collect(),
        }
    }

    /// Everything that can be seen of a disk, to tell two apart: all names, and what files hold.
    pub fn image(&self) -> Vec<(String, Option<Content>)> {
        let inner = self.inner.borrow();
        let content = |entry| match entry {
            Entry::Folder => None,
            Entry::File(inode) => inner.files.inode(inode).map(|file| file.content().clone()),
        };
        inner.files.entries().map(|(name, entry)| (name.to_string(), content(entry))).collect()
    }
}

enum Pending<'a> {
    Content(u32, &'a Change),
    Name(&'a Renaming),
}

impl Inner {
    fn pending(&self) -> Vec<(Unsynced, Pending<'_>)> {
        let mut all = vec![];
        for (inode, file) in self.files.inodes() {
            for (operation, change) in &file.changes {
                let what = match change {
                    Change::Write { offset, bytes, .. } => {
                        What::Bytes { offset: *offset, length: bytes.len() as u64 }
                    }
                    Change::Put { after, .. } => What::Bytes { offset: 0, length: after.len() },
                    Change::Truncate { .. } => What::CutOff,
                };
                let name = self.files.name_of(inode).unwrap_or("(a file without a name)");
                let unsynced = Unsynced { operation: *operation, name: name.to_string(), what };
                all.push((unsynced, Pending::Content(inode, change)));
            }
        }
        for renaming in &self.files.renamings {
            let name = renaming.names.last().map_or("", |change| &change.name).to_string();
            let unsynced = Unsynced { operation: renaming.at, name, what: What::Name };
            all.push((unsynced, Pending::Name(renaming)));
        }
        all.sort_by_key(|(unsynced, _)| unsynced.operation);
        all
    }
}

/// Does to a file what a power cut left of a change.
fn apply(file: &mut File, change: &Change, fate: Fate) {
    match change {
        Change::Truncate { length, .. } if fate == Fate::Whole => file.truncate(*length),
        Change::Truncate { .. } => {}
        Change::Put { after, .. } => match fate {
            Fate::Missing => {}
            Fate::Whole => file.set(after.clone()),
            // The file was emptied, and is written anew.
            Fate::Prefix(_) | Fate::Sectors(_) | Fate::Hole => {
                file.set(Content::default());
                write(file, 0, &after.to_vec(), fate);
            }
        },
        Change::Write { offset, bytes, .. } => write(file, *offset, bytes, fate),
    }
}

fn write(file: &mut File, offset: u64, bytes: &[u8], fate: Fate) {
    let length = bytes.len() as u64;
    match fate {
        Fate::Missing => {}
        Fate::Whole => file.write(offset, bytes),
        Fate::Prefix(count) => file.write(offset, &bytes[..count.min(length) as usize]),
        Fate::Hole => file.grow(offset + length),
        Fate::Sectors(mask) => {
            file.grow(offset + length);
            for (index, (start, end)) in sectors(offset, length).enumerate() {
                if mask >> (index % 64) & 1 == 1 {
                    file.write(offset + start, &bytes[start as usize..end as usize]);
                }
            }
        }
    }
}

/// The parts of a write that lie in one sector each.
fn sectors(offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
    let page = PAGE as u64;
    let first = page - offset % page;
    let starts = core::iter::once(0).chain((first..length).step_by(PAGE));
    starts.filter(move |start| *start < length).map(move |start| {
        let end = start + (page - (offset + start) % page);
        (start, end.min(length))
    })
}

fn interesting(unsynced: &[Unsynced]) -> Vec<Vec<Fate>> {
    let count = unsynced.len();
    let mut all = vec![];
    for kept in 0..=count {
        let mut first = vec![Fate::Missing; count];
        first[..kept].fill(Fate::Whole);
        let mut last = first.clone();
        last.reverse();
        all.extend([first, last]);
    }
    for (at, it) in unsynced.iter().enumerate() {
        for fate in fates_of(it.what) {
            let mut others_there = vec![Fate::Whole; count];
            let mut later_missing = others_there.clone();
            later_missing[at..].fill(Fate::Missing);
            let mut others_missing = vec![Fate::Missing; count];
            for fates in [&mut others_there, &mut later_missing, &mut others_missing] {
                fates[at] = fate;
            }
            all.extend([others_there, later_missing, others_missing]);
        }
    }
    all
}

fn fates_of(what: What) -> Vec<Fate> {
    let mut fates = vec![Fate::Missing, Fate::Whole];
    let What::Bytes { offset, length } = what else { return fates };
    let (_, first_end) = sectors(offset, length).next().unwrap_or_default();
    for count in [1, length / 2, first_end, length.saturating_sub(1)] {
        if count > 0 && count < length {
            fates.push(Fate::Prefix(count));
        }
    }
    let sectors = sectors(offset, length).count();
    if sectors > 1 {
        // All but the first, all but the last, every other one.
        let last = 1 << ((sectors - 1) % 64);
        fates.extend([!1, !last, 0xaaaa_aaaa_aaaa_aaaa].map(Fate::Sectors));
    }
    fates.push(Fate::Hole);
    fates
}
