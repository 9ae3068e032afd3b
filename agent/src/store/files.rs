//! Files that are whole or absent after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tidegate_wire::Reason;

/// Reading or writing the device's disk failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StoreError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl StoreError {
    /// The reason code that travels.
    pub fn reason(&self) -> Reason {
        io_reason(&self.source)
    }
}

/// The reason code for a disk's error.
pub fn io_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::DiskFull,
        _ => Reason::StorageFailed,
    }
}

/// Gives an [`io::Error`] the name of the file that it is about.
pub(crate) fn at<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError { action, path: path.to_path_buf(), source }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever may read the folder.
    Folder,
    /// Only the agent's user: it holds a secret.
    Owner,
}

/// Replaces a file: after a power cut there is the old content or the new one, nothing between.
///
/// # Errors
/// [`StoreError`]; the old content is still there then.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    // One that a crash left behind may be readable by others.
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Owner {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(source) = written {
        // What a full disk left of it would only be in the way.
        let _ = fs::remove_file(&temporary);
        return Err(StoreError { action: "write", path: path.to_path_buf(), source });
    }
    fs::rename(&temporary, path).map_err(at("replace", path))?;
    sync_parent(path)
}

/// A file's content, or None if there is no such file.
///
/// # Errors
/// [`StoreError`] if it cannot be read, or has more than `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(at("open", path)(source)),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() > limit {
        let source = io::Error::new(io::ErrorKind::InvalidData, "larger than such a file can be");
        return Err(at("read", path)(source));
    }
    Ok(Some(bytes))
}

/// Removes a file, durably. That there is none is fine.
///
/// # Errors
/// [`StoreError`].
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(at("remove", path)(source)),
    }
}

/// Makes a folder and those above it, durably.
///
/// # Errors
/// [`StoreError`].
pub fn make_folder(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(at("create", path))?;
    sync_parent(path)
}

/// Makes what happened to names in a folder durable.
///
/// # Errors
/// [`StoreError`].
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at("sync", path))
}

pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        assert_eq!(read(&path, 9).unwrap(), None);
        replace(&path, b"one", Access::Owner).unwrap();
        // A crash before the rename leaves a temporary file, which the next write replaces.
        fs::write(folder.path().join("identity.new"), "torn").unwrap();
        replace(&path, b"two", Access::Owner).unwrap();
        assert_eq!(read(&path, 9).unwrap().as_deref(), Some(b"two".as_slice()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap().unwrap(), b"four");
        assert!(read(&path, 3).unwrap_err().to_string().contains("larger"));
    }
}
