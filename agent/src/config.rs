//! The agent's configuration: one TOML file.
//!
//! `agent.example.toml` documents every key; a test reads it, so that it cannot fall behind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidegate_wire::{DeviceId, Labels};

/// Everything that an operator decides about one agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The device's name, unique in its fleet.
    pub device: DeviceId,
    /// What it says about itself; rules of a rollout select by these.
    #[serde(default)]
    pub labels: Labels,
    /// Where everything is kept that must survive a restart.
    pub data_dir: PathBuf,
    /// The controller's HTTP API, `http://host:port`.
    pub controller: String,
    /// The operator's secret that lets devices in; needed until the device has enrolled.
    pub enrol_token: Option<String>,
    /// A file with that secret, read instead of `enrol_token`.
    pub enrol_token_file: Option<PathBuf>,
    /// Threads for network and serving.
    #[serde(default = "default_worker_threads")]
    pub worker_threads: usize,
    /// What is logged, as in `info` or `tidegate_agent=debug`.
    #[serde(default = "default_log")]
    pub log: String,
    /// The local API.
    #[serde(default)]
    pub api: ApiConfig,
    /// Reports to the controller.
    #[serde(default)]
    pub reports: ReportsConfig,
    /// Downloads of models.
    #[serde(default)]
    pub downloads: DownloadsConfig,
}

/// The local API, by which applications on the device get answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens. With port 0 the system chooses; `<data_dir>/api-address` has the result.
    pub listen: SocketAddr,
}

/// Reports to the controller, and the spool that keeps them until they are acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportsConfig {
    /// Seconds after which a window with fewer rows than the manifest asks for is closed too.
    pub window_seconds: u64,
    /// Seconds between two statuses when nothing changes.
    pub heartbeat_seconds: u64,
    /// Reports that the spool keeps at most.
    pub spool_entries_max: u64,
    /// Kibibytes of reports that the spool keeps at most.
    pub spool_kib_max: u64,
}

/// Downloads of models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DownloadsConfig {
    /// Kibibytes a second at most, over all downloads together; 0 is no limit.
    pub kib_per_second_max: u64,
    /// A download starts after a random wait of at most so many seconds, so that the devices of
    /// one site do not choke its uplink.
    pub start_jitter_seconds_max: u64,
    /// Seconds of silence after which a connection is given up and resumed later.
    pub silence_seconds_max: u64,
}

fn default_worker_threads() -> usize {
    2
}

fn default_log() -> String {
    "info".to_string()
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8470)) }
    }
}

impl Default for ReportsConfig {
    /// Room for two weeks of one window a minute, about 2 KiB each.
    fn default() -> Self {
        Self {
            window_seconds: 60,
            heartbeat_seconds: 60,
            spool_entries_max: 20_000,
            spool_kib_max: 64 * 1024,
        }
    }
}

impl Default for DownloadsConfig {
    fn default() -> Self {
        Self { kib_per_second_max: 0, start_jitter_seconds_max: 30, silence_seconds_max: 30 }
    }
}

