//! `tidegate agent`: this binary in the agent's role.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tidegate_agent::config::Config;

const EXAMPLES: &str = "\
Example:
  tidegate agent --config /etc/tidegate/agent.toml

On real devices install the smaller tidegate-agent, which does the same.";

/// Run the agent of one device, in this process.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The agent's configuration, TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.config)?;
    tidegate_agent::log::start(&config.log)?;
    tidegate_agent::run(config)?;
    Ok(ExitCode::SUCCESS)
}
