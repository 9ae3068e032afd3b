//! Refuses everything that is not deterministic CBOR, without building anything.

use super::{DEPTH_MAX, DecodeError};

/// Checks that `bytes` are exactly one deterministic CBOR item.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut walk = Walk { bytes, offset: 0 };
    walk.item(0)?;
    if walk.offset < bytes.len() { Err(walk.error("bytes after the end")) } else { Ok(()) }
}

/// The first bytes of an item: its major type and its argument.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) major: u8,
    pub(super) argument: u64,
}

pub(super) struct Walk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
}

impl<'a> Walk<'a> {
    fn error(&self, what: &'static str) -> DecodeError {
        DecodeError::NotDeterministic { offset: self.offset, what }
    }

    /// Steps over `count` bytes and returns them.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], DecodeError> {
        let count = usize::try_from(count).map_err(|_| self.error("truncated"))?;
        let end = self.offset.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("truncated"))?;
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }

    /// Steps over the head of an item.
    pub(super) fn head(&mut self) -> Result<Head, DecodeError> {
        let start = self.offset;
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => return Ok(Head { major, argument: info.into() }),
            24..=27 => 1 << (info - 24),
            _ => {
                self.offset = start;
                return Err(self.error("indefinite or reserved length"));
            }
        };
        let argument = self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let smallest = [24, 1 << 8, 1 << 16, 1 << 32][usize::from(info - 24)];
        // Major type 7 with 2, 4 or 8 bytes is a float: its bits are no length.
        let float = major == 7 && info > 24;
        if argument < smallest && !float {
            self.offset = start;
            return Err(self.error("a number or length that is not in its shortest form"));
        }
        Ok(Head { major, argument })
    }

    pub(super) fn item(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        let Head { major, argument } = self.head()?;
        match major {
            2 => self.take(argument).map(drop),
            3 => {
                let start = self.offset;
                let valid = core::str::from_utf8(self.take(argument)?).is_ok();
                self.offset = if valid { self.offset } else { start };
                if valid { Ok(()) } else { Err(self.error("text that is not UTF-8")) }
            }
            4 => (0..argument).try_for_each(|_| self.item(depth + 1)),
            5 => self.map(argument, depth),
            6 => self.item(depth + 1),
            _ => Ok(()),
        }
    }

    /// Keys must rise strictly in the order of their bytes, so none can stand twice.
    fn map(&mut self, pairs: u64, depth: usize) -> Result<(), DecodeError> {
        let mut previous = 0..0;
        for index in 0..pairs {
            let start = self.offset;
            self.item(depth + 1)?;
            let key = start..self.offset;
            if index > 0 && self.bytes[key.clone()] <= self.bytes[previous.clone()] {
                self.offset = start;
                return Err(self.error("map keys twice or out of order"));
            }
            previous = key;
            self.item(depth + 1)?;
        }
        Ok(())
    }
}
