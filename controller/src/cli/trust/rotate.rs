//! `tidegate trust rotate`, `sign` and `publish`: other keys, without touching a device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::json;
use tidegate_trust::metadata::Role;
use tidegate_trust::release::{self, Keyring, Roster, sign_metadata};
use tidegate_trust::{KeyId, PublicKey, Root, SigningKey, Trusted};

use super::draft::RootDraft;
use super::named::{self, NamedKey};
use crate::api::types::{RootWish, TrustView};
use crate::cli::connection::Connection;
use crate::cli::passphrase::PassphraseSource;
use crate::cli::root::{ROOT_FILE, newest};
use crate::cli::sign::Consent;
use crate::cli::text::{duration, now_ms};
use crate::cli::{say, say_json};
use crate::client::Client;
use crate::data_dir::DataDir;
use crate::keys;
use crate::release::KeyNames;

/// An online role whose key the controller holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Online {
    Director,
    Snapshot,
    Timestamp,
    All,
}

impl Online {
    fn is(self, role: Role) -> bool {
        match self {
            Self::Director => role == Role::Director,
            Self::Snapshot => role == Role::Snapshot,
            Self::Timestamp => role == Role::Timestamp,
            Self::All => true,
        }
    }
}

/// What changes, and who signs it here.
#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    connection: Connection,
    /// A root key that signs here. May be given several times.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// The fleet's root of trust; without it root.cose beside the first key.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Let somebody publish. May be given several times.
    #[arg(long, value_name = "NAME=FILE")]
    add_publisher: Vec<NamedKey>,
    /// Let somebody change keys. May be given several times.
    #[arg(long, value_name = "NAME=FILE")]
    add_root: Vec<NamedKey>,
    /// Take a key's roles away, root and publisher, by name or by the first digits of its id. May be
    /// given several times.
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// How many publishers must sign a release from now on.
    #[arg(long, value_name = "N")]
    threshold: Option<u32>,
    /// How many root keys must sign a change of keys from now on.
    #[arg(long, value_name = "N")]
    root_threshold: Option<u32>,
    /// Make new online keys in --data, on the controller's machine.
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    online: Vec<Online>,
    /// How long the new root is good for.
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = duration)]
    expires: Duration,
    /// Write a draft instead of publishing, for others to sign.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Do not ask before signing.
    #[arg(long)]
    yes: bool,
}

/// A draft to add a signature to.
#[derive(Debug, Args)]
pub struct Sign {
    /// The draft, which is rewritten with the signature.
    draft: PathBuf,
    /// A root key, old or new.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// The fleet's root of trust; without it root.cose beside the key, else what the draft has.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Do not ask before signing.
    #[arg(long)]
    yes: bool,
}

/// A draft that enough root keys signed.
#[derive(Debug, Args)]
pub struct Publish {
    #[command(flatten)]
    connection: Connection,
    /// The draft.
    draft: PathBuf,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
}

pub(super) async fn rotate(options: Rotate) -> anyhow::Result<()> {
    let signers = unlock(&options.keys, &options.passphrase)?;
    let client = options.connection.client()?;
    let before = base(&options, &client).await?;
    let trusted: Trusted = Trusted::from_root(before.clone())?;
    let mut names = names(&client.trust().await?)?;
    let roster = roster(&options, trusted.root(), &mut names)?;
    let expires = now_ms() / 1000 + options.expires.as_secs();
    let next = release::rotate(trusted.root(), &roster, expires)?;
    let mut draft = RootDraft::new(before, sign_metadata(&next, &[]), names)?;
    let json = options.connection.json;
    if !json {
        explain(&draft)?;
    }
    if !signers.is_empty() {
        Consent::of(options.yes).obtain("Sign this?")?;
    }
    signers.iter().try_for_each(|key| draft.sign(key))?;
    match &options.out {
        Some(out) => {
            draft.write(out)?;
            told(&draft, json, Some(out))
        }
        None if !draft.complete() => bail!(
            "root {} must still be signed by {}: give their keys with --key, or write a draft with \
             --out, which they sign with `tidegate trust sign`",
            draft.new.version,
            draft.waits_for(),
        ),
        None => {
            post(&client, &draft, options.why).await?;
            told(&draft, json, None)
        }
    }
}

