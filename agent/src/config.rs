//! The agent's configuration: one TOML file.
//!
//! `agent.example.toml` documents every key; a test reads it, so that it cannot fall behind.

mod api;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tidegate_wire::invitation::{InvalidTicket, Invitation};
use tidegate_wire::{DeviceId, Labels};

use crate::engine::EnginesConfig;
use crate::rehearsal::Rehearsal;
use crate::serving::{ModelConfig, ModelConfigs, ServingConfig};

/// 150 MB of answers that wait for a label.
const FEEDBACK_ROWS_MAX: usize = 1_000_000;
/// A gibibyte of inputs.
const RECENT_INPUTS_KIB_MAX: usize = 1 << 20;

pub use api::ApiConfig;

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
    /// The controller's API, `https://host:port`, if it is not where the invitation says.
    pub controller: Option<String>,
    /// What lets the device in, the line from `tidegate device token`; needed until it has enrolled.
    #[serde(default, deserialize_with = "invitation")]
    pub enrol_token: Option<Invitation>,
    /// A file with that line, read instead of `enrol_token`.
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
    /// How much waits, and runs at a time.
    #[serde(default)]
    pub serving: ServingConfig,
    /// What single models need otherwise, by name.
    #[serde(default)]
    pub models: ModelConfigs,
    /// Engines that need more than their model.
    #[serde(default)]
    pub engines: EnginesConfig,
    /// How candidates are loaded at first, in a process of their own; the program decides it. Without
    /// it, limits of time and memory are looked at when a candidate is loaded already.
    #[serde(skip)]
    pub rehearsal: Option<Rehearsal>,
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

/// Reads an invitation's line. What is wrong with it is said without showing it.
fn invitation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Invitation>, D::Error> {
    let line = String::deserialize(deserializer)?;
    let parsed: Result<Invitation, InvalidTicket> = line.parse();
    parsed
        .map(Some)
        .map_err(|error| D::Error::custom(format_args!("`enrol_token` {}", no_invitation(error))))
}

fn no_invitation(error: InvalidTicket) -> String {
    format!("this is no invitation: {error}. `tidegate device token` prints one, in one line")
}

/// Whether this is an address that an agent talks to.
fn is_https(address: &str) -> bool {
    reqwest::Url::parse(address).is_ok_and(|url| url.scheme() == "https" && url.has_host())
}

fn default_worker_threads() -> usize {
    2
}