impl ReportsConfig {
    /// When a window is closed however few rows it has.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_seconds)
    }

    /// Time between two statuses when nothing changes.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds)
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML, has a key that does not exist, or lacks one that must.
    #[error("{}: {error}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What and where; it names the key.
        error: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{}: `{key}` {problem}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a configuration from its text; `path` only stands in errors.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the key.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_path_buf(),
            error: Box::new(error),
        })?;
        let controller = config.controller.trim_end_matches('/').to_string();
        config.controller = controller;
        match config.problem() {
            None => Ok(config),
            Some((key, problem)) => {
                Err(ConfigError::Value { path: path.to_path_buf(), key, problem })
            }
        }
    }

    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let Self { controller, worker_threads, reports, downloads, .. } = self;
        let http = reqwest::Url::parse(controller)
            .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let both = self.enrol_token.is_some() && self.enrol_token_file.is_some();
        let positive = "must be at least 1";
        [
            (!http, "controller", "must be an address as in http://host:8080"),
            (both, "enrol_token", "is given twice: remove it or `enrol_token_file`"),
            (!(1..=64).contains(worker_threads), "worker_threads", "must be 1 to 64"),
            (self.data_dir.as_os_str().is_empty(), "data_dir", "must name a folder"),
            (reports.window_seconds == 0, "reports.window_seconds", positive),
            (reports.heartbeat_seconds == 0, "reports.heartbeat_seconds", positive),
            (reports.spool_entries_max == 0, "reports.spool_entries_max", positive),
            (reports.spool_kib_max < 256, "reports.spool_kib_max", "must be at least 256"),
            (downloads.silence_seconds_max == 0, "downloads.silence_seconds_max", positive),
        ]
        .into_iter()
        .find_map(|(wrong, key, problem)| wrong.then_some((key, problem)))
    }

    /// The operator's secret, from the configuration or from its file. None if there is neither.
    ///
    /// # Errors
    /// [`ConfigError::Read`] if the file cannot be read.
    pub fn token(&self) -> Result<Option<String>, ConfigError> {
        let Some(path) = &self.enrol_token_file else { return Ok(self.enrol_token.clone()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Ok(Some(text.trim().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "device = \"pi-1\"\ndata_dir = \"/d\"\ncontroller = \"http://c:1/\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_has_every_key_and_shows_the_defaults() {
        let text = include_str!("../agent.example.toml");
        let shown = parse(text).unwrap();
        let least = parse(LEAST).unwrap();
        assert_eq!((&shown.api, &shown.reports), (&least.api, &least.reports));
        assert_eq!(shown.downloads, least.downloads);
        assert_eq!((shown.worker_threads, &shown.log), (least.worker_threads, &least.log));
        let keys = [
            "device",
            "data_dir",
            "controller",
            "enrol_token",
            "enrol_token_file",
            "worker_threads",
            "log",
            "[labels]",
            "[api]",
            "listen",
            "[reports]",
            "window_seconds",
            "heartbeat_seconds",
            "spool_entries_max",
            "spool_kib_max",
            "[downloads]",
            "kib_per_second_max",
            "start_jitter_seconds_max",
            "silence_seconds_max",
        ];
        for key in keys {
            let starts = |line: &str| line.trim_start_matches("# ").starts_with(key);
            assert!(text.lines().any(starts), "{key} is not documented");
        }
    }

    #[test]
    fn a_trailing_slash_of_the_controller_does_not_matter() {
        assert_eq!(parse(LEAST).unwrap().controller, "http://c:1");
    }

    #[test]
    fn errors_name_file_and_key() {
        let unknown = parse(&format!("{LEAST}colour = 1\n")).unwrap_err();
        assert!(unknown.contains("agent.toml") && unknown.contains("colour"), "{unknown}");
        let nested = parse(&format!("{LEAST}[reports]\nwindow_secs = 1\n")).unwrap_err();
        assert!(nested.contains("window_secs"), "{nested}");
        let missing = parse("device = \"pi-1\"\ndata_dir = \"/d\"\n").unwrap_err();
        assert!(missing.contains("controller"), "{missing}");
        let name = parse(&LEAST.replace("pi-1", "pi 1")).unwrap_err();
        assert!(name.contains("pi 1"), "{name}");
        let values = [
            ("controller", LEAST.replace("http://", "mqtt://")),
            ("controller", LEAST.replace("http://c:1/", "http://")),
            ("worker_threads", format!("{LEAST}worker_threads = 0\n")),
            ("reports.window_seconds", format!("{LEAST}[reports]\nwindow_seconds = 0\n")),
            ("reports.spool_kib_max", format!("{LEAST}[reports]\nspool_kib_max = 1\n")),
            ("enrol_token", format!("{LEAST}enrol_token = \"a\"\nenrol_token_file = \"b\"\n")),
        ];
        for (key, text) in values {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn the_token_comes_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let config = Config { enrol_token_file: Some(path.clone()), ..parse(LEAST).unwrap() };
        assert_eq!(config.token().unwrap().as_deref(), Some("s3cret"));
        std::fs::remove_file(&path).unwrap();
        assert!(config.token().unwrap_err().to_string().contains("token"));
    }
}
