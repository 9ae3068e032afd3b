//! `tidegate-agent --config FILE`: the agent as a program of its own.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidegate_agent::config::Config;
use tidegate_agent::engine::EnginesConfig;
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
        tell_engines(&EnginesConfig::default());
        tidegate_agent::log::start("info")?;
        return Ok(tidegate_agent::alone::serve(&arguments.serve, arguments.listen)?);
    }
    let mut config = Config::load(&arguments.config)?;
    tidegate_agent::log::check(&config.log)?;
    if arguments.check {
        println!("{}: good, for device {}", arguments.config.display(), config.device);
        return Ok(());
    }
    tell_engines(&config.engines);
    tidegate_agent::log::start(&config.log)?;
    config.rehearsal = Rehearsal::by_this_program(&["--rehearse"]);
    Ok(tidegate_agent::run(config)?)
}

/// Tells libraries behind engines what the configuration says, and the processes in which candidates
/// are rehearsed: candle takes its number of threads from the environment and from nowhere else.
/// What is set there already is left.
#[expect(unsafe_code, reason = "the environment cannot be set otherwise")]
fn tell_engines(config: &EnginesConfig) {
    let threads = Some(OsString::from(config.threads.to_string()));
    let library = config.onnxruntime.clone().map(OsString::from);
    for (name, value) in [("RAYON_NUM_THREADS", threads), ("ORT_DYLIB_PATH", library)] {
        if let Some(value) = value.filter(|_| std::env::var_os(name).is_none()) {
            // SAFETY: the program has one thread until models are served, so nobody reads the
            // environment meanwhile.
            unsafe { std::env::set_var(name, value) };
        }
    }
}
