//! `tidegate key`: key files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_trust::PublicKey;

use super::{say, say_json};
use crate::keys;

const EXAMPLES: &str = "\
Examples:
  tidegate key generate --out publisher.pem   writes publisher.pem and publisher.pem.pub
  tidegate key show publisher.pem             key id and public key
  tidegate key show --pem publisher.pem       the public key as PEM, to give to someone";

/// Make and look at signing keys.
///
/// Keys are Ed25519: private ones in PKCS#8 PEM, public ones in SPKI PEM, as OpenSSL has them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new private key.
    ///
    /// The file is readable by its owner only, and an existing file is never overwritten. The
    /// public half goes into FILE.pub, which may be given away.
    Generate {
        /// The new file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show a key's id and its public half, of a private or a public key file.
    Show {
        /// The key file.
        file: PathBuf,
        /// Only the public key, as PEM.
        #[arg(long, conflicts_with = "json")]
        pem: bool,
        /// Write JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Generate { out, json } => {
            let key = keys::generate(&out)?.public();
            if json {
                say_json(&describe(&key))?;
            } else {
                let public = keys::public_path(&out);
                say(format_args!("private key  {} (keep it safe)", out.display()))?;
                say(format_args!("public key   {}", public.display()))?;
                say(format_args!("key id       {}", key.id()))?;
            }
        }
        Command::Show { file, pem: true, .. } => say(keys::public_pem(&keys::read_public(&file)?))?,
        Command::Show { file, json: true, .. } => {
            say_json(&describe(&keys::read_public(&file)?))?;
        }
        Command::Show { file, .. } => {
            let key = keys::read_public(&file)?;
            say(format_args!("key id      {}", key.id()))?;
            say(format_args!("public key  {}", hex(key.as_bytes())))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(key: &PublicKey) -> serde_json::Value {
    json!({ "key_id": key.id().to_string(), "public_key": hex(key.as_bytes()) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
