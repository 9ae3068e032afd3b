//! The folder that is a controller: where everything lies, and how it is founded.
//!
//! ```text
//! fleet            the fleet's name
//! lock             held by the one process that may use the folder
//! online-keys/     director, snapshot, timestamp (PKCS#8 PEM), all 0600
//! ca/              the fleet's certificate authority, see `authority`
//! admin-token      a pass: the first operator's way in, 0600
//! pending/         a release that waits for signatures
//! key-names.toml   what people call the keys
//! metadata/        N.root, N.targets, N.snapshot, timestamp
//! blobs/           files of artifacts, by SHA-256
//! journal/         what was decided
//! telemetry/       what devices reported; can be rebuilt
//! broker/          retained messages and sessions of the embedded broker
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use tidegate_trust::metadata::RoleKeys;
use tidegate_trust::{Role, Root, SigningKey, TrustError, Trusted};
use tidegate_wire::invitation::Pass;
use tidegate_wire::{Digest, FleetId};

use crate::api::types::ApiRole;
use crate::authority::{Authority, AuthorityError};
use crate::client::DEFAULT_URL;
use crate::clock;
use crate::journal::JournalError;
use crate::keys::{self, KeyFileError};
use crate::ledger::{Decided, Ledger};
use crate::state::Record;

/// Why a folder cannot be founded or used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It was never founded.
    #[error(
        "{path} is no controller's folder yet: run `tidegate trust init --data {path} --fleet NAME` first"
    )]
    NotInitialised {
        /// The folder.
        path: PathBuf,
    },
    /// It was founded before.
    #[error("{path} is a controller's folder already: choose another one")]
    Initialised {
        /// The folder.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{path} is in use by another `tidegate serve`: stop that one first")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file is missing, exposed or damaged.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// None of the online keys has the role.
    #[error(
        "{folder} has no private key with the role {role} in root metadata version {version}: \
         restore it from a backup, or make the new ones there"
    )]
    NoKey {
        /// The role.
        role: Role,
        /// Where the keys lie.
        folder: PathBuf,
        /// The root's version.
        version: u64,
    },
    /// The root metadata needs more than one online signature, but the controller has one key a role.
    #[error(
        "the root metadata asks for {threshold} signatures of {role}; the controller has one key"
    )]
    Threshold {
        /// The role.
        role: Role,
        /// How many it asks for.
        threshold: u32,
    },
    /// The root metadata is for another fleet.
    #[error("the root metadata is for the fleet {found}, not {expected}")]
    Fleet {
        /// What was asked for.
        expected: FleetId,
        /// What the metadata says.
        found: FleetId,
    },
    /// Metadata does not verify.
    #[error("the metadata does not verify: {0}")]
    Trust(#[from] TrustError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Authority(Box<AuthorityError>),
    /// The fleet's name in the folder is none.
    #[error("{path} holds no fleet name: restore it from a backup")]
    Name {
        /// The file.
        path: PathBuf,
    },
}

impl From<AuthorityError> for DataDirError {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(Box::new(error))
    }
}

/// The first operator's pass in the controller's folder.
pub const ADMIN_TOKEN: &str = "admin-token";

/// Paths in a controller's folder.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// The keys that a controller signs with by itself.
pub struct OnlineKeys {
    /// Signs directives.
    pub director: SigningKey,
    /// Signs which targets metadata is the newest.
    pub snapshot: SigningKey,
    /// Signs which snapshot is the newest.
    pub timestamp: SigningKey,
}

/// What founding a fleet gives back, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founded {
    /// The first operator's pass; also in the folder, as `admin-token`.
    pub pass: Pass,
}

impl DataDir {
    /// Names the paths in `root`; touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Signed metadata.
    pub fn metadata(&self) -> PathBuf {
        self.join("metadata")
    }

    /// Where the key of an online role lies.
    pub fn key(&self, role: Role) -> PathBuf {
        self.join("online-keys").join(format!("{role}.pem"))
    }

