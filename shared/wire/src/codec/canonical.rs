//! Puts map keys in bytewise order; everything else `serde_cbor` writes is deterministic already.

use alloc::vec::Vec;

use super::strict::{Head, Walk};

/// The same CBOR item with the keys of every map sorted.
///
/// `bytes` must come from our own encoder.
pub(super) fn sort_keys(bytes: &[u8]) -> Vec<u8> {
    let mut sorted = Vec::with_capacity(bytes.len());
    copy_item(&mut Walk { bytes, offset: 0 }, &mut sorted);
    sorted
}

fn copy_item(walk: &mut Walk<'_>, out: &mut Vec<u8>) {
    let start = walk.offset;
    let Head { major, argument } = walk.head().expect("serde_cbor writes definite shortest heads");
    let payload = if matches!(major, 2 | 3) { argument as usize } else { 0 };
    walk.offset += payload;
    out.extend_from_slice(&walk.bytes[start..walk.offset]);
    match major {
        4 => (0..argument).for_each(|_| copy_item(walk, out)),
        5 => copy_map(walk, argument, out),
        6 => copy_item(walk, out),
        _ => {}
    }
}

fn copy_map(walk: &mut Walk<'_>, pairs: u64, out: &mut Vec<u8>) {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..pairs {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        copy_item(walk, &mut key);
        copy_item(walk, &mut value);
        entries.push((key, value));
    }
    entries.sort();
    for (key, value) in entries {
        out.extend_from_slice(&key);
        out.extend_from_slice(&value);
    }
}