pub(super) fn sign(options: &Sign) -> anyhow::Result<()> {
    let key = options.passphrase.unlock(&options.key)?;
    let mut draft = RootDraft::read(&options.draft)?;
    let beside = options.key.with_file_name(ROOT_FILE);
    let kept = options.root.as_ref().unwrap_or(&beside);
    match std::fs::read(kept) {
        Ok(kept_root) => follows(&draft, &kept_root, kept)?,
        Err(_) if options.root.is_none() => eprintln!(
            "note: no {} here, so what changes is told by the draft alone: ask who made it whether \
             root {} of {} has the SHA-256 {}",
            beside.display(),
            draft.old.version,
            draft.old.fleet,
            tidegate_wire::Digest::of(&draft.before),
        ),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the root {}", kept.display()));
        }
    }
    explain(&draft)?;
    Consent::of(options.yes).obtain("Sign this?")?;
    draft.sign(&key)?;
    draft.write(&options.draft)?;
    told(&draft, false, Some(&options.draft))
}

pub(super) async fn publish(options: Publish) -> anyhow::Result<()> {
    let draft = RootDraft::read(&options.draft)?;
    if !draft.complete() {
        let (version, missing) = (draft.new.version, draft.waits_for());
        bail!("root {version} must still be signed by {missing}: tidegate trust sign");
    }
    post(&options.connection.client()?, &draft, options.why).await?;
    told(&draft, options.connection.json, None)
}

async fn post(client: &Client, draft: &RootDraft, why: String) -> anyhow::Result<()> {
    let names = draft.names.iter().map(|(key, name)| (*key, name.to_owned())).collect();
    let root = STANDARD.encode(&draft.bytes);
    client.rotate(&RootWish { root, names, why }).await?;
    Ok(())
}

/// The root that counts now: the newest that follows from the one that is kept here, and is kept
/// instead.
async fn base(options: &Rotate, client: &Client) -> anyhow::Result<Vec<u8>> {
    let beside = options.keys.first().map(|key| key.with_file_name(ROOT_FILE));
    match options.root.as_ref().or(beside.as_ref()) {
        Some(file) => newest(client, file).await,
        None => bail!("which root is trusted? give --root FILE, or --key with root.cose beside it"),
    }
}

/// The draft must follow from the root that is kept here, not from one that it brings along.
fn follows(draft: &RootDraft, kept_root: &[u8], kept: &Path) -> anyhow::Result<()> {
    let trusted: Trusted = Trusted::from_root(kept_root.to_vec())
        .with_context(|| format!("{} is no valid root", kept.display()))?;
    let root = trusted.root();
    let known = kept_root == draft.before
        || (root.version + 1 == draft.old.version
            && release::verify_root_update(&trusted, &draft.before).is_ok());
    if known {
        return Ok(());
    }
    bail!(
        "the draft follows root {}, but {} is root {} of {}: bring that up to date first, for \
         example with `tidegate trust show --update {}`",
        draft.old.version,
        kept.display(),
        root.version,
        root.fleet,
        kept.display(),
    )
}

fn unlock(files: &[PathBuf], passphrase: &PassphraseSource) -> anyhow::Result<Vec<SigningKey>> {
    Ok(files.iter().map(|file| passphrase.unlock(file)).collect::<Result<_, _>>()?)
}

fn names(trust: &TrustView) -> anyhow::Result<KeyNames> {
    let mut names = KeyNames::default();
    for label in trust.roles.iter().flat_map(|role| &role.keys) {
        if let Some(name) = &label.name {
            names.give(label.key, name)?;
        }
    }
    Ok(names)
}

