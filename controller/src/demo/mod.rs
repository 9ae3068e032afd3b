//! `tidegate demo`: a whole fleet on this machine, from a signed model to an automatic revert.
//!
//! The controller runs in this process; every device is an agent in a process of its own. Nothing
//! is simulated: the same code, a real broker, real models, real data. Only waiting times are
//! shortened, see [`material`].

mod accounting;
mod device;
mod feeder;
mod material;
mod network;
mod scenario;
mod screen;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

pub use accounting::{Delivery, settled};
pub use device::Device;
pub use feeder::{Feeder, Seen};
pub use material::{Stream, write_model};
pub use network::Mosquitto;
pub use scenario::Scenario;
pub use summary::Summary;

/// Show Tidegate at work: a controller and a fleet of agents on this machine.
///
/// Enrols the devices, rolls out a good model in waves, rolls out a bad one that the devices
/// themselves turn down, takes the network away and brings it back, and kills an agent in the
/// middle of an install. Everything lies in a temporary folder and is gone at the end.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many devices, each a process of its own
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub devices: u32,
    /// Print one JSON object on standard output instead of the table; events go to standard error
    #[arg(long)]
    pub json: bool,
    /// Stay up at the end and print the addresses, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Use this Mosquitto program as the broker, instead of the embedded one
    #[arg(long, value_name = "PROGRAM")]
    pub mosquitto: Option<PathBuf>,
}

/// Runs the demo; success only if everything that it promises really happened.
///
/// # Errors
/// When it cannot go on at all: no port, no disk, an agent that does not start.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut scenario = Scenario::start(options.clone(), program).await?;
    scenario.enrol().await?;
    scenario.first_install().await?;
    scenario.good_rollout().await?;
    scenario.bad_rollout().await?;
    scenario.outage().await?;
    scenario.kill_in_install().await?;
    let summary = scenario.summary().await?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!("\n{}", summary.table());
    }
    for failure in &summary.failures {
        eprintln!("   FAILED: {failure}");
    }
    if options.keep {
        scenario.stay_up().await?;
    }
    let well = summary.failures.is_empty();
    scenario.stop().await;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
