//! The workflow's effects against folder and server.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_trust::trusted::Recovered;
use tidegate_trust::workflow::{Effect, Event, Limits, Refresh};
use tidegate_trust::{Role, Stored, TrustError, Trusted};

use crate::error::ClientError;
use crate::folder::Folder;
use crate::http::{FetchError, Server};
use crate::json::{self, Json};

/// Roomier than a device's: JSON is longer, and others' repositories are not made for devices.
const LIMITS: Limits = Limits {
    root: 512 * 1024,
    timestamp: 16 * 1024,
    snapshot: 2 * 1024 * 1024,
    targets: 5 * 1024 * 1024,
    rotations_max: 256,
};

/// Trusts the root in this file.
pub fn init(metadata: &Folder, root: &Path) -> Result<(), ClientError> {
    let failed = |error| ClientError::Storage { path: root.to_path_buf(), error };
    let bytes = std::fs::read(root).map_err(failed)?;
    Trusted::<Json>::from_root(bytes.clone())?;
    metadata.replace(&file_name(Role::Root), &bytes)
}

/// Fetches the newest metadata.
pub fn refresh(metadata: &Folder, server: &Server) -> Result<(), ClientError> {
    let root = metadata.read(&file_name(Role::Root))?;
    let stored = Stored {
        root: root.ok_or(TrustError::Missing { role: Role::Root })?,
        timestamp: metadata.read(&file_name(Role::Timestamp))?,
        snapshot: metadata.read(&file_name(Role::Snapshot))?,
        targets: metadata.read(&file_name(Role::Targets))?,
    };
    let Recovered { trusted, dropped } = Trusted::<Json>::recover(stored)?;
    for error in dropped {
        eprintln!("tuf-client: a stored file is left out: {error}");
    }
    let (mut refresh, mut effects) = Refresh::start(now(), trusted, LIMITS);
    loop {
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Persist { role, bytes } => metadata.replace(&file_name(role), &bytes)?,
                Effect::Forget { role } => metadata.delete(&file_name(role))?,
                Effect::Fetch { role, version, length_max } => {
                    answer = Some(fetch(metadata, server, role, version, length_max)?);
                }
                Effect::Done(_) => return Ok(()),
                Effect::Failed(error) => return Err(error.into()),
                Effect::Ignored { role } => return Err(TrustError::Missing { role }.into()),
            }
        }
        // The workflow ends with Done or Failed, or there is a fetch to answer.
        effects = refresh.step(answer.ok_or(TrustError::Missing { role: Role::Root })?);
    }
}

/// The name under which a role's metadata is stored.
pub fn file_name(role: Role) -> String {
    format!("{role}.json")
}

fn fetch(
    metadata: &Folder,
    server: &Server,
    role: Role,
    version: Option<u64>,
    length_max: usize,
) -> Result<Event, ClientError> {
    // Only root files have their version in every repository's names.
    let versioned = match role {
        Role::Root => true,
        _ => {
            json::consistent_snapshot(&metadata.read(&file_name(Role::Root))?.unwrap_or_default())?
        }
    };
    let name = match version.filter(|_| versioned) {
        Some(version) => format!("{version}.{}", file_name(role)),
        None => file_name(role),
    };
    Ok(match server.fetch(&[&name], length_max) {
        Ok(bytes) => Event::Fetched { role, bytes },
        Err(FetchError::NotFound(_)) => Event::NotFound { role },
        Err(error) => {
            eprintln!("tuf-client: {error}");
            Event::FetchFailed { role, reason: error.reason() }
        }
    })
}

/// The system's clock, Unix seconds; 0 where it is before 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
