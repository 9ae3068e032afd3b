//! `tidegate agent`: this binary in the agent's role.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tidegate_agent::config::Config;
use tidegate_agent::rehearsal::{self, Rehearsal};

const EXAMPLES: &str = "\
Example:
  tidegate agent --config /etc/tidegate/agent.toml

On real devices install the smaller tidegate-agent, which does the same.";

/// Run the agent of one device, in this process.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = "tidegate agent --config <FILE>")]
pub struct Options {
    /// The agent's configuration, TOML.
    #[arg(long, value_name = "FILE", required_unless_present = "rehearse")]
    config: Option<PathBuf>,
    /// Loads the model of a slot within its limits, for the agent that started this process.
    #[arg(long, value_name = "FOLDER", hide = true)]
    rehearse: Option<PathBuf>,
}

pub(super) fn run(options: Options) -> anyhow::Result<ExitCode> {
    if let Some(slot) = &options.rehearse {
        rehearsal::load(slot);
    }
    if let Some(config) = &options.config {
        let mut config = Config::load(config)?;
        config.rehearsal = Rehearsal::by_this_program(&["agent", "--rehearse"]);
        tidegate_agent::log::start(&config.log)?;
        tidegate_agent::run(config)?;
    }
    Ok(ExitCode::SUCCESS)
}
