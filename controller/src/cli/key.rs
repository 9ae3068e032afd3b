//! `tidegate key`: key files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_trust::PublicKey;

use super::passphrase::PassphraseSource;
use super::{say, say_json};
use crate::keys::{self, KeyFileError};

const EXAMPLES: &str = "\
Examples:
  tidegate key generate --out anna.pem            writes anna.pem and anna.pem.pub
  tidegate key generate --out anna.pem --encrypt  the same, with a passphrase
  tidegate key encrypt anna.pem                   gives a passphrase to a key that has none
  tidegate key show anna.pem                      key id and public key
  tidegate key show --pem anna.pem                the public key as PEM, to give to someone";

/// Make, encrypt and look at signing keys.
///
/// Keys are Ed25519: private ones in PKCS#8 PEM, public ones in SPKI PEM, as OpenSSL has them. An
/// encrypted one is PBES2 (scrypt, AES-256-CBC); every command with --key asks for its passphrase.
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
        /// Encrypt it with a passphrase; --passphrase-file alone means that too.
        #[arg(long)]
        encrypt: bool,
        #[command(flatten)]
        passphrase: PassphraseSource,
        /// Write JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Encrypt a private key that is not encrypted yet, in place.
    ///
    /// The file is replaced at once. Copies and backups of it stay as they are: delete them.
    Encrypt {
        /// The private key.
        file: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseSource,
        /// Write JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show a key's id and its public half, of a private or a public key file.
    ///
    /// Of an encrypted key FILE.pub is read; without it the passphrase is asked for.
    Show {
        /// The key file.
        file: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseSource,
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
        Command::Generate { out, encrypt, passphrase, json } => {
            let wanted = encrypt || passphrase.passphrase_file.is_some();
            generate(&out, wanted.then_some(&passphrase), json)?;
        }
        Command::Encrypt { file, passphrase, json } => {
            let key = keys::encrypt(&file, || passphrase.choose(&file))?;
            let name = file.display();
            match json {
                true => say_json(&describe(&key))?,
                false => {
                    say(format_args!("{name} is encrypted now; its key id is still {}", key.id()))?;
                    say("Copies and backups of it are not: delete them.")?;
                }
            }
        }
        Command::Show { file, passphrase, pem, json } => {
            let key = public(&file, &passphrase)?;
            match (pem, json) {
                (true, _) => say(keys::public_pem(&key))?,
                (false, true) => say_json(&describe(&key))?,
                (false, false) => {
                    say(format_args!("key id      {}", key.id()))?;
                    say(format_args!("public key  {}", hex(key.as_bytes())))?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn generate(out: &Path, passphrase: Option<&PassphraseSource>, json: bool) -> anyhow::Result<()> {
    keys::require_new(out)?;
    let key = match passphrase {
        Some(passphrase) => keys::generate_encrypted(out, &passphrase.choose(out)?)?,
        None => keys::generate(out)?,
    };
    if json {
        return say_json(&describe(&key.public()));
    }
    let how = if passphrase.is_some() { "encrypted" } else { "keep it safe" };
    say(format_args!("private key  {} ({how})", out.display()))?;
    say(format_args!("public key   {}", keys::public_path(out).display()))?;
    say(format_args!("key id       {}", key.id()))
}

fn public(file: &Path, passphrase: &PassphraseSource) -> Result<PublicKey, KeyFileError> {
    match keys::read_public(file) {
        Err(KeyFileError::Locked { .. }) => Ok(passphrase.unlock(file)?.public()),
        read => read,
    }
}

fn describe(key: &PublicKey) -> serde_json::Value {
    json!({ "key_id": key.id().to_string(), "public_key": hex(key.as_bytes()) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
