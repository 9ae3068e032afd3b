//! TUF's own form of metadata: JSON, signed in its canonical form.
//!
//! # Source
//! TUF specification 1.0, section 4.

use std::collections::{BTreeMap, BTreeSet};

use olpc_cjson::CanonicalFormatter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Serializer, Value};
use tidegate_trust::codec::{Codec, Signed};
use tidegate_trust::cose::CoseError;
use tidegate_trust::metadata::{
    FileMeta, Role, RoleKeys, Roles, Root, Snapshot, Targets, Timestamp,
};
use tidegate_trust::{KeyId, TrustError};
use tidegate_wire::FleetId;

use crate::expiry;
use crate::key::{self, Key, KeyText};

/// What TUF does not know, and all of a client's metadata has in common.
const FLEET: &str = "tuf";

/// TUF's JSON.
#[derive(Debug, Clone)]
pub struct Json;

/// A file that was split into what is signed and the signatures.
pub struct Envelope {
    payload: Vec<u8>,
    /// What the signatures are made over. Made from the same value as the payload: it is no JSON
    /// that could be read again, as control characters stand in it as they are.
    canonical: Vec<u8>,
    signatures: Vec<(KeyId, Vec<u8>)>,
}

impl Signed<Key> for Envelope {
    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn signers(&self) -> impl Iterator<Item = KeyId> {
        self.signatures.iter().map(|(signer, _)| *signer)
    }

    fn verifies(&self, index: usize, key: &Key) -> bool {
        let signature = self.signatures.get(index);
        signature.is_some_and(|(_, signature)| key.verifies(&self.canonical, signature))
    }
}

impl Codec for Json {
    type Key = Key;
    type Envelope<'a> = Envelope;

