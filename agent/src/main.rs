//! `tidegate-agent --config FILE`: the agent as a program of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidegate_agent::config::Config;

/// Runs signed models on this device and keeps them as the fleet's controller directs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, TOML; agent.example.toml documents every key.
    #[arg(long, value_name = "FILE", default_value = "/etc/tidegate/agent.toml")]
    config: PathBuf,
    /// Only reads the configuration and says whether it is good.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    tidegate_agent::log::check(&config.log)?;
    if arguments.check {
        println!("{}: good, for device {}", arguments.config.display(), config.device);
        return Ok(());
    }
    tidegate_agent::log::start(&config.log)?;
    Ok(tidegate_agent::run(config)?)
}
