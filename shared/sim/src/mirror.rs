//! A mirror of the controller's files: signed metadata by name, blobs by digest. What it serves
//! need not be what it should.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_trust::Role;
use tidegate_wire::Digest;

use crate::rng::Stream;

/// A metadata file: whose, and which version; None is the newest.
pub type Name = (Role, Option<u64>);

/// What a mirror holds.
#[derive(Debug, Clone, Default)]
pub struct Files {
    metadata: BTreeMap<(&'static str, Option<u64>), Rc<[u8]>>,
    blobs: BTreeMap<Digest, Rc<[u8]>>,
    /// The timestamp before the newest.
    former: Option<Rc<[u8]>>,
}

const TIMESTAMP: Name = (Role::Timestamp, None);

impl Files {
    /// Takes a metadata file.
    pub fn put_metadata(&mut self, (role, version): Name, bytes: &[u8]) {
        let replaced = self.metadata.insert((role.name(), version), bytes.into());
        if (role, version) == TIMESTAMP {
            self.former = replaced.or(self.former.take());
        }
    }

    /// What a mirror has that missed the newest publication: older than what devices know already.
    pub fn outdated(&self) -> Self {
        let mut files = self.clone();
        if let Some(former) = &self.former {
            files.metadata.insert((TIMESTAMP.0.name(), TIMESTAMP.1), Rc::clone(former));
        }
        files
    }

    /// Takes a blob.
    pub fn put_blob(&mut self, digest: Digest, bytes: &[u8]) {
        self.blobs.insert(digest, bytes.into());
    }

    /// Whether a metadata file is there with these bytes.
    pub fn has_metadata(&self, (role, version): Name, bytes: &[u8]) -> bool {
        self.metadata.get(&(role.name(), version)).is_some_and(|there| **there == *bytes)
    }
}

/// What is asked of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A metadata file.
    Metadata(Name),
    /// A blob.
    Blob(Digest),
}

/// What a mirror answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The whole file, or what it takes for it.
    Bytes(Rc<[u8]>),
    /// The beginning of a file; then the connection breaks.
    Begun(Rc<[u8]>),
    /// Bytes without end.
    Endless,
    /// There is no such file.
    Missing,
}

/// What is wrong with a mirror: so many of a thousand answers each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wrong {
    /// End early.
    pub truncated: u64,
    /// Have a flipped bit.
    pub flipped: u64,
    /// Do not end.
    pub endless: u64,
    /// Are not there.
    pub lost: u64,
}

/// The mirror.
#[derive(Debug, Default)]
pub struct Mirror {
    /// What it should serve.
    pub files: Files,
    /// What it serves instead, if it is stale.
    pub stale: Option<Files>,
    /// What is wrong with it.
    pub wrong: Wrong,
}

impl Mirror {
    /// Answers a wish.
    pub fn answer(&self, wish: Wish, stream: &mut Stream) -> Answer {
        let files = self.stale.as_ref().unwrap_or(&self.files);
        let found = match wish {
            Wish::Metadata((role, version)) => files.metadata.get(&(role.name(), version)),
            Wish::Blob(digest) => files.blobs.get(&digest),
        };
        let Some(bytes) = found else { return Answer::Missing };
        if self.wrong == Wrong::default() {
            return Answer::Bytes(Rc::clone(bytes));
        }
        if stream.chance(self.wrong.lost) {
            return Answer::Missing;
        }
        if stream.chance(self.wrong.endless) {
            return Answer::Endless;
        }
        let somewhere = stream.below(bytes.len() as u64) as usize;
        if stream.chance(self.wrong.truncated) {
            let begun: Rc<[u8]> = bytes[..somewhere].into();
            // Half of them claim to be whole.
            return match stream.chance(500) {
                true => Answer::Bytes(begun),
                false => Answer::Begun(begun),
            };
        }
        if stream.chance(self.wrong.flipped) && !bytes.is_empty() {
            let mut flipped = bytes.to_vec();
            flipped[somewhere] ^= 1 << stream.below(8);
            return Answer::Bytes(flipped.into());
        }
        Answer::Bytes(Rc::clone(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn a_mirror_serves_what_is_wrong_with_it() {
        let mut stream = Stream::new(1, Purpose::Servers, 0);
        let mut mirror = Mirror::default();
        let digest = Digest::of(b"bytes");
        mirror.files.put_blob(digest, b"bytes");
        let mut ask = |mirror: &Mirror| mirror.answer(Wish::Blob(digest), &mut stream);
        assert_eq!(ask(&mirror), Answer::Bytes(b"bytes".as_slice().into()));
        mirror.wrong.flipped = 1_000;
        let Answer::Bytes(bytes) = ask(&mirror) else { panic!("it is whole") };
        assert!(bytes.len() == 5 && *bytes != *b"bytes");
        mirror.wrong.truncated = 1_000;
        let (Answer::Bytes(bytes) | Answer::Begun(bytes)) = ask(&mirror) else { panic!("bytes") };
        assert!(bytes.len() < 5);
        mirror.wrong.endless = 1_000;
        assert_eq!(ask(&mirror), Answer::Endless);
        mirror.wrong.lost = 1_000;
        assert_eq!(ask(&mirror), Answer::Missing);
        mirror.stale = Some(Files::default());
        mirror.wrong = Wrong::default();
        assert_eq!(ask(&mirror), Answer::Missing);
    }
}
