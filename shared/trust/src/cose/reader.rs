//! Reads the few CBOR items that a COSE structure is made of, borrowing from the bytes as received.
//!
//! Only used on bytes that [`tidegate_wire::codec`] found to be deterministic CBOR, so lengths are
//! definite and shortest. Still, nothing here panics on other bytes.

use super::CoseError;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

/// A header's label or a plain value: what can be an integer or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Int(i64),
    Other,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], CoseError> {
        let count = usize::try_from(count).map_err(|_| CoseError::Shape("truncated"))?;
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or(CoseError::Shape("truncated"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next item's major type and argument.
    fn head(&mut self) -> Result<(u8, u64), CoseError> {
        let first = self.take(1)?[0];
        let argument = match first & 0x1f {
            info @ 0..=23 => u64::from(info),
            info @ 24..=27 => {
                let wide = self.take(1 << (info - 24))?;
                wide.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
            _ => return Err(CoseError::Shape("indefinite length")),
        };
        Ok((first >> 5, argument))
    }

    fn expect(&mut self, major: u8, what: &'static str) -> Result<u64, CoseError> {
        match self.head()? {
            (found, argument) if found == major => Ok(argument),
            _ => Err(CoseError::Shape(what)),
        }
    }

    /// The length of the array that starts here.
    pub(super) fn array(&mut self) -> Result<u64, CoseError> {
        self.expect(4, "an array belongs here")
    }

    /// The number of pairs of the map that starts here.
    pub(super) fn map(&mut self) -> Result<u64, CoseError> {
        self.expect(5, "a map belongs here")
    }

    /// A byte string's bytes.
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], CoseError> {
        let length = self.expect(2, what)?;
        self.take(length)
    }

    /// An integer, or anything else, which is skipped.
    pub(super) fn label(&mut self) -> Result<Label, CoseError> {
        let before = self.bytes;
        let (major, argument) = self.head()?;
        if let (0 | 1, Ok(value)) = (major, i64::try_from(argument)) {
            return Ok(Label::Int(if major == 0 { value } else { -1 - value }));
        }
        self.bytes = before;
        self.item()?;
        Ok(Label::Other)
    }

    /// Steps over one item and returns its bytes. Nesting was limited when the bytes were checked.
    pub(super) fn item(&mut self) -> Result<&'a [u8], CoseError> {
        let before = self.bytes;
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            let (major, argument) = self.head()?;
            let inner = match major {
                2 | 3 => {
                    self.take(argument)?;
                    0
                }
                4 => argument,
                5 => argument.checked_mul(2).ok_or(CoseError::Shape("truncated"))?,
                6 => 1,
                _ => 0,
            };
            left = left.checked_add(inner).ok_or(CoseError::Shape("truncated"))?;
        }
        Ok(&before[..before.len() - self.bytes.len()])
    }
}
