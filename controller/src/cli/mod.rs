//! The command line: one file per group of commands.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage; a watched rollout that was taken back or cancelled
//! ends with 3.

mod agent;
mod audit;
mod connection;
mod device;
mod fleet;
mod forbid;
mod key;
pub mod model;
mod passphrase;
mod progress;
mod publisher;
mod rollout;
mod root;
mod serve;
mod sign;
pub(crate) mod text;
mod token;
pub mod trust;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
First steps:
  tidegate trust init --data ./fleet --fleet plant-7   keys and trust of a new fleet
  tidegate serve --data ./fleet                        start the controller
  tidegate device token --data ./fleet --uses 10       let ten devices in
  tidegate model push ./digits --data ./fleet --key ./fleet-keys/publisher.pem
  tidegate rollout start digits@1.0.0 --data ./fleet --why 'first install'
  tidegate rollout status digits --watch --data ./fleet

Every command explains itself with --help.";

/// Ships machine-learning models to fleets of edge devices.
///
/// Models are signed by their publishers, brought out in waves, checked on every device on its
/// own live data, and taken back by themselves when they regress.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(crate::demo::Options),
    Serve(serve::Options),
    Agent(agent::Options),
    Trust(trust::Options),
    Key(key::Options),
    Model(model::Options),
    Rollout(rollout::Options),
    Device(device::Options),
    Fleet(fleet::Options),
    Token(token::Options),
    Audit(audit::Options),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(options) => demo(options),
        Command::Serve(options) => serve::run(options),
        Command::Agent(options) => agent::run(options),
        Command::Trust(options) => wait(trust::run(options)),
        Command::Key(options) => key::run(options),
        Command::Model(options) => wait(model::run(options)),
        Command::Rollout(options) => wait(rollout::run(options)),
        Command::Device(options) => wait(device::run(options)),
        Command::Fleet(options) => wait(fleet::run(options)),
        Command::Token(options) => wait(token::run(options)),
        Command::Audit(options) => wait(audit::run(options)),
    }
}

/// Runs a command that talks to the controller. One thread is plenty for that.
fn wait(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// The demo has a controller in it, which wants more than one thread.
fn demo(options: crate::demo::Options) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(crate::demo::run(options))
}

/// The error and its causes, leaving out what was said already.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// `tidegate … | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes to standard output; unlike `print!` a reader that went away is an error, not a panic.
fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", printable(text.to_string().trim_end()))?;
    Ok(())
}

/// Without what would drive the terminal: much of what is shown was said by devices.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Writes a value as JSON, indented.
fn say_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use clap::CommandFactory;

    #[test]
    fn a_devices_words_do_not_drive_the_terminal() {
        assert_eq!(super::printable("a\x1b[2Jb\u{9b}c\nd"), "a\u{fffd}[2Jb\u{fffd}c\nd");
        let mut table = super::text::Table::new(&["A"]);
        table.row(["x\nforged row".to_owned()]);
        assert_eq!(table.to_string(), "A\nx forged row\n");
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let error = Err::<(), _>(anyhow!("disk full")).context("cannot write x").unwrap_err();
        assert_eq!(super::describe(&error), "cannot write x: disk full");
        let error = error.context("the upload failed: cannot write x");
        assert_eq!(super::describe(&error), "the upload failed: cannot write x: disk full");
    }
}
