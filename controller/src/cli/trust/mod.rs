//! `tidegate trust`: the keys and the root of trust of a fleet.

mod draft;
mod init;
mod named;
mod rotate;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use init::{Initialised, initialise};

const EXAMPLES: &str = "\
Examples:
  tidegate trust init --data /var/lib/tidegate --fleet plant-7 --keys ./plant-7-keys
  tidegate trust init --data ./fleet --fleet plant-7 --threshold 2 \\
      --publisher anna=anna.pem.pub --publisher bob=bob.pem.pub
  tidegate trust show --data ./fleet
  tidegate trust rotate --data ./fleet --key root.pem --remove bob --add-publisher carol=carol.pem.pub
  tidegate trust rotate --data ./fleet --key root.pem --online all --out draft.json

Afterwards move the keys folder to where the controller is not: root.pem offline, publisher.pem
and root.cose to the machine that releases models. A stolen controller without them can only
choose among models that the publishers signed.";

/// Found a fleet, and see or change whose keys count in it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new fleet's keys, sign its root, and prepare the controller's data folder.
    ///
    /// Can be repeated if it was broken off: keys that are there are used, never overwritten.
    Init(init::Options),
    /// Show whose keys count, and until when what they signed is good.
    Show(show::Show),
    /// Sign the next root: replace, add or remove keys, change thresholds, extend the expiry.
    ///
    /// Root keys sign it, as many as the old root and the new one ask for. Devices follow by
    /// themselves, those that are switched off when they come back. If publishers changed, one of
    /// them runs `tidegate model renew` afterwards.
    Rotate(rotate::Rotate),
    /// Add a root key's signature to a draft of `trust rotate --out`.
    Sign(rotate::Sign),
    /// Publish a draft that enough root keys signed.
    Publish(rotate::Publish),
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Init(options) => init::run(&options)?,
        Command::Show(options) => show::show(&options).await?,
        Command::Rotate(options) => rotate::rotate(options).await?,
        Command::Sign(options) => rotate::sign(&options)?,
        Command::Publish(options) => rotate::publish(options).await?,
    }
    Ok(ExitCode::SUCCESS)
}
