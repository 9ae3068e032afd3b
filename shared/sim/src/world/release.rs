//! Where releases are signed and published: the publishers' machines and the controller's online keys.
//!
//! Everything here is durable at once: what a crash in the midst of a publication leaves is the
//! subject of the controller's own tests. The mirror has what was published.

use tidegate_trust::release::{self, next_snapshot, next_timestamp, sign_metadata};
use tidegate_trust::trusted::{Recovered, Stored};
use tidegate_trust::{Root, Targets, Trusted};
use tidegate_wire::FleetId;

use crate::keys::Keys;
use crate::mirror::Files;
use crate::model::{self, Release, model_name, version_name};
use crate::scenario::ActKind;
use crate::truth::{Forbidden, Truth};

/// Seconds for which root and targets are good: longer than any run.
const LONG_S: u64 = 20 * 365 * 24 * 3600;

/// The release metadata, and who signs it.
#[derive(Debug)]
pub struct ReleaseRoom {
    keys: Keys,
    root: Root,
    stored: Stored,
    trusted: Trusted,
    targets: Targets,
    timestamp_s: u64,
}

/// The name of a simulated fleet.
pub fn fleet() -> FleetId {
    "sim".parse().expect("it is a name")
}

impl ReleaseRoom {
    /// A fleet that was founded at `unix`, with timestamps that are good for `timestamp_s`.
    pub fn new(unix: u64, timestamp_s: u64, files: &mut Files) -> Self {
        let keys = Keys::default();
        let root = release::initial(fleet(), &keys.roster(), unix + LONG_S);
        let root = root.expect("the thresholds can be met");
        let signed = sign(&root, keys);
        files.put_metadata((tidegate_trust::Role::Root, Some(1)), &signed);
        let stored = Stored { root: signed, timestamp: None, snapshot: None, targets: None };
        let trusted = recovered(&stored);
        let targets = release::first_targets(fleet(), unix + LONG_S);
        let mut room = Self { keys, root, stored, trusted, targets, timestamp_s };
        room.publish(unix, files);
        room
    }

    /// The newest root, signed.
    pub fn root_bytes(&self) -> Vec<u8> {
        self.stored.root.clone()
    }

    /// The newest timestamp, signed.
    pub fn timestamp(&self) -> Option<Vec<u8>> {
        self.stored.timestamp.clone()
    }

    /// The newest targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// What a device that has everything trusts.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The keys as they are now.
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Publishers do something about releases. What does not apply is refused.
    ///
    /// # Errors
    /// In their tool's words.
    pub fn act(
        &mut self,
        act: &ActKind,
        window_rows: u32,
        unix: u64,
        (files, truth): (&mut Files, &mut Truth),
    ) -> Result<Option<Release>, String> {
        let model = model_name();
        let mut next = release::next_targets(&self.targets, unix + LONG_S);
        let mut new = None;
        match *act {
            ActKind::Release { version, behaviour } => {
                let made = model::release(version, behaviour, window_rows);
                let name = version_name(version);
                let added = next.add_artifact(&model, &name, &made.manifest, Default::default());
                added.map_err(|error| error.to_string())?;
                new = Some(made);
            }
            ActKind::Revoke { version } => {
                let revoked = next.revoke(&model, &version_name(version), "it is not safe");
                revoked.map_err(|error| error.to_string())?;
            }
            ActKind::RaiseFloor { version } => {
                let named = next.named(&model, &version_name(version));
                let entry = named.and_then(|it| next.entry(&model, &it).cloned());
                let number = entry.ok_or("there is no such version")?.release;
                next.raise_floor(&model, number).map_err(|error| error.to_string())?;
            }
            _ => return Err("it is not about releases".into()),
        }
        if let Some(Release { artifact, manifest, blobs, .. }) = &new {
            files.put_blob(artifact.digest, manifest);
            blobs.iter().for_each(|(digest, bytes)| files.put_blob(*digest, bytes));
        }
        self.targets = next;
        self.publish(unix, files);
        if let Some(made) = &new {
            let entry = self.targets.entry(&model, &made.artifact);
            truth.released(made, entry.map_or(0, |entry| entry.release));
        }
        let revoked = self.targets.revoked.keys().copied().collect();
        let forbidden = Forbidden { revoked, floor: self.targets.floor(&model) };
        truth.forbids(self.targets.version, forbidden);
        Ok(new)
    }

    /// Root gives the directives to another key, or stays as it is for another while.
    pub fn renew_root(&mut self, keys: Keys, unix: u64, files: &mut Files) {
        let next = release::rotate(&self.root, &keys.roster(), unix + LONG_S);
        let Ok(next) = next else { return };
        (self.keys, self.root) = (keys, next);
        self.stored.root = sign(&self.root, keys);
        let name = (tidegate_trust::Role::Root, Some(self.root.version));
        files.put_metadata(name, &self.stored.root);
        self.trusted = recovered(&self.stored);
        // Devices look for a new root when there is a new timestamp.
        self.stamp(unix, files);
    }

    /// Signs a new timestamp if half of the old one's time is over. Whether it did.
    pub fn renew(&mut self, unix: u64, files: &mut Files) -> bool {
        let expires = self.trusted.timestamp().map_or(0, |timestamp| timestamp.expires);
        let is_old = expires.saturating_sub(unix) <= self.timestamp_s / 2;
        if is_old {
            self.stamp(unix, files);
        }
        is_old
    }

    fn publish(&mut self, unix: u64, files: &mut Files) {
        use tidegate_trust::Role;
        let signed = sign(&self.targets, self.keys);
        files.put_metadata((Role::Targets, Some(self.targets.version)), &signed);
        let snapshot = next_snapshot(&self.trusted, &self.targets, &signed, unix + LONG_S);
        let snapshot_bytes = sign_metadata(&snapshot, &[&self.keys.snapshot()]);
        files.put_metadata((Role::Snapshot, Some(snapshot.version)), &snapshot_bytes);
        self.stored.targets = Some(signed);
        self.stored.snapshot = Some(snapshot_bytes);
        self.stamp_snapshot(&snapshot, unix, files);
    }

    fn stamp(&mut self, unix: u64, files: &mut Files) {
        if let Some(snapshot) = self.trusted.snapshot().cloned() {
            self.stamp_snapshot(&snapshot, unix, files);
        }
    }

    fn stamp_snapshot(
        &mut self,
        snapshot: &tidegate_trust::Snapshot,
        unix: u64,
        files: &mut Files,
    ) {
        let bytes = self.stored.snapshot.clone().unwrap_or_default();
        let expires = unix + self.timestamp_s;
        let timestamp = next_timestamp(&self.trusted, snapshot, &bytes, unix, expires);
        let signed = sign_metadata(&timestamp, &[&self.keys.timestamp()]);
        files.put_metadata((tidegate_trust::Role::Timestamp, None), &signed);
        self.stored.timestamp = Some(signed);
        self.trusted = recovered(&self.stored);
    }
}

fn sign<M: tidegate_wire::envelope::Message>(metadata: &M, keys: Keys) -> Vec<u8> {
    let [one, two] = keys.quorum();
    sign_metadata(metadata, &[&one, &two])
}

fn recovered(stored: &Stored) -> Trusted {
    let Recovered { trusted, .. } =
        Trusted::recover(stored.clone()).expect("what was just signed is good");
    trusted
}
