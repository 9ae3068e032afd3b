//! `tidegate audit`: what was decided, by whom and why, and whether that is all of it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_agent::disk::Folder;
use tidegate_wire::Digest;

use super::connection::Connection;
use super::text::{Table, moment, now_ms, time};
use super::{say, say_json};
use crate::api::types::AuditEntry;
use crate::client::Client;
use crate::data_dir::DataDir;
use crate::export::{self, Check};
use crate::journal::{self, Head, Reader};
use crate::ledger::Ledger;
use crate::state::token::LOCAL;

/// Entries asked for at once.
const PAGE: u32 = 500;

const EXAMPLES: &str = "\
Examples:
  tidegate audit --since 24h
  tidegate audit --since 2026-11-05T08:00 --json
  tidegate audit verify                    asks the controller for all of it and checks every entry
  tidegate audit verify --data ./fleet     reads the folder itself, whether a controller runs or not
  tidegate audit verify --head 5f1c…       and that the entry noted last week is still there
  tidegate audit export --since 1200 > audit.jsonl";

/// Show the journal: what was decided, by whom and why.
///
/// Entries are chained by SHA-256; the controller refuses to start if one was changed or the last
/// ones are missing. Against somebody who can write the controller's disk, note the head that
/// `verify` prints on another machine from time to time, and give it to `verify --head` later.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct List {
    /// Only what was decided since then: how long ago, as in 2h or 7d, or a UTC date.
    #[arg(long, value_name = "WHEN", value_parser = |text: &str| moment(text, now_ms()))]
    since: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what was decided, as `tidegate audit` alone does.
    List(List),
    /// Check every entry and that none is missing; names the first bad one.
    ///
    /// With --data it reads that folder and asks nobody; otherwise the controller sends all of it,
    /// and this program checks it.
    Verify {
        /// The hash of an entry, as `verify` printed it earlier: it must still be there.
        #[arg(long, value_name = "HASH")]
        head: Option<Digest>,
    },
    /// Write all of it, one JSON object a line, for other programs.
    ///
    /// `entry` is the entry as it stands in the journal (CBOR, base64), `hash` its SHA-256, and
    /// `previous` the hash of the one before, so that anybody can check it.
    Export {
        /// The first entry.
        #[arg(long, value_name = "NO", default_value_t = 1)]
        since: u64,
    },
    /// Go on with a journal whose last entries or head file are lost, and write that into it.
    ///
    /// Only if there is no backup, and while no controller runs on the folder.
    Accept {
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { connection, list, command } = options;
    if command.is_some() && list.since.is_some() {
        bail!("--since belongs behind the subcommand, as in `tidegate audit list --since 2h`");
    }
    match command.unwrap_or(Command::List(list)) {
        Command::List(List { since }) => show(&connection, since.unwrap_or(0)).await?,
        Command::Verify { head } => {
            let verified = match connection.data() {
                Some(data) => verify_folder(data, head)?,
                None => verify_online(&connection.client()?, head).await?,
            };
            report(&connection, verified, head)?;
        }
        Command::Export { since } => export(&connection, since).await?,
        Command::Accept { why } => accept(&connection, &why)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(connection: &Connection, since_ms: u64) -> anyhow::Result<()> {
    let entries = all(&connection.client()?, since_ms).await?;
    if connection.json {
        return say_json(&entries);
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
    })
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

/// Where a controller's folder has its journal.
fn folder(data: &Path) -> anyhow::Result<std::path::PathBuf> {
    let folder = data.join("journal");
    if !folder.is_dir() {
        bail!("{} is no controller's data folder: it has no folder journal", data.display());
    }
    Ok(folder)
}

fn verify_folder(data: &Path, noted: Option<Digest>) -> anyhow::Result<Head> {
    let verified = journal::verify(&Folder::new(folder(data)?), noted)?;
    if verified.torn > 0 {
        eprintln!(
            "note: a half-written entry of {} bytes follows, which was never acknowledged",
            verified.torn
        );
    }
    Ok(verified.head)
}

async fn verify_online(client: &Client, noted: Option<Digest>) -> anyhow::Result<Head> {
    let head = client.audit_head().await?;
    let mut check = Check::new(Head { seq: head.seq, hash: head.hash }, noted);
    let take = |line: &str| Ok::<_, anyhow::Error>(check.take(line)?);
    client.audit_export(1, take).await?;
    Ok(check.end()?)
}

fn report(connection: &Connection, head: Head, noted: Option<Digest>) -> anyhow::Result<()> {
    if connection.json {
        return say_json(&json!({ "entries": head.seq, "head": head.hash, "noted": noted }));
    }
    say(format_args!("{} entries, all there and unchanged", head.seq))?;
    if noted.is_some() {
        say("the entry that was noted is among them")?;
    }
    say(format_args!("head {}", head.hash))
}

async fn export(connection: &Connection, since: u64) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match connection.data() {
        Some(data) => {
            for stored in Reader::open(Folder::new(folder(data)?))?.into_iter().flatten() {
                let stored = stored?;
                if stored.entry.seq >= since {
                    out.write_all(export::line(&stored).as_bytes())?;
                }
            }
        }
        None => {
            let write = |line: &str| Ok::<_, anyhow::Error>(writeln!(out, "{line}")?);
            connection.client()?.audit_export(since, write).await?;
        }
    }
    Ok(out.flush()?)
}

fn accept(connection: &Connection, why: &str) -> anyhow::Result<()> {
    let Some(data) = connection.data() else {
        bail!("which journal? Give the controller's data folder with --data");
    };
    // Held until the journal is written.
    let _folder = DataDir::new(data).open()?;
    let ledger = Ledger::accept(&folder(data)?, LOCAL, why)?;
    let head = ledger.head();
    if connection.json {
        return say_json(&json!({ "entries": head.seq, "head": head.hash }));
    }
    say(format_args!("the journal goes on from entry {}", head.seq))
}