fn default_log() -> String {
    "info".to_string()
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
    #[error("{}, line {line}: {problem}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong. The line itself is not shown: it may be the token's.
        problem: String,
    },
    /// The token file holds no invitation.
    #[error("{}: {}", path.display(), no_invitation(*error))]
    Invitation {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: InvalidTicket,
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
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let (line, key) = place(text, error.span().map_or(0, |span| span.start));
            let problem = without_tokens(&format!("{key}{}", error.message()));
            ConfigError::Syntax { path: path.to_path_buf(), line, problem }
        })?;
        if let Some(controller) = &mut config.controller {
            *controller = controller.trim_end_matches('/').to_string();
        }
        match config.problem() {
            None => Ok(config),
            Some((key, problem)) => {
                Err(ConfigError::Value { path: path.to_path_buf(), key, problem })
            }
        }
    }

    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let Self { controller, worker_threads, reports, downloads, engines, .. } = self;
        let not_https = controller.as_ref().is_some_and(|address| !is_https(address));
        let invited = self.enrol_token.as_ref();
        let misled = invited.is_some_and(|invitation| !is_https(&invitation.controller));
        let both = self.enrol_token.is_some() && self.enrol_token_file.is_some();
        let positive = "must be at least 1";
        let second = "must be at most 1000000, a second";
        let batching = || self.models.values().map(|model| &model.batching);
        let rows = |model: &ModelConfig| model.feedback.rows > FEEDBACK_ROWS_MAX;
        let inputs = |model: &ModelConfig| model.recent_inputs_kib > RECENT_INPUTS_KIB_MAX;
        [
            (not_https, "controller", "must be an address as in https://host:8080"),
            (misled, "enrol_token", "names a controller without an https:// address"),
            (both, "enrol_token", "is given twice: remove it or `enrol_token_file`"),
            (!(1..=64).contains(worker_threads), "worker_threads", "must be 1 to 64"),
            (self.data_dir.as_os_str().is_empty(), "data_dir", "must name a folder"),
            (reports.window_seconds == 0, "reports.window_seconds", positive),
            (reports.heartbeat_seconds == 0, "reports.heartbeat_seconds", positive),
            (reports.spool_entries_max == 0, "reports.spool_entries_max", positive),
            (reports.spool_kib_max < 256, "reports.spool_kib_max", "must be at least 256"),
            (downloads.silence_seconds_max == 0, "downloads.silence_seconds_max", positive),
            (self.serving.long_runs_max > 64, "serving.long_runs_max", "must be 0 to 64"),
            (batching().any(|own| own.rows_max == 0), "batching.rows_max", positive),
            (batching().any(|own| own.wait_us > 1_000_000), "batching.wait_us", second),
            (self.models.values().any(rows), "feedback.rows", "must be at most 1000000"),
            (self.models.values().any(inputs), "recent_inputs_kib", "must be at most 1048576"),
            (!(1..=64).contains(&engines.threads), "engines.threads", "must be 1 to 64"),
        ]
        .into_iter()
        .chain(self.api.problems())
        .find_map(|(wrong, key, problem)| wrong.then_some((key, problem)))
    }

    /// The invitation, from the configuration or from its file. None if there is neither.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read or holds no invitation.
    pub fn invitation(&self) -> Result<Option<Invitation>, ConfigError> {
        let Some(path) = &self.enrol_token_file else { return Ok(self.enrol_token.clone()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let invitation: Invitation =
            text.parse().map_err(|error| ConfigError::Invitation { path: path.clone(), error })?;
        if is_https(&invitation.controller) {
            return Ok(Some(invitation));
        }
        let (path, key) = (path.clone(), "enrol_token_file");
        let problem = "names a controller without an https:// address";
        Err(ConfigError::Value { path, key, problem })
    }
}

/// The number, from 1, of the line with the byte at `offset`, and the key that it begins with. What
/// follows the key is not shown.
fn place(text: &str, offset: usize) -> (usize, String) {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count();
    let key = text.lines().nth(line).and_then(|line| line.split_once('='));
    let key = key.map(|(key, _)| format!("`{}`: ", key.trim())).unwrap_or_default();
    (line + 1, key)
}

/// A parser's message, in which a token may be quoted that stands in a wrong place.
fn without_tokens(message: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let mut text = message.to_string();
    for prefix in ["tgd1.", "tgp1."] {
        let mut parts = text.split(prefix);
        let mut hidden = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let rest = part.trim_start_matches(is_token);
            hidden.push_str(prefix);
            hidden.push_str(if rest.len() < part.len() { "***" } else { "" });
            hidden.push_str(rest);
        }
        text = hidden;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_wire::Digest;
    use tidegate_wire::invitation::Secret;

    const LEAST: &str = "device = \"pi-1\"\ndata_dir = \"/d\"\ncontroller = \"https://c:1/\"\n";

    fn invited(controller: &str) -> Invitation {
        Invitation {
            controller: controller.to_string(),
            authority: Digest::of(b"authority"),
            root: Digest::of(b"root"),
            secret: Secret(b"not for your eyes".to_vec()),
        }
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_has_every_key_and_shows_the_defaults() {
        let text = include_str!("../agent.example.toml");
        let shown = parse(text).unwrap();
        let least = parse(LEAST).unwrap();
        assert_eq!((&shown.api, &shown.reports), (&least.api, &least.reports));
        assert_eq!((shown.downloads, shown.serving), (least.downloads, least.serving));
        assert_eq!(shown.engines, least.engines);
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
            "unix_socket",
            "unix_mode",
            "grpc",
            "body_kib_max",
            "[reports]",
            "window_seconds",
            "heartbeat_seconds",
            "spool_entries_max",
            "spool_kib_max",
            "[downloads]",
            "kib_per_second_max",
            "start_jitter_seconds_max",
            "silence_seconds_max",
            "[serving]",
            "queue_max",
            "wait_ms_max",
            "long_runs_max",
            "models_mib_max",
            "[models.digits.batching]",
            "rows_max",
            "wait_us",
            "[models.digits.feedback]",
            "rows",
            "make_ids",
            "recent_inputs_kib",
            "[engines]",
            "threads",
            "onnxruntime",
        ];
        for key in keys {
            let starts = |line: &str| line.trim_start_matches("# ").starts_with(key);
            assert!(text.lines().any(starts), "{key} is not documented");
        }
    }

    #[test]
    fn a_trailing_slash_of_the_controller_does_not_matter() {
        assert_eq!(parse(LEAST).unwrap().controller.as_deref(), Some("https://c:1"));
    }

    #[test]
    fn errors_name_file_and_key() {
        let unknown = parse(&format!("{LEAST}colour = 1\n")).unwrap_err();
        assert!(unknown.contains("agent.toml") && unknown.contains("colour"), "{unknown}");
        let nested = parse(&format!("{LEAST}[reports]\nwindow_secs = 1\n")).unwrap_err();
        assert!(nested.contains("window_secs"), "{nested}");
        let missing = parse("device = \"pi-1\"\n").unwrap_err();
        assert!(missing.contains("data_dir"), "{missing}");
        let name = parse(&LEAST.replace("pi-1", "pi 1")).unwrap_err();
        assert!(name.contains("pi 1"), "{name}");
        let values = [
            ("controller", LEAST.replace("https://", "http://")),
            ("controller", LEAST.replace("https://c:1/", "https://")),
            ("enrol_token", format!("{LEAST}enrol_token = {:?}\n", invited("http://c:1").text())),
            ("worker_threads", format!("{LEAST}worker_threads = 0\n")),
            ("reports.window_seconds", format!("{LEAST}[reports]\nwindow_seconds = 0\n")),
            ("serving.long_runs_max", format!("{LEAST}[serving]\nlong_runs_max = 65\n")),
            ("batching.rows_max", format!("{LEAST}[models.m.batching]\nrows_max = 0\n")),
            ("batching.wait_us", format!("{LEAST}[models.m.batching]\nwait_us = 1000001\n")),
            ("feedback.rows", format!("{LEAST}[models.m.feedback]\nrows = 1000001\n")),
            ("recent_inputs_kib", format!("{LEAST}[models.m]\nrecent_inputs_kib = 1048577\n")),
            ("reports.spool_kib_max", format!("{LEAST}[reports]\nspool_kib_max = 1\n")),
            ("engines.threads", format!("{LEAST}[engines]\nthreads = 0\n")),
            (
                "enrol_token",
                format!(
                    "{LEAST}enrol_token = {:?}\nenrol_token_file = \"b\"\n",
                    invited("https://c:1").text()
                ),
            ),
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
        let config = Config { enrol_token_file: Some(path.clone()), ..parse(LEAST).unwrap() };
        let problem = || config.invitation().unwrap_err().to_string();
        assert!(problem().contains("token"), "{}", problem());
        std::fs::write(&path, invited("https://c:1").text() + "\n").unwrap();
        assert_eq!(config.invitation().unwrap(), Some(invited("https://c:1")));
        std::fs::write(&path, invited("http://c:1").text()).unwrap();
        assert!(problem().contains("https://"), "{}", problem());
        std::fs::write(&path, "let-me-in").unwrap();
        assert!(problem().contains("tidegate device token"), "{}", problem());
        assert!(!problem().contains("let-me-in"), "{}", problem());
    }

    #[test]
    fn no_error_and_no_debug_print_shows_a_token() {
        let line = invited("https://c:1").text();
        let secret = &line[line.len() - 30..];
        let cut = &line[..line.len() - 2];
        let cases = [
            // No quotes, cut off while copying, in the wrong place, and a syntax error beside it.
            format!("{LEAST}enrol_token = {line}\n"),
            format!("{LEAST}enrol_token = \"{cut}\"\n"),
            format!("{LEAST}worker_threads = \"{line}\"\n"),
            format!("{LEAST}enrol_token = \"{line}\" x\n"),
            format!("{LEAST}\"{line}\" = 1\n"),
            format!("{LEAST}enrol_token = [\"{line}\"]\n"),
            format!("{LEAST}worker_threads = \"{}\"\n", line.replace("tgd1", "tgp1")),
        ];
        for text in cases {
            let error = Config::parse(&text, Path::new("agent.toml")).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&secret[..20]), "{shown}");
            assert!(shown.contains("line 4"), "{shown}");
        }
        let config = parse(&format!("{LEAST}enrol_token = \"{line}\"\n")).unwrap();
        assert_eq!(config.enrol_token, Some(invited("https://c:1")));
        assert!(!format!("{config:?}").contains("not for your eyes"));
    }
}
