//! A file's bytes in pages that copies share, so that a hundred thousand disks fit into memory.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes of a page: what a disk writes whole or not at all, as far as any disk does.
pub(super) const PAGE: usize = 512;

/// What a file holds. A copy shares everything until one of the two is written to; zeros at the
/// end of a page take no room.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    length: u64,
    pages: Arc<Vec<Page>>,
}

/// A page without the zeros at its end; None is nothing but zeros.
type Page = Option<Arc<[u8]>>;

impl Content {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether both share their memory, so that they are equal without a look at a byte.
    pub fn is_same(&self, other: &Self) -> bool {
        self.length == other.length && Arc::ptr_eq(&self.pages, &other.pages)
    }

    /// All bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slice(0..self.length)
    }

    /// Reads from `offset` on and says how many bytes.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let there = self.length.saturating_sub(offset).min(into.len() as u64) as usize;
        let into = &mut into[..there];
        into.fill(0);
        for piece in pieces(offset, there) {
            if let Some(Some(page)) = self.pages.get(piece.page) {
                let end = piece.within.end.min(page.len());
                if piece.within.start < end {
                    let found = &page[piece.within.start..end];
                    into[piece.at..piece.at + found.len()].copy_from_slice(found);
                }
            }
        }
        there
    }

    /// The bytes of a range, as far as there are any.
    pub(super) fn slice(&self, range: Range<u64>) -> Vec<u8> {
        let end = range.end.min(self.length);
        let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
        self.read(range.start, &mut bytes);
        bytes
    }

    /// Writes; what lies between the end and `offset` becomes zeros.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.length {
            self.set_length(end);
        }
        let pages = Arc::make_mut(&mut self.pages);
        for piece in pieces(offset, bytes.len()) {
            let new = &bytes[piece.at..piece.at + piece.within.len()];
            let mut page = [0; PAGE];
            if let Some(old) = &pages[piece.page] {
                page[..old.len()].copy_from_slice(old);
            }
            page[piece.within].copy_from_slice(new);
            pages[piece.page] = trimmed(&page);
        }
    }

    /// Cuts off or adds zeros.
    pub(super) fn set_length(&mut self, length: u64) {
        let pages = Arc::make_mut(&mut self.pages);
        pages.resize((length as usize).div_ceil(PAGE), None);
        let within = length as usize % PAGE;
        // What is cut off must not come back when the file grows again.
        if length < self.length
            && within > 0
            && let Some(Some(last)) = pages.last_mut()
            && last.len() > within
        {
            let cut = trimmed(&last[..within]);
            *pages.last_mut().expect("it was just looked at") = cut;
        }
        self.length = length;
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        let pages = bytes.chunks(PAGE).map(trimmed).collect();
        Self { length: bytes.len() as u64, pages: Arc::new(pages) }
    }
}

fn trimmed(page: &[u8]) -> Page {
    let end = page.iter().rposition(|byte| *byte != 0)? + 1;
    Some(Arc::from(&page[..end]))
}

/// The part of a range that lies in one page.
struct Piece {
    page: usize,
    within: Range<usize>,
    /// Where it begins, counted from the range's start.
    at: usize,
}

/// A range in pieces that each lie in one page.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = Piece> {
    let offset = offset as usize;
    let mut at = 0;
    core::iter::from_fn(move || {
        if at == length {
            return None;
        }
        let start = (offset + at) % PAGE;
        let count = (PAGE - start).min(length - at);
        let piece = Piece { page: (offset + at) / PAGE, within: start..start + count, at };
        at += count;
        Some(piece)
    })
}
