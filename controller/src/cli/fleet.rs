//! `tidegate fleet`: the fleet in numbers.

use std::process::ExitCode;

use clap::Args;

use super::connection::Connection;
use super::{say, say_json};

const EXAMPLES: &str = "\
Examples:
  tidegate fleet
  tidegate fleet --url https://tidegate.example --token-file ~/.tidegate-token --json";

/// Show the fleet in numbers: devices, open rollouts, reports.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let fleet = options.connection.client()?.fleet().await?;
    if options.connection.json {
        say_json(&fleet)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reports = &fleet.reports;
    say(format_args!("fleet          {}", fleet.fleet))?;
    say(format_args!("devices        {} ({} online)", fleet.devices, fleet.online))?;
    say(format_args!("models         {}", fleet.models))?;
    say(format_args!("open rollouts  {}", fleet.open_rollouts))?;
    say(format_args!(
        "reports        {} stored, {} came twice, {} dropped by devices, {} refused",
        reports.received, reports.duplicates, reports.lost, reports.refused
    ))?;
    say(format_args!("inferences     {} answered, {} failed", reports.rows, reports.errors))?;
    fleet.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(ExitCode::SUCCESS)
}
