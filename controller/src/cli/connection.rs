//! Which controller, and as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::client::{Client, DEFAULT_URL};

/// The name of the operator's token in the controller's data folder.
pub const ADMIN_TOKEN: &str = "admin-token";

/// Where the token stands in the environment.
const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";

/// Which controller is asked, and with which token.
#[derive(Debug, Args)]
#[command(next_help_heading = "Controller")]
pub struct Connection {
    /// The controller's address.
    #[arg(long, global = true, env = "TIDEGATE_URL", hide_env_values = true, value_name = "URL", default_value = DEFAULT_URL)]
    url: String,
    /// File with the operator's token. Without it TIDEGATE_TOKEN is used, then --data.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The controller's data folder, on the same machine: its token is used.
    #[arg(long, global = true, env = "TIDEGATE_DATA", hide_env_values = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connection {
    /// The client of that controller. Nothing is sent yet.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, self.token()?)?)
    }

    /// The controller's data folder, if it was given.
    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// Tells on standard error what must be done soon. What the command did counts, whatever comes of
    /// this.
    pub async fn warn(&self) {
        let Ok(client) = self.client() else { return };
        if let Ok(trust) = client.trust().await {
            trust.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        }
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        if let Some(file) = &self.token_file {
            return token_in(file).map(Some);
        }
        match (std::env::var(TOKEN_VARIABLE), &self.data) {
            (Ok(token), _) if !token.is_empty() => Ok(Some(token)),
            (_, Some(data)) => token_in(&data.join(ADMIN_TOKEN)).map(Some),
            (_, None) => Ok(None),
        }
    }
}

fn token_in(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    let token = text.trim();
    // A header cannot carry anything else, and its error would show the token.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{} holds no token: one line of printable characters belongs there", file.display());
    }
    Ok(token.to_owned())
}
