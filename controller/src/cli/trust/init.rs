//! `tidegate trust init`: founds a fleet.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use tidegate_trust::metadata::Role;
use tidegate_trust::release::{self, Keyring, Roster};
use tidegate_trust::{PublicKey, SigningKey};
use tidegate_wire::FleetId;
use tidegate_wire::invitation::Pass;

use super::named::{self, NamedKey};
use crate::cli::passphrase::PassphraseSource;
use crate::cli::root::ROOT_FILE;
use crate::cli::text::now_ms;
use crate::cli::{say, say_json};
use crate::data_dir::{self, ADMIN_TOKEN, DataDir};
use crate::keys;
use crate::release::KeyNames;

/// How long the first root is good for, seconds: a year. New installs stop then; what runs goes on.
pub(super) const ROOT_TTL_SECONDS: u64 = 365 * 24 * 3600;

/// What a fleet is founded with.
#[derive(Debug, Args)]
pub struct Options {
    /// The controller's data folder, new or empty.
    #[arg(
        long,
        alias = "data-dir",
        env = "TIDEGATE_DATA",
        hide_env_values = true,
        value_name = "DIR"
    )]
    data: PathBuf,
    /// The fleet's name; it stands in every signed message and cannot be changed.
    #[arg(long, value_name = "NAME")]
    fleet: FleetId,
    /// Where the root and publisher keys go; without it beside the data folder, DIR-keys.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// A publisher's public key, and what to call it. May be given several times; without it one is
    /// made in the keys folder.
    #[arg(long = "publisher", alias = "publisher-key", value_name = "NAME=FILE")]
    publishers: Vec<NamedKey>,
    /// How many publishers must sign a release.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: u32,
    /// A root key, and what to call it. May be given several times; without it one is made in the
    /// keys folder. As many as --root-threshold must be private keys, which sign here.
    #[arg(long = "root", value_name = "NAME=FILE")]
    roots: Vec<NamedKey>,
    /// How many root keys must sign a change of keys.
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: u32,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// Write JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// A founded fleet.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The first operator's pass; also in the data folder.
    pub pass: Pass,
    /// The root key, which is only needed again to change keys.
    pub root_key: PathBuf,
    /// The publisher's private key. It does not exist if publishers brought their own.
    pub publisher_key: PathBuf,
    /// The signed root, for whoever releases models.
    pub root: PathBuf,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let keys = options.keys.clone().unwrap_or_else(|| beside(&options.data));
    let founded = found(options, &keys)?;
    if options.json {
        return say_json(&json!({
            "fleet": options.fleet,
            "data": options.data,
            "root_key": options.roots.is_empty().then_some(&founded.root_key),
            "publisher_key": options.publishers.is_empty().then_some(&founded.publisher_key),
            "root": founded.root,
            "token_file": options.data.join(ADMIN_TOKEN),
        }));
    }
    say(report(options, &founded))
}

/// Founds a fleet with one root key and one publisher's key, both made in `keys`.
///
/// # Errors
/// Says which file is in the way or damaged.
pub fn initialise(data: &Path, fleet: FleetId, keys: &Path) -> anyhow::Result<Initialised> {
    let options = Options {
        data: data.into(),
        fleet,
        keys: None,
        publishers: Vec::new(),
        threshold: 1,
        roots: Vec::new(),
        root_threshold: 1,
        passphrase: PassphraseSource::default(),
        json: false,
    };
    found(&options, keys)
}

