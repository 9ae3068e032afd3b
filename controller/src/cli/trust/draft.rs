//! A root on its way between machines: the signed bytes, the root before, and names for people.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tidegate_trust::codec::{Codec, Signed};
use tidegate_trust::release::add_signature;
use tidegate_trust::trusted::Signers;
use tidegate_trust::{CoseCbor, KeyId, Role, Root, SigningKey, Trusted};
use tidegate_wire::envelope::Message;

use crate::api::types::{KeyLabel, Signatures};
use crate::data_dir::write_durably;
use crate::release::KeyNames;

/// A root that is not signed by enough yet.
pub(super) struct RootDraft {
    /// The root before, signed.
    pub before: Vec<u8>,
    /// What it says.
    pub old: Root,
    /// The new root with the signatures so far.
    pub bytes: Vec<u8>,
    /// What it says.
    pub new: Root,
    /// What people call the keys.
    pub names: KeyNames,
}

/// As it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    before: String,
    root: String,
    names: BTreeMap<KeyId, String>,
}

impl RootDraft {
    /// A draft of a root that follows `before`.
    pub(super) fn new(before: Vec<u8>, bytes: Vec<u8>, names: KeyNames) -> anyhow::Result<Self> {
        let trusted: Trusted = Trusted::from_root(before.clone())?;
        let old = trusted.root().clone();
        let envelope = CoseCbor::open(&bytes, Root::SIZE_MAX)?;
        let new = CoseCbor::root(envelope.payload())?;
        if new.fleet != old.fleet {
            bail!("the draft is a root of the fleet {}, not of {}", new.fleet, old.fleet);
        }
        if Some(new.version) != old.version.checked_add(1) {
            bail!("the draft is root {}, which does not follow root {}", new.version, old.version);
        }
        Ok(Self { before, old, bytes, new, names })
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the draft {name}"))?;
        let wrong = || format!("{name} is no draft of a root as `tidegate trust rotate` writes it");
        let File { before, root, names } = serde_json::from_str(&text).with_context(wrong)?;
        let mut named = KeyNames::default();
        for (key, name) in names {
            named.give(key, &name)?;
        }
        let bytes = |text: &str| STANDARD.decode(text).with_context(wrong);
        Self::new(bytes(&before)?, bytes(&root)?, named).with_context(wrong)
    }

    /// Writes it into a file, at once.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let names = self.names.iter().map(|(key, name)| (*key, name.to_owned())).collect();
        let (before, root) = (STANDARD.encode(&self.before), STANDARD.encode(&self.bytes));
        let text = serde_json::to_string_pretty(&File { before, root, names })?;
        Ok(write_durably(path, format!("{text}\n").as_bytes(), 0o644)?)
    }

    /// Adds a signature, if the key is a root key before or after.
    pub(super) fn sign(&mut self, key: &SigningKey) -> anyhow::Result<()> {
        let id = key.id();
        let counts = |root: &Root| root.roles.of(Role::Root).keys.contains(&id);
        if !counts(&self.old) && !counts(&self.new) {
            bail!(
                "the key {} ({id}) is no root key, neither in root {} nor in root {}",
                self.label(id),
                self.old.version,
                self.new.version,
            );
        }
        self.bytes = add_signature::<Root>(&self.bytes, key)?;
        Ok(())
    }

    /// Who signed of the root keys that count now.
    pub(super) fn by_old(&self) -> Signatures {
        self.signatures(&self.old)
    }

    /// Who signed of the root keys that are to count.
    pub(super) fn by_new(&self) -> Signatures {
        self.signatures(&self.new)
    }

    /// Whether enough old and new root keys signed.
    pub(super) fn complete(&self) -> bool {
        self.by_old().wanting() == 0 && self.by_new().wanting() == 0
    }

    /// Who must still sign, in one line.
    pub(super) fn waits_for(&self) -> String {
        let (old, new) = (self.by_old(), self.by_new());
        match (old.wanting(), new.wanting()) {
            (0, 0) => "nobody".to_owned(),
            (0, _) => new.waits_for(),
            (_, 0) => old.waits_for(),
            _ if old == new => old.waits_for(),
            _ => format!("{} (old root keys) and {} (new ones)", old.waits_for(), new.waits_for()),
        }
    }

    pub(super) fn label(&self, key: KeyId) -> KeyLabel {
        KeyLabel { key, name: self.names.name(&key).map(str::to_owned) }
    }

    /// What changes, one line each. New keys are shown whole: what is signed is the key, not the name.
    pub(super) fn changes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (role, new) in self.new.roles.iter() {
            let old = self.old.roles.of(role);
            for key in new.keys.difference(&old.keys) {
                lines.push(format!("{role}: adds {} ({key})", self.label(*key)));
            }
            for key in old.keys.difference(&new.keys) {
                lines.push(format!("{role}: removes {} ({key})", self.label(*key)));
            }
            if old.threshold != new.threshold {
                let (before, after) = (old.threshold, new.threshold);
                lines.push(format!("{role}: {after} must sign, instead of {before}"));
            }
        }
        let day = |seconds: u64| {
            let time = crate::cli::text::time(seconds.saturating_mul(1000));
            time.split(' ').next().unwrap_or_default().to_owned()
        };
        let (before, after) = (day(self.old.expires), day(self.new.expires));
        lines.push(format!("good until {after}, instead of {before}"));
        lines
    }

    fn signatures(&self, root: &Root) -> Signatures {
        let Ok(envelope) = CoseCbor::open(&self.bytes, Root::SIZE_MAX) else {
            return Signatures::default();
        };
        let signers = Signers::of::<CoseCbor>(root, Role::Root, &envelope);
        let labels = |keys: &[KeyId]| keys.iter().map(|key| self.label(*key)).collect();
        let (signed, missing) = (labels(&signers.valid), labels(&signers.missing));
        Signatures { signed, missing, threshold: signers.threshold }
    }
}
