//! `tidegate audit`: what was decided, by whom and why.

use std::process::ExitCode;

use clap::Args;

use super::connection::Connection;
use super::text::{Table, moment, now_ms, time};
use super::{say, say_json};
use crate::api::types::AuditEntry;
use crate::client::Client;

/// Entries asked for at once.
const PAGE: u32 = 500;

const EXAMPLES: &str = "\
Examples:
  tidegate audit --since 24h
  tidegate audit --since 2026-11-05T08:00 --json";

/// Show the journal: what was decided, by whom and why.
///
/// Entries are hash-chained; the controller refuses to start if one was changed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Only what was decided since then: how long ago, as in 2h or 7d, or a UTC date.
    #[arg(long, value_name = "WHEN", value_parser = |text: &str| moment(text, now_ms()))]
    since: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { connection, since } = options;
    let entries = all(&connection.client()?, since.unwrap_or(0)).await?;
    if connection.json {
        say_json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NO", "TIME (UTC)", "WHO", "WHAT", "WHY"]);
    for entry in entries {
        let AuditEntry { seq, at_ms, who, what, why, .. } = entry;
        table.row([seq.to_string(), time(at_ms), who, what, why]);
    }
    say(if table.is_empty() {
        "nothing was decided in that time".into()
    } else {
        table.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn all(client: &Client, since_ms: u64) -> anyhow::Result<Vec<AuditEntry>> {
    let mut entries = Vec::new();
    let mut after = Some(0);
    while let Some(seq) = after {
        let page = client.audit(seq, PAGE).await?;
        // A page that does not go on would be asked for ever.
        after = page.next.filter(|next| *next > seq);
        entries.extend(page.entries.into_iter().filter(|entry| entry.at_ms >= since_ms));
    }
    Ok(entries)
}
