//! Several byte strings in one: what a fuzzer can cut and join without knowing it.
//!
//! Each piece is a byte that says what it is, its length in two bytes, and so many bytes; a piece
//! that is cut off is what there is of it.

/// One piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// What it is.
    pub(crate) tag: u8,
    /// Its content.
    pub(crate) bytes: &'a [u8],
}

/// The pieces of an input, at most `count_max`.
pub(crate) fn pieces(mut input: &[u8], count_max: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let ([tag, low, high, rest @ ..], true) = (input, pieces.len() < count_max) {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        pieces.push(Piece { tag: *tag, bytes });
        input = rest;
    }
    pieces
}

/// An input of these pieces.
pub(crate) fn write<'a>(pieces: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut input = Vec::new();
    for (tag, bytes) in pieces {
        let length = u16::try_from(bytes.len()).expect("seeds are small");
        input.push(tag);
        input.extend_from_slice(&length.to_le_bytes());
        input.extend_from_slice(bytes);
    }
    input
}
