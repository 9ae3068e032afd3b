//! The real disk: a folder of a real file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tidegate_disk::{Access, Disk, DiskError, Fault};

/// A folder. Its operations block, and are durable as [`Disk`] says.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`, which [`Folder::make`] makes if need be.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder at `root`, made durably if it is not there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn make(root: &Path) -> Result<Self, DiskError> {
        let is_there = root.is_dir();
        fs::create_dir_all(root).map_err(|error| failure("create", root, &error))?;
        if let Some(parent) = root.parent().filter(|it| !is_there && !it.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Ok(Self::new(root))
    }

    /// Where a name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Does something to a file or folder, and names it if that fails.
    fn on<T>(
        &self,
        action: &'static str,
        name: &str,
        act: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let path = self.path(name);
        act(&path).map_err(|error| failure(action, &path, &error))
    }
}

/// An error of the system about a path.
pub fn failure(action: &'static str, path: &Path, error: &io::Error) -> DiskError {
    let fault = match error.kind() {
        io::ErrorKind::NotFound => Fault::Missing,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
        _ => Fault::Failed,
    };
    DiskError::new(action, &path.display().to_string(), fault, error)
}

fn sync_folder(path: &Path) -> Result<(), DiskError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failure("sync", path, &error))
}

impl Disk for Folder {
    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn length(&self, name: &str) -> Result<Option<u64>, DiskError> {
        self.on("read", name, |path| match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn read_at(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.on("read", name, |path| {
            let file = File::open(path)?;
            let mut count = 0;
            while count < into.len() {
                match file.read_at(&mut into[count..], offset + count as u64) {
                    Ok(0) => break,
                    Ok(more) => count += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(count)
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, DiskError> {
        self.on("list", folder, |path| {
            let entries = match fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut names = Vec::new();
            for entry in entries {
                // What has another kind of name was not made here.
                names.extend(entry?.file_name().into_string().ok());
            }
            names.sort();
            Ok(names)
        })
    }

    fn create(&self, name: &str, access: Access) -> Result<(), DiskError> {
        self.on("create", name, |path| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            if access == Access::Owner {
                options.mode(0o600);
            }
            let file = options.open(path)?;
            // One that was there may be readable by others.
            if access == Access::Owner {
                file.set_permissions(fs::Permissions::from_mode(0o600))?;
            }
            Ok(())
        })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.on("write", name, |path| {
            OpenOptions::new().write(true).open(path)?.write_all_at(bytes, offset)
        })
    }

    fn truncate(&self, name: &str, length: u64) -> Result<(), DiskError> {
        self.on("truncate", name, |path| {
            let file = OpenOptions::new().write(true).open(path)?;
            if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
        })
    }

    fn sync(&self, name: &str) -> Result<(), DiskError> {
        // A file's descriptor does not matter: its pages are the system's, whoever wrote them.
        self.on("sync", name, |path| OpenOptions::new().write(true).open(path)?.sync_data())
    }

    fn make_folder(&self, folder: &str) -> Result<(), DiskError> {
        self.on("create", folder, |path| fs::create_dir_all(path))
    }

    fn sync_folder(&self, folder: &str) -> Result<(), DiskError> {
        sync_folder(&self.path(folder))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.on("rename", from, |path| fs::rename(path, self.path(to)))
    }

    fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.on("link", from, |path| fs::hard_link(path, self.path(to)))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.on("remove", name, |path| fs::remove_file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_disk::memory::MemoryDisk;
    use tidegate_disk::{read, remove, replace};

    #[test]
    fn a_secret_is_replaced_as_a_whole_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Folder::new(folder.path());
        let mode = |name: &str| fs::metadata(disk.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(read(&disk, "identity", 9).unwrap(), None);
        replace(&disk, "identity", b"one", Access::Owner).unwrap();
        // A crash before the rename leaves a temporary file, which the next write replaces.
        fs::write(folder.path().join("identity.new"), "torn").unwrap();
        replace(&disk, "identity", b"two", Access::Owner).unwrap();
        assert_eq!(read(&disk, "identity", 9).unwrap().as_deref(), Some(b"two".as_slice()));
        assert_eq!((fs::read_dir(folder.path()).unwrap().count(), mode("identity")), (1, 0o600));
        fs::write(disk.path("open"), "for all").unwrap();
        disk.create("open", Access::Owner).unwrap();
        assert_eq!((disk.length("open").unwrap(), mode("open")), (Some(0), 0o600));
    }

    #[test]
    fn an_error_names_the_whole_path() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Folder::new(folder.path());
        fs::write(disk.path("f"), "four").unwrap();
        assert_eq!(read(&disk, "f", 4).unwrap().unwrap(), b"four");
        let path = disk.path("f").display().to_string();
        for error in [
            read(&disk, "f", 3).unwrap_err(),
            replace(&disk, "f/g", b"", Access::Folder).unwrap_err(),
            disk.make_folder("f/g").unwrap_err(),
            disk.list("f").unwrap_err(),
        ] {
            assert!(error.to_string().contains(&path), "{error}");
        }
    }

    /// The simulator's disk and the real one must not differ in what callers see.
    #[test]
    fn a_real_disk_and_one_in_memory_do_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let real = Folder::make(&folder.path().join("data/new")).unwrap();
        let memory = MemoryDisk::default();
        assert_eq!(script(&real), script(&memory));
    }

    /// What each operation says, without the words of the system.
    fn script(disk: &dyn Disk) -> Vec<String> {
        let mut said = Vec::new();
        let mut note = |what: Result<String, DiskError>| {
            said.push(what.unwrap_or_else(|error| format!("{:?}", error.fault)));
        };
        let done = |result: Result<(), DiskError>| result.map(|()| "done".to_string());
        note(done(disk.create("a/f", Access::Folder)));
        note(done(disk.make_folder("a/b")));
        note(done(disk.make_folder("a/b")));
        note(done(disk.create("a/f", Access::Folder)));
        note(done(disk.write_at("a/f", 3, b"xyz")));
        note(done(disk.write_at("a/g", 0, b"xyz")));
        let mut into = [9; 8];
        note(disk.read_at("a/f", 1, &mut into).map(|count| format!("{count} {into:?}")));
        note(disk.read_at("a/f", 7, &mut into).map(|count| format!("{count}")));
        note(disk.read_at("a/g", 0, &mut into).map(|count| format!("{count}")));
        note(done(disk.link("a/f", "a/b/g")));
        note(done(disk.link("a/f", "a/b/g")));
        note(done(disk.link("a/x", "a/b/x")));
        note(done(disk.truncate("a/b/g", 4)));
        note(done(disk.truncate("a/b/g", 40)));
        note(disk.length("a/f").map(|length| format!("{length:?}")));
        note(disk.length("a/b").map(|length| format!("{length:?}")));
        note(done(disk.rename("a/f", "a/b/h")));
        note(done(disk.rename("a/f", "a/b/h")));
        note(done(disk.rename("a/b/h", "a/b/g")));
        note(done(disk.rename("a/b/h", "no/g")));
        note(disk.list("a").map(|names| format!("{names:?}")));
        note(disk.list("a/b").map(|names| format!("{names:?}")));
        note(disk.list("no").map(|names| format!("{names:?}")));
        note(done(disk.sync("a/b/g")));
        note(done(disk.sync("a/f")));
        note(done(disk.sync_folder("a/b")));
        note(done(disk.sync_folder("no")));
        note(done(disk.remove("a/b/g")));
        note(done(disk.remove("a/b/g")));
        note(done(remove(disk, "a/b/g")));
        note(done(replace(disk, "a/b/g", b"whole", Access::Owner)));
        note(read(disk, "a/b/g", 9).map(|bytes| format!("{bytes:?}")));
        note(done(disk.write_at("a/b", 0, b"x")));
        note(done(disk.make_folder("a/b/g/h")));
        said
    }
}
