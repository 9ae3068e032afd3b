//! Which controller, and as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use tidegate_wire::invitation::Pass;

use crate::client::Client;
use crate::data_dir::ADMIN_TOKEN;

/// Where the token stands in the environment.
const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";

/// Which controller is asked, and with which token.
#[derive(Debug, Args)]
#[command(next_help_heading = "Controller")]
pub struct Connection {
    /// The controller's address, if it is not the one in the token.
    #[arg(long, global = true, env = "TIDEGATE_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
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
        let mut pass = self.pass()?;
        if let Some(url) = &self.url {
            pass.controller.clone_from(url);
        }
        Ok(Client::new(&pass)?)
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

    /// The controller's address, if it was given.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    fn pass(&self) -> anyhow::Result<Pass> {
        if let Some(file) = &self.token_file {
            return pass_in(file);
        }
        match (std::env::var(TOKEN_VARIABLE), &self.data) {
            (Ok(token), _) if !token.is_empty() => {
                token.parse().with_context(|| format!("{TOKEN_VARIABLE} holds no token"))
            }
            (_, Some(data)) => pass_in(&data.join(ADMIN_TOKEN)),
            (_, None) => bail!(
                "no token is given, and without one it is not known which controller to trust: \
                 use --token-file, {TOKEN_VARIABLE}, or --data with the controller's data folder"
            ),
        }
    }
}

/// The pass in a file. What stands there is not shown if it is none: it may be a secret.
pub(super) fn pass_in(file: &Path) -> anyhow::Result<Pass> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    text.parse().with_context(|| format!("{} holds no token", file.display()))
}
