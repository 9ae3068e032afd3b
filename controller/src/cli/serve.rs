//! `tidegate serve`: the controller.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::say;
use crate::config::{BrokerConfig, ServeConfig};
use crate::server::Server;

/// Where the HTTPS API listens by default: where the command line looks for it.
const HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

/// What is logged by default; the broker has a line for every connection, which says little.
const LOG: &str = "info,mqtt5=warn";

const EXAMPLES: &str = "\
Examples:
  tidegate serve --data ./fleet                           only for this machine
  tidegate serve --data ./fleet --http 0.0.0.0:8080 --broker 0.0.0.0:8883
  tidegate serve --data ./fleet --http 0.0.0.0:8080 --name fleet.example.org
  tidegate serve --config /etc/tidegate/tidegate.toml

The folder comes from `tidegate trust init`. TIDEGATE_LOG says what is logged, as in
TIDEGATE_LOG=debug. SIGTERM or Ctrl-C ends it in good order.";

/// Run the controller: HTTPS API, broker, planner.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("source").required(true).multiple(true).args(["config", "data"]))]
pub struct Options {
    /// The configuration, TOML; tidegate.example.toml explains every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder, everything else having its default. --config comes first.
    #[arg(
        long,
        alias = "data-dir",
        env = "TIDEGATE_DATA",
        hide_env_values = true,
        value_name = "DIR"
    )]
    data: Option<PathBuf>,
    /// Where the HTTPS API listens, whatever the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Where the embedded broker listens, whatever the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    broker: Option<SocketAddr>,
    /// A name or address under which others reach this machine, for its certificate; the first one
    /// stands in invitations too. May be given several times, in addition to the configuration's.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

pub(super) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let config = config(options)?;
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| LOG.into());
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

fn config(options: Options) -> anyhow::Result<ServeConfig> {
    let Options { config, data, http, broker, names } = options;
    let mut config = match (config, data) {
        (Some(file), _) => ServeConfig::read(&file)?,
        // clap demands one of the two.
        (None, data) => {
            ServeConfig::new(data.unwrap_or_default(), HTTP.into(), BrokerConfig::default())
        }
    };
    config.http_listen = http.unwrap_or(config.http_listen);
    if let Some(listen) = broker {
        config.broker = BrokerConfig::Embedded { listen };
    }
    config.names.extend(names);
    Ok(config)
}

async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    // Before the start: a signal in between must not be lost.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    let server = Server::start(config).await?;
    say(format_args!("HTTPS API  {}", server.url()))?;
    say(format_args!("broker     {}", server.broker_address()))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_file_and_command_line_agree_on_the_address() {
        let file: ServeConfig = toml::from_str("data_dir = 'x'").unwrap();
        let options = Options {
            config: None,
            data: Some("x".into()),
            http: None,
            broker: None,
            names: Vec::new(),
        };
        assert_eq!(config(options).unwrap(), file);
        assert_eq!(crate::client::DEFAULT_URL, format!("https://{}", file.http_listen));
    }

    #[test]
    fn addresses_can_be_given_over_the_configuration() {
        let address: SocketAddr = "0.0.0.0:9".parse().unwrap();
        let options = Options {
            config: None,
            data: Some("x".into()),
            http: Some(address),
            broker: Some(address),
            names: vec!["fleet.example.org".into()],
        };
        let config = config(options).unwrap();
        assert_eq!(config.names, ["fleet.example.org"]);
        assert_eq!(config.http_listen, address);
        assert_eq!(config.broker, BrokerConfig::Embedded { listen: address });
    }
}
