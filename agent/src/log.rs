//! Where the agent's log goes: to standard error, where systemd and containers look for it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The `log` key is no filter.
#[derive(Debug, thiserror::Error)]
#[error("`log` is {filter:?}, which is no filter ({problem}): use info, or module=level")]
pub struct BadFilter {
    filter: String,
    problem: String,
}

/// Whether `filter` can be used.
///
/// # Errors
/// [`BadFilter`].
pub fn check(filter: &str) -> Result<(), BadFilter> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(filter)
        .map_err(|error| BadFilter { filter: filter.to_string(), problem: error.to_string() })
}

/// Starts logging for the whole process. That it was started already is fine.
///
/// # Errors
/// [`BadFilter`].
pub fn start(filter: &str) -> Result<(), BadFilter> {
    let parsed = parse(filter)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let _ = subscriber.try_init();
    Ok(())
}
