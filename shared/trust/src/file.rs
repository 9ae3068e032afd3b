//! Length and SHA-256 of everything that is fetched, checked while it arrives.

use sha2::{Digest as _, Sha256};
use tidegate_wire::{Digest, Reason};

/// The bytes are not the ones that were signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// More bytes arrived than were signed for.
    #[error("more than the {0} bytes that were signed for")]
    TooLong(u64),
    /// The bytes ended too early.
    #[error("{found} bytes instead of the {expected} that were signed for")]
    TooShort {
        /// Bytes signed for.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The SHA-256 differs.
    #[error("SHA-256 {found} instead of {expected}, which was signed")]
    Digest {
        /// The digest signed for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
}

impl FileError {
    /// The reason code that travels.
    pub fn reason(self) -> Reason {
        match self {
            Self::TooLong(_) => Reason::TooLong,
            Self::TooShort { .. } => Reason::TooShort,
            Self::Digest { .. } => Reason::DigestMismatch,
        }
    }
}

/// Checks a file piece by piece, so that endless data is cut off at the first byte too many and
/// no file needs to be in memory.
///
/// ```
/// use tidegate_trust::file::Verifier;
/// use tidegate_wire::{Digest, Reason};
///
/// let mut verifier = Verifier::new(5, Digest::of(b"model"));
/// verifier.update(b"mod")?;
/// verifier.update(b"el")?;
/// verifier.finish()?;
/// # Ok::<(), tidegate_trust::file::FileError>(())
/// ```
#[derive(Clone)]
pub struct Verifier {
    length: u64,
    digest: Digest,
    seen: u64,
    hasher: Sha256,
}

impl Verifier {
    /// Expects `length` bytes with this SHA-256.
    pub fn new(length: u64, digest: Digest) -> Self {
        Self { length, digest, seen: 0, hasher: Sha256::new() }
    }

    /// Takes the next bytes. After an error the rest need not be fetched.
    ///
    /// # Errors
    /// [`FileError::TooLong`] with the first byte too many.
    pub fn update(&mut self, chunk: &[u8]) -> Result<(), FileError> {
        let seen = self.seen.saturating_add(chunk.len() as u64);
        if seen > self.length {
            // Nothing that follows may make the file pass.
            self.seen = u64::MAX;
            return Err(FileError::TooLong(self.length));
        }
        self.seen = seen;
        self.hasher.update(chunk);
        Ok(())
    }

    /// Bytes that are still to come.
    pub fn missing(&self) -> u64 {
        self.length.saturating_sub(self.seen)
    }

    /// The verdict on the whole file.
    ///
    /// # Errors
    /// [`FileError`] says what differs.
    pub fn finish(self) -> Result<(), FileError> {
        if self.seen > self.length {
            return Err(FileError::TooLong(self.length));
        }
        if self.seen < self.length {
            return Err(FileError::TooShort { expected: self.length, found: self.seen });
        }
        let found = Digest(self.hasher.finalize().into());
        if found == self.digest {
            Ok(())
        } else {
            Err(FileError::Digest { expected: self.digest, found })
        }
    }
}

impl core::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Verifier({} of {} bytes of {})", self.seen, self.length, self.digest)
    }
}

/// Checks a file that is in memory.
///
/// # Errors
/// [`FileError`] says what differs.
pub fn verify(bytes: &[u8], length: u64, digest: Digest) -> Result<(), FileError> {
    let mut verifier = Verifier::new(length, digest);
    verifier.update(bytes)?;
    verifier.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_is_noticed_at_once_and_for_good() {
        let mut verifier = Verifier::new(3, Digest::of(b"abc"));
        verifier.update(b"ab").unwrap();
        assert_eq!(verifier.missing(), 1);
        assert_eq!(verifier.update(b"cd"), Err(FileError::TooLong(3)));
        assert_eq!(verifier.update(b"c"), Err(FileError::TooLong(3)));
        assert_eq!(verifier.finish().unwrap_err().reason(), Reason::TooLong);
    }

    #[test]
    fn short_and_different_files_are_refused() {
        assert_eq!(verify(b"abc", 3, Digest::of(b"abc")), Ok(()));
        assert_eq!(verify(b"", 0, Digest::of(b"")), Ok(()));
        let short = verify(b"ab", 3, Digest::of(b"abc")).unwrap_err();
        assert_eq!(short.reason(), Reason::TooShort);
        let flipped = verify(b"abb", 3, Digest::of(b"abc")).unwrap_err();
        assert_eq!(flipped.reason(), Reason::DigestMismatch);
    }
}
