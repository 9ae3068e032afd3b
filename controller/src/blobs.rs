//! Blobs on the disk, each under its SHA-256: `blobs/<first two digits>/<digest>`.
//!
//! A blob appears by a rename after its bytes were checked and are on the disk, so what is there is
//! whole. Nothing is ever overwritten: the same name means the same bytes.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tidegate_wire::Digest;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::clock;

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is larger than this server takes.
    #[error("the blob is larger than the {0} bytes that this server takes (blob_bytes_max)")]
    TooLarge(u64),
    /// The bytes have another digest.
    #[error("the bytes that arrived have the SHA-256 {found}, not {expected}: nothing was stored")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The disk failed or is full.
    #[error("the blob cannot be stored: {0}")]
    Io(#[from] io::Error),
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    bytes_max: u64,
}

impl Blobs {
    /// The blobs in a folder that exists; each may have at most `bytes_max` bytes. What uploads
    /// that were broken off by a crash have left is removed.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let blobs = Self { folder: folder.into(), bytes_max };
        std::fs::create_dir_all(blobs.incoming())?;
        for left in std::fs::read_dir(blobs.incoming())? {
            std::fs::remove_file(left?.path())?;
        }
        Ok(blobs)
    }

    /// Where a blob lies if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    /// How many bytes a blob has; none if it is not there.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        let found = std::fs::metadata(self.path(digest)).ok()?;
        found.is_file().then_some(found.len())
    }

    /// Reads a small blob.
    ///
    /// # Errors
    /// If it is not there, larger than `limit` or damaged.
    pub fn read(&self, digest: &Digest, limit: usize) -> io::Result<Vec<u8>> {
        let path = self.path(digest);
        if std::fs::metadata(&path)?.len() > limit as u64 {
            return Err(io::Error::other(format!("blob {digest} has more than {limit} bytes")));
        }
        let bytes = std::fs::read(path)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(io::Error::other(format!("blob {digest} is damaged on the disk"))),
        }
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn receive(&self, digest: Digest) -> Result<Incoming, BlobError> {
        let temporary = self.incoming().join(clock::secret().bearer());
        let file = File::create_new(&temporary).await?;
        let (hasher, length) = (Sha256::new(), 0);
        Ok(Incoming {
            blobs: self.clone(),
            digest,
            temporary: Temporary(temporary),
            file,
            hasher,
            length,
        })
    }

    fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }
}

/// An upload under way. Dropped before the end, it leaves nothing.
pub struct Incoming {
    blobs: Blobs,
    digest: Digest,
    temporary: Temporary,
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Incoming {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] with the first byte too many, [`BlobError::Io`] if the disk is full.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.blobs.bytes_max {
            return Err(BlobError::TooLarge(self.blobs.bytes_max));
        }
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes).await?)
    }

    /// Checks the bytes and gives them their name, durably. Returns how many there are.
    ///
    /// # Errors
    /// [`BlobError::Digest`] if they are other bytes.
    pub async fn finish(mut self) -> Result<u64, BlobError> {
        let found = Digest(self.hasher.finalize().into());
        if found != self.digest {
            return Err(BlobError::Digest { expected: self.digest, found });
        }
        self.file.flush().await?;
        self.file.sync_all().await?;
        let path = self.blobs.path(&self.digest);
        let folder = path.parent().expect("it lies in a folder");
        fs::create_dir_all(folder).await?;
        fs::rename(&self.temporary.0, &path).await?;
        for folder in [folder, &self.blobs.folder] {
            File::open(folder).await?.sync_all().await?;
        }
        Ok(self.length)
    }
}

/// A file that goes when nobody needs it; after the rename there is none.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(blobs: &Blobs, digest: Digest, bytes: &[u8]) -> Result<u64, BlobError> {
        let mut incoming = blobs.receive(digest).await?;
        for chunk in bytes.chunks(3) {
            incoming.write(chunk).await?;
        }
        incoming.finish().await
    }

    fn left_over(blobs: &Blobs) -> usize {
        std::fs::read_dir(blobs.incoming()).unwrap().count()
    }

    #[tokio::test]
    async fn only_whole_and_right_bytes_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), 10).unwrap();
        let digest = Digest::of(b"weights");
        let error = store(&blobs, digest, b"weighty").await.unwrap_err();
        assert!(matches!(error, BlobError::Digest { .. }), "{error}");
        let error = store(&blobs, digest, b"weights and more").await.unwrap_err();
        assert!(matches!(error, BlobError::TooLarge(10)), "{error}");
        drop(blobs.receive(digest).await.unwrap());
        assert_eq!((blobs.length(&digest), left_over(&blobs)), (None, 0));
        assert_eq!(store(&blobs, digest, b"weights").await.unwrap(), 7);
        assert_eq!(store(&blobs, digest, b"weights").await.unwrap(), 7, "again");
        assert_eq!(blobs.read(&digest, 10).unwrap(), b"weights");
        assert_eq!((blobs.length(&digest), left_over(&blobs)), (Some(7), 0));
    }

    #[tokio::test]
    async fn a_damaged_blob_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), 10).unwrap();
        let digest = Digest::of(b"weights");
        store(&blobs, digest, b"weights").await.unwrap();
        std::fs::write(blobs.path(&digest), b"wEights").unwrap();
        assert!(blobs.read(&digest, 10).unwrap_err().to_string().contains("damaged"));
    }
}