    /// The fleet's certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.join("ca")
    }

    /// Brings the first operator's pass up to date, whose secret is kept: the address and the
    /// authority may have changed. Whoever removed it has done so on purpose.
    ///
    /// # Errors
    /// [`DataDirError::Io`] if it cannot be written.
    pub fn refresh_pass(&self, url: &str, authority: Digest) -> Result<(), DataDirError> {
        let path = self.join(ADMIN_TOKEN);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let Ok(kept) = text.parse::<Pass>() else {
            tracing::warn!(path = %path.display(), "no pass is in there, so it is left as it is");
            return Ok(());
        };
        if kept.controller == url && kept.authority == authority {
            return Ok(());
        }
        let pass = Pass { controller: url.to_owned(), authority, ..kept };
        write_pass(&path, &pass)
    }

    /// Takes the folder for this process and reads its name, its keys and its authority.
    ///
    /// # Errors
    /// [`DataDirError::NotInitialised`] names the command that founds it, [`DataDirError::InUse`]
    /// says that another process has it.
    pub fn open(&self) -> Result<OpenDataDir, DataDirError> {
        let path = self.join("fleet");
        let name = match fs::read_to_string(&path) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataDirError::NotInitialised { path: self.root.clone() });
            }
            Err(source) => return Err(DataDirError::Io { path, source }),
        };
        let fleet = name.trim().parse().map_err(|_| DataDirError::Name { path })?;
        let lock = self.lock()?;
        let authority = Arc::new(Authority::open(&self.authority(), &fleet, clock::now())?);
        Ok(OpenDataDir { paths: self.clone(), fleet, authority, _lock: lock })
    }

    /// The keys in `online-keys/` to which root gives the online roles. Files of other keys may lie
    /// there: of those that were replaced, or that a rotation is going to bring in.
    ///
    /// # Errors
    /// [`DataDirError::NoKey`] or [`DataDirError::Threshold`] names the role.
    pub fn online_keys(&self, root: &Root) -> Result<OnlineKeys, DataDirError> {
        let folder = self.join("online-keys");
        let failed = |source| DataDirError::Io { path: folder.clone(), source };
        let mut files = Vec::new();
        for file in fs::read_dir(&folder).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                files.push(path);
            }
        }
        files.sort();
        let find = |role: Role| {
            let RoleKeys { keys: ids, threshold } = root.roles.of(role);
            if *threshold != 1 {
                return Err(DataDirError::Threshold { role, threshold: *threshold });
            }
            for path in &files {
                let key = keys::read_private(path)?;
                if ids.contains(&key.id()) {
                    return Ok(key);
                }
            }
            let (folder, version) = (folder.clone(), root.version);
            Err(DataDirError::NoKey { role, folder, version })
        };
        Ok(OnlineKeys {
            director: find(Role::Director)?,
            snapshot: find(Role::Snapshot)?,
            timestamp: find(Role::Timestamp)?,
        })
    }

    fn lock(&self) -> Result<File, DataDirError> {
        let path = self.join("lock");
        let failed = |source| DataDirError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(DataDirError::InUse { path: self.root.clone() })
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// A folder that belongs to this process until it is dropped.
pub struct OpenDataDir {
    /// Where everything lies.
    pub paths: DataDir,
    /// The fleet.
    pub fleet: FleetId,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    _lock: File,
}

/// Founds a controller's folder: checks that the root metadata gives the online roles to the keys
/// in `online-keys/`, stores it as version 1, and makes the fleet's certificate authority and the
/// first operator's pass.
///
/// The three online keys must be there already ([`DataDir::key`] says where); `tidegate trust init`
/// makes them. The folder counts as founded with the last step, so that a founding that was broken
/// off can be repeated.
///
/// # Errors
/// [`DataDirError`]; the folder is not founded then.
pub fn initialise(root: &Path, fleet: &FleetId, metadata: &[u8]) -> Result<Founded, DataDirError> {
    let paths = DataDir::new(root);
    if paths.join("fleet").exists() {
        return Err(DataDirError::Initialised { path: root.into() });
    }
    let trusted: Trusted = Trusted::from_root(metadata.to_vec())?;
    if trusted.fleet() != fleet {
        let (expected, found) = (fleet.clone(), trusted.fleet().clone());
        return Err(DataDirError::Fleet { expected, found });
    }
    paths.online_keys(trusted.root())?;
    for name in ["metadata", "blobs", "journal", "telemetry", "broker"] {
        create_folder(&paths.join(name))?;
    }
    let root_file = paths.metadata().join(format!("{}.root", trusted.root().version));
    write_durably(&root_file, metadata, 0o644)?;
    let authority = Authority::open(&paths.authority(), fleet, clock::now())?;
    let (controller, secret) = (DEFAULT_URL.to_owned(), clock::secret());
    let pass = Pass { controller, authority: authority.digest(), secret };
    write_pass(&paths.join(ADMIN_TOKEN), &pass)?;
    let ledger = Ledger::open(&paths.join("journal"))?;
    let founded = Record::Founded { fleet: fleet.clone(), root: Digest::of(metadata) };
    let admin = Record::TokenIssued {
        name: "admin".into(),
        token: pass.secret.digest(),
        role: ApiRole::Admin,
        from_ms: None,
        expires_ms: None,
    };
    for record in [founded, admin] {
        let decided = Decided::one(record, "the fleet was founded", ());
        ledger.decide("trust init", |_, _| Ok::<_, DataDirError>(decided))?;
    }
    write_durably(&paths.join("fleet"), format!("{fleet}\n").as_bytes(), 0o644)?;
    Ok(Founded { pass })
}

fn write_pass(path: &Path, pass: &Pass) -> Result<(), DataDirError> {
    write_durably(path, format!("{}\n", pass.text()).as_bytes(), 0o600)
}

/// Makes a folder that only its owner may enter, unless it is there.
///
/// # Errors
/// If the disk fails.
pub(crate) fn create_folder(path: &Path) -> Result<(), DataDirError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| DataDirError::Io { path: path.into(), source })
}

/// Replaces a file at once: whoever reads it sees the old bytes or the new ones, also after a power
/// cut.
///
/// # Errors
/// If the disk fails; the old bytes are there still.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { path: path.into(), source };
    let folder = path.parent().expect("a file lies in a folder");
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}