fn roster(options: &Rotate, old: &Root, names: &mut KeyNames) -> anyhow::Result<Roster> {
    let removed = removed(&options.remove, old, names)?;
    let mut ring = |role: Role, added: &[NamedKey], threshold: Option<u32>, option: &str| {
        let mut keys: Vec<PublicKey> =
            holders(old, role).into_iter().filter(|key| !removed.contains(&key.id())).collect();
        for key in named::read(added, names)? {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let threshold = threshold.unwrap_or(old.roles.of(role).threshold);
        named::reachable(option, threshold, keys.len())?;
        anyhow::Ok(Keyring { keys, threshold })
    };
    let root = ring(Role::Root, &options.add_root, options.root_threshold, "--root-threshold")?;
    let targets = ring(Role::Targets, &options.add_publisher, options.threshold, "--threshold")?;
    let mut online = |role: Role| {
        if !options.online.iter().any(|online| online.is(role)) {
            let keys = holders(old, role);
            return Ok(Keyring { keys, threshold: old.roles.of(role).threshold });
        }
        let key = online_key(options, old, role)?;
        names.give(key.id(), &format!("{role}-{}", old.version + 1))?;
        anyhow::Ok(Keyring { keys: vec![key], threshold: 1 })
    };
    Ok(Roster {
        root,
        targets,
        snapshot: online(Role::Snapshot)?,
        timestamp: online(Role::Timestamp)?,
        director: online(Role::Director)?,
    })
}

/// The new key of an online role, in the controller's folder. Repeated, the same key is taken.
fn online_key(options: &Rotate, old: &Root, role: Role) -> anyhow::Result<PublicKey> {
    let Some(data) = options.connection.data() else {
        bail!("--online: the new keys are made on the controller's machine, so --data is needed");
    };
    let name = format!("online-keys/{role}-{}.pem", old.version + 1);
    let file = DataDir::new(data).join(&name);
    let key = match file.exists() {
        true => keys::read_private(&file)?,
        false => keys::generate(&file)?,
    };
    Ok(key.public())
}

fn holders(root: &Root, role: Role) -> Vec<PublicKey> {
    let ids = root.roles.of(role).keys.iter();
    ids.filter_map(|id| root.keys.get(id).copied()).collect()
}

/// The root and publisher keys that are meant by names or by the beginnings of ids.
fn removed(wanted: &[String], old: &Root, names: &KeyNames) -> anyhow::Result<Vec<KeyId>> {
    let roles = [Role::Root, Role::Targets].map(|role| &old.roles.of(role).keys);
    let mut removed = Vec::new();
    for wish in wanted {
        let meant = |id: &&KeyId| {
            let digits = wish.len() >= 8 && id.to_string().starts_with(wish.as_str());
            names.name(id) == Some(wish.as_str()) || digits
        };
        let mut found: Vec<KeyId> =
            roles.iter().flat_map(|ids| ids.iter()).filter(meant).copied().collect();
        found.sort();
        found.dedup();
        match found.as_slice() {
            [] => bail!(
                "--remove {wish}: no root or publisher key is called so; `tidegate trust show`"
            ),
            [key] => removed.push(*key),
            _ => bail!(
                "--remove {wish}: several keys are called so; give the first digits of its id"
            ),
        }
    }
    Ok(removed)
}

fn explain(draft: &RootDraft) -> anyhow::Result<()> {
    let (version, fleet) = (draft.new.version, &draft.new.fleet);
    say(format_args!("root {version} of {fleet}, after root {}:", draft.old.version))?;
    draft.changes().iter().try_for_each(|line| say(format_args!("  {line}")))
}

/// Tells where a root stands: in a draft, or published.
fn told(draft: &RootDraft, json: bool, file: Option<&Path>) -> anyhow::Result<()> {
    let version = draft.new.version;
    if json {
        return say_json(&json!({
            "root": version,
            "changes": draft.changes(),
            "old": draft.by_old(),
            "new": draft.by_new(),
            "published": file.is_none(),
            "draft": file,
        }));
    }
    match file {
        None => say(format_args!("root {version} counts now; devices follow by themselves")),
        Some(file) if draft.complete() => {
            say(format_args!("enough root keys signed: tidegate trust publish {}", file.display()))
        }
        Some(file) => say(format_args!(
            "it must still be signed by {}: tidegate trust sign {} --key FILE",
            draft.waits_for(),
            file.display(),
        )),
    }
}