    fn open(bytes: &[u8], limit: usize) -> Result<Envelope, TrustError> {
        if bytes.len() > limit {
            return Err(broken("the file is longer than allowed"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|_| broken("no signed JSON"))?;
        let mut canonical = Vec::new();
        let mut writer = Serializer::with_formatter(&mut canonical, CanonicalFormatter::new());
        file.signed.serialize(&mut writer).map_err(|_| broken("JSON without canonical form"))?;
        let payload = serde_json::to_vec(&file.signed).map_err(|_| broken("no JSON"))?;
        let mut signers = BTreeSet::new();
        let mut signatures = Vec::new();
        for SignatureText { keyid, sig } in file.signatures {
            if !signers.insert(keyid.clone()) {
                return Err(broken("two signatures in the name of one key"));
            }
            // One that is no hexadecimal number verifies as little as any other wrong one.
            signatures.push((key::id(&keyid), key::hex(&sig).unwrap_or_default()));
        }
        Ok(Envelope { payload, canonical, signatures })
    }

    fn root(payload: &[u8]) -> Result<Root<Key>, TrustError> {
        let role = Role::Root;
        let (common, text) = read::<RootText>(role, payload)?;
        let mut keys = BTreeMap::new();
        for (id, text) in &text.keys {
            let read = Key::read(text).ok_or(invalid(role, "a key is broken"))?;
            keys.insert(key::id(id), read);
        }
        let RolesText { root, timestamp, snapshot, targets } = text.roles;
        let roles = Roles {
            root: role_keys(&keys, &root)?,
            timestamp: role_keys(&keys, &timestamp)?,
            snapshot: role_keys(&keys, &snapshot)?,
            targets: role_keys(&keys, &targets)?,
            director: RoleKeys { keys: BTreeSet::new(), threshold: 1 },
        };
        let Common { fleet, version, expires } = common;
        Ok(Root { fleet, version, expires, keys, roles })
    }

    fn timestamp(payload: &[u8]) -> Result<Timestamp, TrustError> {
        let role = Role::Timestamp;
        let (common, text) = read::<MetaText>(role, payload)?;
        let snapshot = file_meta(role, &text, "snapshot.json")?;
        let Common { fleet, version, expires } = common;
        // TUF does not say when a timestamp was signed, so it proves nothing about the time.
        Ok(Timestamp { fleet, version, expires, issued: 0, snapshot, targets: None })
    }

    fn snapshot(payload: &[u8]) -> Result<Snapshot, TrustError> {
        let role = Role::Snapshot;
        let (common, text) = read::<MetaText>(role, payload)?;
        let targets = file_meta(role, &text, "targets.json")?;
        let Common { fleet, version, expires } = common;
        Ok(Snapshot { fleet, version, expires, targets })
    }

    /// The targets themselves have paths instead of models and versions: [`targets`] reads them.
    fn targets(payload: &[u8]) -> Result<Targets, TrustError> {
        let (common, _) = read::<TargetsText>(Role::Targets, payload)?;
        let Common { fleet, version, expires } = common;
        Ok(Targets {
            fleet,
            version,
            expires,
            artifacts: BTreeMap::new(),
            revoked: BTreeMap::new(),
            floors: BTreeMap::new(),
        })
    }
}

/// A file to download.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Its length in bytes.
    pub length: usize,
    /// Its digests in hexadecimal digits, by the name of the algorithm.
    pub hashes: BTreeMap<String, String>,
}

/// The targets by path in targets metadata that the workflow has come to trust.
pub fn targets(trusted: &[u8]) -> Result<BTreeMap<String, Target>, TrustError> {
    let envelope = Json::open(trusted, usize::MAX)?;
    Ok(read::<TargetsText>(Role::Targets, envelope.payload())?.1.targets)
}

/// Whether the trusted root says that files' names begin with their version or digest.
pub fn consistent_snapshot(trusted: &[u8]) -> Result<bool, TrustError> {
    let envelope = Json::open(trusted, usize::MAX)?;
    let (_, root) = read::<RootText>(Role::Root, envelope.payload())?;
    Ok(root.consistent_snapshot.unwrap_or(false))
}

#[derive(Deserialize)]
struct File {
    signatures: Vec<SignatureText>,
    signed: Value,
}

#[derive(Deserialize)]
struct SignatureText {
    keyid: String,
    sig: String,
}

#[derive(Deserialize)]
struct CommonText {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    version: u64,
    expires: String,
}

#[derive(Deserialize)]
struct RootText {
    keys: BTreeMap<String, KeyText>,
    roles: RolesText,
    consistent_snapshot: Option<bool>,
}

#[derive(Deserialize)]
struct RolesText {
    root: RoleText,
    timestamp: RoleText,
    snapshot: RoleText,
    targets: RoleText,
}

#[derive(Deserialize)]
struct RoleText {
    keyids: Vec<String>,
    threshold: u32,
}

#[derive(Deserialize)]
struct MetaText {
    meta: BTreeMap<String, FileText>,
}

#[derive(Deserialize)]
struct FileText {
    version: u64,
    length: Option<u64>,
    hashes: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct TargetsText {
    targets: BTreeMap<String, Target>,
}

/// What all four say.
struct Common {
    fleet: FleetId,
    version: u64,
    expires: u64,
}

fn broken(what: &'static str) -> TrustError {
    TrustError::Envelope(CoseError::Shape(what))
}

fn invalid(role: Role, what: &'static str) -> TrustError {
    TrustError::Invalid { role, what }
}

fn read<T: DeserializeOwned>(role: Role, payload: &[u8]) -> Result<(Common, T), TrustError> {
    let shape = |_| invalid(role, "a field is missing or has another type");
    let text: CommonText = serde_json::from_slice(payload).map_err(shape)?;
    if text.kind != role.name() {
        return Err(invalid(role, "it is another role's metadata"));
    }
    if !text.spec_version.starts_with("1.") {
        return Err(invalid(role, "it is written for another TUF specification than 1"));
    }
    if text.version == 0 {
        return Err(invalid(role, "versions start with 1"));
    }
    let expires = expiry::parse(&text.expires).ok_or(invalid(role, "the expiry is no date"))?;
    let fleet = FLEET.parse().map_err(|_| invalid(role, "the fleet has no name"))?;
    let common = Common { fleet, version: text.version, expires };
    Ok((common, serde_json::from_slice(payload).map_err(shape)?))
}

fn role_keys(keys: &BTreeMap<KeyId, Key>, text: &RoleText) -> Result<RoleKeys, TrustError> {
    let ids: BTreeSet<KeyId> = text.keyids.iter().map(|id| key::id(id)).collect();
    if ids.len() != text.keyids.len() {
        return Err(invalid(Role::Root, "a role names a key twice"));
    }
    let mut distinct: Vec<&Key> = Vec::new();
    for id in &ids {
        let key = keys.get(id).ok_or(invalid(Role::Root, "a role has a key that is not listed"))?;
        if distinct.contains(&key) {
            return Err(invalid(Role::Root, "a role has one key under two names"));
        }
        distinct.push(key);
    }
    if text.threshold == 0 {
        return Err(invalid(Role::Root, "a threshold is zero"));
    }
    // A threshold that cannot be met is allowed: the role is out of use until the next root.
    Ok(RoleKeys { keys: ids, threshold: text.threshold })
}

fn file_meta(role: Role, text: &MetaText, name: &str) -> Result<FileMeta, TrustError> {
    let file = text.meta.get(name).ok_or(invalid(role, "the next file is not named"))?;
    if file.version == 0 {
        return Err(invalid(role, "versions start with 1"));
    }
    let digest = match &file.hashes {
        None => None,
        Some(hashes) => {
            let sha256 = hashes.get("sha256").and_then(|digits| digits.parse().ok());
            Some(sha256.ok_or(invalid(role, "the next file has hashes, but no SHA-256"))?)
        }
    };
    Ok(FileMeta { version: file.version, length: file.length, digest })
}

#[cfg(test)]
mod tests;