fn found(options: &Options, keys: &Path) -> anyhow::Result<Initialised> {
    let data = &options.data;
    if data.join("fleet").exists() {
        bail!("{} is a controller's data folder already: choose another one", data.display());
    }
    let publishers = options.publishers.len().max(1);
    named::reachable("--threshold", options.threshold, publishers)?;
    named::reachable("--root-threshold", options.root_threshold, options.roots.len().max(1))?;
    let paths = DataDir::new(data);
    for folder in [data.as_path(), keys, &paths.join("online-keys")] {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let (root_key, publisher_key) = (keys.join("root.pem"), keys.join("publisher.pem"));
    let mut names = KeyNames::default();
    let mut ring = |given: &[NamedKey], made: &Path, name: &str, threshold| {
        let keys = match given {
            [] => {
                let key = key(made)?.public();
                names.give(key.id(), name)?;
                vec![key]
            }
            given => named::read(given, &mut names)?,
        };
        anyhow::Ok(Keyring { keys, threshold })
    };
    let root = ring(&options.roots, &root_key, "root", options.root_threshold)?;
    let targets = ring(&options.publishers, &publisher_key, "publisher", options.threshold)?;
    let signers = signers(options, &root_key)?;
    let mut online = |role: Role| {
        let key = key(&paths.key(role))?.public();
        names.give(key.id(), role.name())?;
        anyhow::Ok(one(key))
    };
    let roster = Roster {
        root,
        targets,
        snapshot: online(Role::Snapshot)?,
        timestamp: online(Role::Timestamp)?,
        director: online(Role::Director)?,
    };
    let expires = now_ms() / 1000 + ROOT_TTL_SECONDS;
    let metadata = release::initial(options.fleet.clone(), &roster, expires)?;
    let signed = release::sign_metadata(&metadata, &signers.iter().collect::<Vec<_>>());
    names.write(data)?;
    names.write(keys)?;
    let founded = data_dir::initialise(data, &options.fleet, &signed)?;
    let root = keys.join(ROOT_FILE);
    data_dir::write_durably(&root, &signed, 0o644)?;
    Ok(Initialised { pass: founded.pass, root_key, publisher_key, root })
}

/// The root keys that sign here, as many as are needed.
fn signers(options: &Options, made: &Path) -> anyhow::Result<Vec<SigningKey>> {
    if options.roots.is_empty() {
        return Ok(vec![keys::read_private(made)?]);
    }
    let mut signers = Vec::new();
    for named in &options.roots {
        if keys::holds_private(&named.file)? {
            signers.push(options.passphrase.unlock(&named.file)?);
        }
    }
    let (needed, found) = (options.root_threshold as usize, signers.len());
    if found < needed {
        bail!(
            "--root-threshold {needed}: {needed} root keys must sign here, but only {found} of the \
             --root files are private keys. Found the fleet with a root key of your own, and hand \
             it over with `tidegate trust rotate`, which may be signed on several machines"
        );
    }
    Ok(signers)
}

/// The key in a file, which is made if it is not there.
fn key(file: &Path) -> anyhow::Result<SigningKey> {
    if fs::exists(file).unwrap_or(true) {
        return Ok(keys::read_private(file)?);
    }
    Ok(keys::generate(file)?)
}

fn one(key: PublicKey) -> Keyring {
    Keyring { keys: vec![key], threshold: 1 }
}

fn beside(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push("-keys");
    data.with_file_name(name)
}

fn report(options: &Options, founded: &Initialised) -> String {
    let data = options.data.display();
    let (root_key, publisher_key) = (founded.root_key.display(), founded.publisher_key.display());
    let when = |made: bool, text: String| if made { text } else { String::new() };
    let root = when(
        options.roots.is_empty(),
        format!("  {root_key}\n      the root key: only needed to change keys; keep it offline\n"),
    );
    let publisher = when(
        options.publishers.is_empty(),
        format!("  {publisher_key}\n      the publisher's key: signs releases\n"),
    );
    format!(
        "The fleet {} is founded.\n\n\
         Keep these safe, and not on the controller's machine:\n\
         {root}{publisher}\
         \x20 {}\n      the root of trust, not secret: keep it beside the publisher's key\n\n\
         These stay with the controller, in {data}:\n\
         \x20 online-keys/   its own keys\n\
         \x20 ca/            the authority that certifies devices; keep a copy of it in a safe place\n\
         \x20 admin-token    the first operator's token\n\n\
         A passphrase for a key: tidegate key encrypt FILE\n\
         Next: tidegate serve --data {data}",
        options.fleet,
        founded.root.display(),
    )
}
