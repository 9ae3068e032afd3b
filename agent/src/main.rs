//! `tidegate-agent --config FILE`: the agent as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidegate_agent::config::Config;
use tidegate_agent::rehearsal::{self, Rehearsal};

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
    /// Without a fleet or a configuration: answers with the model in a folder that `tidegate model
    /// pack` wrote, to try it or to measure. May be given several times.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["config", "check"])]
    serve: Vec<PathBuf>,
    /// Where `--serve` listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8470", requires = "serve")]
    listen: SocketAddr,
    /// Loads the model of a slot within its limits, for the agent that started this process.
    #[arg(long, value_name = "FOLDER", hide = true)]
    rehearse: Option<PathBuf>,
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
    if let Some(slot) = &arguments.rehearse {
        rehearsal::load(slot);
        return Ok(());
    }
    if !arguments.serve.is_empty() {
        tidegate_agent::log::start("info")?;
        return Ok(tidegate_agent::alone::serve(&arguments.serve, arguments.listen)?);
    }
    let mut config = Config::load(&arguments.config)?;
    tidegate_agent::log::check(&config.log)?;
    if arguments.check {
        println!("{}: good, for device {}", arguments.config.display(), config.device);
        return Ok(());
    }
    #[cfg(feature = "candle")]
    bound_threads(config.engines.threads);
    tidegate_agent::log::start(&config.log)?;
    config.rehearsal = Rehearsal::by_this_program(&["--rehearse"]);
    Ok(tidegate_agent::run(config)?)
}

/// candle takes its number of threads from the environment and from nowhere else; what is set there
/// already is left.
#[cfg(feature = "candle")]
#[expect(unsafe_code, reason = "the environment cannot be set otherwise")]
fn bound_threads(threads: usize) {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: the program has one thread until `run` starts others, so nobody reads the
        // environment meanwhile.
        unsafe { std::env::set_var(VARIABLE, threads.to_string()) };
    }
}
