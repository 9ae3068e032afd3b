//! What need not be fetched because it lies on the disk.

use alloc::format;
use alloc::vec;

use tidegate_disk::{Access, Disk, DiskError};
use tidegate_trust::Verifier;
use tidegate_wire::Digest;

/// The most bytes that are read at once.
pub(super) const PIECE: u64 = 64 * 1024;

/// Whether the file is at `path` already, or could be had from `twin`. A disk that does not work
/// is no reason to give up here: what cannot be read is not there.
pub(super) fn take<D: Disk + ?Sized>(
    disk: &D,
    path: &str,
    twin: &str,
    length: u64,
    digest: Digest,
) -> bool {
    if is_right(disk, path, length, digest) {
        return true;
    }
    if !is_right(disk, twin, length, digest) {
        return false;
    }
    // A file in a slot is never written to once it has its name, so one may have two.
    let _ = disk.remove(path);
    disk.link(twin, path).or_else(|_| copy(disk, twin, path, length)).is_ok()
}

fn is_right<D: Disk + ?Sized>(disk: &D, path: &str, length: u64, digest: Digest) -> bool {
    if !disk.length(path).is_ok_and(|found| found == Some(length)) {
        return false;
    }
    let mut verifier = Verifier::new(length, digest);
    let read = pieces(disk, path, length, |_, piece| Ok(verifier.update(piece).is_ok()));
    read.is_ok() && verifier.finish().is_ok()
}

/// For file systems without links. The copy gets its name when it is whole.
fn copy<D: Disk + ?Sized>(disk: &D, from: &str, to: &str, length: u64) -> Result<(), DiskError> {
    let partial = partial(to);
    disk.create(&partial, Access::Folder)?;
    let copied = pieces(disk, from, length, |offset, piece| {
        disk.write_at(&partial, offset, piece).map(|()| true)
    });
    if let Err(error) = copied.and_then(|_| disk.sync(&partial)) {
        let _ = disk.remove(&partial);
        return Err(error);
    }
    disk.rename(&partial, to)
}

/// Where a file's bytes are collected until they are all there and right.
pub(super) fn partial(path: &str) -> alloc::string::String {
    format!("{path}.part")
}

/// Shows a file piece by piece, at most `length` bytes of it and as long as `show` says so.
pub(super) fn pieces<D: Disk + ?Sized>(
    disk: &D,
    path: &str,
    length: u64,
    mut show: impl FnMut(u64, &[u8]) -> Result<bool, DiskError>,
) -> Result<u64, DiskError> {
    let mut buffer = vec![0; usize::try_from(length.min(PIECE)).unwrap_or(PIECE as usize)];
    let mut offset = 0;
    while offset < length {
        let count = disk.read_at(path, offset, &mut buffer)?;
        if count == 0 || !show(offset, &buffer[..count])? {
            break;
        }
        offset += count as u64;
    }
    Ok(offset)
}
