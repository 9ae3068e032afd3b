//! `tidegate trust`: the keys and the root of trust of a fleet.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_trust::metadata::Role;
use tidegate_trust::release::{self, Keyring, Roster};
use tidegate_trust::{PublicKey, SigningKey};
use tidegate_wire::FleetId;

use super::connection::ADMIN_TOKEN;
use super::root::ROOT_FILE;
use super::text::now_ms;
use super::{say, say_json};
use crate::data_dir::{self, DataDir};
use crate::keys;

/// How long the first root is good for, seconds: a year. New installs stop then; what runs goes on.
const ROOT_TTL_SECONDS: u64 = 365 * 24 * 3600;

const EXAMPLES: &str = "\
Examples:
  tidegate trust init --data /var/lib/tidegate --fleet plant-7 --keys ./plant-7-keys
  tidegate trust init --data ./fleet --fleet plant-7 --publisher-key anna.pem.pub

Afterwards move the keys folder to where the controller is not: root.pem offline, publisher.pem
and root.cose to the machine that releases models. A stolen controller without them can only
choose among models that the publishers signed.";

/// Found a fleet: make its keys and its root of trust.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new fleet's keys, sign its root, and prepare the controller's data folder.
    ///
    /// Can be repeated if it was broken off: keys that are there are used, never overwritten.
    Init(Init),
}

#[derive(Debug, Args)]
struct Init {
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
    /// A publisher's public key, if it exists already. May be given several times.
    #[arg(long = "publisher-key", value_name = "FILE")]
    publisher_keys: Vec<PathBuf>,
    /// How many publishers must sign a release; 1 is all that this version can do.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: u32,
    /// Write JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// A founded fleet.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The first operator's token; also in the data folder.
    pub admin_token: String,
    /// The root key, which is only needed again to change keys.
    pub root_key: PathBuf,
    /// The publisher's private key. It does not exist if publishers brought their own.
    pub publisher_key: PathBuf,
    /// The signed root, for whoever releases models.
    pub root: PathBuf,
}

pub(super) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Command::Init(init) = options.command;
    if init.threshold != 1 {
        bail!("--threshold {}: this version can only publish with 1 signature", init.threshold);
    }
    let keys = init.keys.clone().unwrap_or_else(|| beside(&init.data));
    let founded = found(&init.data, &init.fleet, &keys, &init.publisher_keys)?;
    if init.json {
        say_json(&json!({
            "fleet": init.fleet,
            "data": init.data,
            "root_key": founded.root_key,
            "publisher_key": init.publisher_keys.is_empty().then_some(&founded.publisher_key),
            "root": founded.root,
            "token_file": init.data.join(ADMIN_TOKEN),
        }))?;
    } else {
        say(report(&init, &founded))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Founds a fleet with one root key and one publisher's key, both made in `keys`.
///
/// # Errors
/// Says which file is in the way or damaged.
pub fn initialise(data: &Path, fleet: FleetId, keys: &Path) -> anyhow::Result<Initialised> {
    found(data, &fleet, keys, &[])
}

fn found(
    data: &Path,
    fleet: &FleetId,
    keys: &Path,
    publisher_keys: &[PathBuf],
) -> anyhow::Result<Initialised> {
    if data.join("fleet").exists() {
        bail!("{} is a controller's data folder already: choose another one", data.display());
    }
    let paths = DataDir::new(data);
    for folder in [data, keys, &paths.join("online-keys")] {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let (root_key, publisher_key) = (keys.join("root.pem"), keys.join("publisher.pem"));
    let signer = key(&root_key)?;
    let publishers: Vec<PublicKey> = if publisher_keys.is_empty() {
        vec![key(&publisher_key)?.public()]
    } else {
        publisher_keys.iter().map(|file| keys::read_public(file)).collect::<Result<_, _>>()?
    };
    let online = |role| key(&paths.key(role)).map(|key| one(key.public()));
    let roster = Roster {
        root: one(signer.public()),
        targets: Keyring { keys: publishers, threshold: 1 },
        snapshot: online(Role::Snapshot)?,
        timestamp: online(Role::Timestamp)?,
        director: online(Role::Director)?,
    };
    let expires = now_ms() / 1000 + ROOT_TTL_SECONDS;
    let metadata = release::initial(fleet.clone(), &roster, expires)?;
    let signed = release::sign_metadata(&metadata, &[&signer]);
    let founded = data_dir::initialise(data, fleet, &signed)?;
    let root = keys.join(ROOT_FILE);
    data_dir::write_durably(&root, &signed, 0o644)?;
    let token = format!("{}\n", founded.admin_token);
    data_dir::write_durably(&data.join(ADMIN_TOKEN), token.as_bytes(), 0o600)?;
    Ok(Initialised { admin_token: founded.admin_token, root_key, publisher_key, root })
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

fn report(init: &Init, founded: &Initialised) -> String {
    let data = init.data.display();
    let (root_key, publisher_key) = (founded.root_key.display(), founded.publisher_key.display());
    let publisher = if init.publisher_keys.is_empty() {
        format!("  {publisher_key}\n      the publisher's key: signs releases\n")
    } else {
        String::new()
    };
    format!(
        "The fleet {} is founded.\n\n\
         Keep these safe, and not on the controller's machine:\n\
         \x20 {root_key}\n      the root key: only needed to change keys; keep it offline\n\
         {publisher}\
         \x20 {}\n      the root of trust, not secret: keep it beside the publisher's key\n\n\
         These stay with the controller, in {data}:\n\
         \x20 online-keys/   its own keys\n\
         \x20 admin-token    the first operator's token\n\n\
         Next: tidegate serve --data {data}",
        init.fleet,
        founded.root.display(),
    )
}
