//! Files that are replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::error::ClientError;

/// A folder of ours.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder with this path; it is made when the first file is written.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The content of a file. None if there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Replaces a file durably: the old content or the new, whatever happens.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let write = || {
            fs::create_dir_all(&self.0)?;
            let new = self.0.join(format!("{name}.new"));
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, self.0.join(name))?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| self.failed(name, error))
    }

    /// Deletes a file, if there is one.
    pub fn delete(&self, name: &str) -> Result<(), ClientError> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name, error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, name: &str, error: io::Error) -> ClientError {
        ClientError::Storage { path: self.0.join(name), error }
    }
}
