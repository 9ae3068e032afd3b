//! What every command that signs releases has in common.

use std::path::PathBuf;

use clap::Args;

use super::passphrase::PassphraseSource;
use super::text::now_ms;
use super::{root, say};
use crate::api::types::{TargetsPosted, listed};
use crate::bundle::memory::{Publisher, Supersede};
use crate::bundle::standing::Standing;
use crate::client::Client;

/// With which key, and from which root on.
#[derive(Debug, Args)]
pub struct Signing {
    /// The publisher's private key. It never leaves this machine; what it signed last is remembered
    /// beside it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The fleet's root of trust; without it root.cose beside the key.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// Sign a version again that this key signed with another content: only if that one was refused
    /// or withdrawn.
    #[arg(long)]
    supersede: bool,
}

impl Signing {
    /// Reads the key; asks for its passphrase if it has one.
    pub fn publisher(&self) -> anyhow::Result<Publisher> {
        let supersede = if self.supersede { Supersede::Last } else { Supersede::Never };
        let key = self.passphrase.unlock(&self.key)?;
        Ok(Publisher { key, file: self.key.clone(), supersede })
    }

    /// What the controller has, as far as it follows from the root that is kept here.
    pub async fn standing(&self, client: &Client) -> anyhow::Result<Standing> {
        root::standing(client, &self.key, self.root.as_deref(), now_ms() / 1000).await
    }
}

/// Tells what came of signed metadata: `done` if it counts now, else who must still sign. `sign` is
/// what they sign, as in `digits@1.1.0`.
pub fn say_posted(posted: &TargetsPosted, done: &str, sign: &str) -> anyhow::Result<()> {
    match posted {
        TargetsPosted::Published(published) => {
            say(format_args!("{done} (targets version {})", published.targets))
        }
        TargetsPosted::Pending(pending) => {
            let signatures = &pending.signatures;
            say(format_args!(
                "signed by {}; it counts once it is signed by {} too",
                listed(&signatures.signed),
                signatures.waits_for(),
            ))?;
            say(format_args!("they run: tidegate model sign {sign} --key FILE"))
        }
    }
}
