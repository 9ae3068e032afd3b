//! `tidegate trust show`: whose keys count, and until when.

use std::path::PathBuf;

use clap::Args;

use crate::api::types::TrustView;
use crate::cli::connection::Connection;
use crate::cli::root::newest;
use crate::cli::text::{Table, now_ms, time};
use crate::cli::{say, say_json};
use crate::release;

/// What is shown.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    connection: Connection,
    /// A root.cose or a controller's data folder: shown without asking a controller.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Bring this root.cose up to date first, as far as the controller's follows from it.
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    update: Option<PathBuf>,
}

pub(super) async fn show(options: &Show) -> anyhow::Result<()> {
    let view = match (&options.path, &options.update) {
        (Some(path), _) => release::offline(path, now_ms() / 1000)?,
        (None, update) => {
            if let Some(file) = update {
                newest(&options.connection.client()?, file).await?;
            }
            options.connection.client()?.trust().await?
        }
    };
    if options.connection.json {
        return say_json(&view);
    }
    say(format_args!("{}: root {}\n", view.fleet, view.root))?;
    say(roles(&view))?;
    say("")?;
    say(expiries(&view))?;
    view.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(())
}

fn roles(view: &TrustView) -> Table {
    let mut table = Table::new(&["ROLE", "NEEDS", "KEY", "ID"]);
    for role in &view.roles {
        let needs = format!("{} of {}", role.threshold, role.keys.len());
        for (index, label) in role.keys.iter().enumerate() {
            let first = |text: &str| if index == 0 { text.to_owned() } else { String::new() };
            let name = label.name.clone().unwrap_or_else(|| "-".into());
            table.row([first(&role.role), first(&needs), name, label.key.to_string()]);
        }
    }
    table
}

fn expiries(view: &TrustView) -> Table {
    let mut table = Table::new(&["WHAT", "VERSION", "GOOD UNTIL"]);
    for expiry in &view.expiries {
        let version = expiry.version.map(|version| version.to_string()).unwrap_or_default();
        table.row([expiry.what.clone(), version, time(expiry.expires_ms)]);
    }
    table
}
