//! A Unix socket: bound beside what a process before left behind, and removed at the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A socket in the file system; its file goes with it.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// Someone answers there.
    #[error("another process answers there: is an agent running already?")]
    InUse,
    /// There is something that is not ours to remove.
    #[error(
        "there is something else of that name, which is left alone; remove it or choose another"
    )]
    NotASocket,
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl UnixSocket {
    /// Binds at `path` with the permissions `mode`. A socket that nobody listens at any more is
    /// replaced; a folder that is missing is made.
    ///
    /// # Errors
    /// [`UnixSocketError`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, UnixSocketError> {
        check_free(path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Under another name first, so that nobody finds it before it has its permissions.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(mode))?;
        let identity = identity(&new)?;
        fs::rename(&new, path)?;
        Ok(Self { listener, file: SocketFile { path: path.to_path_buf(), identity } })
    }

    /// The listener, and its file, which is removed when that is dropped.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

fn check_free(path: &Path) -> Result<(), UnixSocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !found.file_type().is_socket() {
        return Err(UnixSocketError::NotASocket);
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(UnixSocketError::InUse),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A socket's file; removed with this, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "cannot remove the socket {}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/api.sock");
        let first = UnixSocket::bind(&path, 0o600).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        let refused = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(refused, UnixSocketError::InUse), "{refused}");
        assert_eq!(mode_of(&path), 0o600);

        // As a crash leaves it: the file is there, and nobody listens.
        let (listener, file) = first.into_parts();
        drop(listener);
        let second = UnixSocket::bind(&path, 0o660).unwrap();
        assert_eq!(mode_of(&path), 0o660);
        // The first one's file is not there any more, and the second one's is not its own.
        drop(file);
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(second);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        fs::write(&path, "precious").unwrap();
        let refused = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(refused, UnixSocketError::NotASocket), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
