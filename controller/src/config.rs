//! Configuration of `tidegate serve`: one TOML file. `tidegate.example.toml` documents every key.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::door::Limits;

/// How a controller serves.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// The folder that `tidegate trust init` founded.
    pub data_dir: PathBuf,
    /// Where the HTTPS API listens.
    #[serde(default = "default_http")]
    pub http_listen: SocketAddr,
    /// Names and addresses of this machine, as devices and operators use them, beyond those that it
    /// knows by itself: they stand in its certificate.
    #[serde(default)]
    pub names: Vec<String>,
    /// Where devices and operators find the HTTPS API, `https://host:port`. By default it is where it
    /// listens; if that is everywhere, the first of `names`, or the machine's own name.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Which broker is used.
    #[serde(default)]
    pub broker: BrokerConfig,
    /// What devices are told as the broker's `host:port`, if it is not what the controller uses.
    #[serde(default)]
    pub broker_public: Option<String>,
    /// Milliseconds between two looks at every rollout.
    #[serde(default = "default_plan_interval")]
    pub plan_interval_ms: u64,
    /// The most bytes of one uploaded file.
    #[serde(default = "default_blob_bytes")]
    pub blob_bytes_max: u64,
    /// Seconds for which a signed timestamp is good; it is signed anew at half of it.
    #[serde(default = "default_timestamp")]
    pub timestamp_seconds: u64,
    /// Seconds for which a signed snapshot is good; it is signed anew at half of it.
    #[serde(default = "default_snapshot")]
    pub snapshot_seconds: u64,
    /// How long a device's certificate is good, whole days; the device renews it by itself.
    #[serde(
        default = "default_device_certificate",
        rename = "device_certificate_days",
        deserialize_with = "days"
    )]
    pub device_certificate: Duration,
    /// Days for which the controller's own certificate is good; it is made anew at half of it.
    #[serde(default = "default_server_certificate")]
    pub server_certificate_days: u32,
    /// Bounds of what the network may use up.
    #[serde(default)]
    pub door: Limits,
}

/// Which broker is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BrokerConfig {
    /// The one inside the controller.
    Embedded {
        /// Where it listens for MQTT over TLS.
        listen: SocketAddr,
    },
    /// Any MQTT 5 broker, over TLS; the controller shows it the certificate in `ca/controller.pem`.
    External {
        /// Its `host:port`.
        address: String,
        /// Certificates (PEM) of the authority that the broker's own certificate comes from, if it
        /// is not the fleet's.
        #[serde(default)]
        authority_file: Option<PathBuf>,
    },
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has an unknown key.
    #[error("the configuration {path} is refused: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Names line and key.
        source: Box<toml::de::Error>,
    },
    /// A value is outside its range.
    #[error("{key} = {value}: {expected}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl ServeConfig {
    /// A configuration with the defaults for everything else.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        http_listen: SocketAddr,
        broker: BrokerConfig,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            http_listen,
            broker,
            names: Vec::new(),
            public_url: None,
            broker_public: None,
            plan_interval_ms: default_plan_interval(),
            blob_bytes_max: default_blob_bytes(),
            timestamp_seconds: default_timestamp(),
            snapshot_seconds: default_snapshot(),
            device_certificate: default_device_certificate(),
            server_certificate_days: default_server_certificate(),
            door: Limits::default(),
        }
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Toml { path: path.into(), source: Box::new(source) })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Range`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |key, value: String, expected| ConfigError::Range { key, value, expected };
        let numbers = [
            ("plan_interval_ms", self.plan_interval_ms, 20, "20 milliseconds or more"),
            ("blob_bytes_max", self.blob_bytes_max, 1, "at least one byte"),
            ("timestamp_seconds", self.timestamp_seconds, 60, "a minute or more"),
            ("snapshot_seconds", self.snapshot_seconds, 60, "a minute or more"),
            ("device_certificate_days", self.device_certificate.as_secs(), 1, "a day or more"),
            ("server_certificate_days", self.server_certificate_days.into(), 1, "a day or more"),
            ("door.mqtt_connections_max", self.door.mqtt_connections_max.into(), 1, "at least one"),
            (
                "door.https_connections_max",
                self.door.https_connections_max.into(),
                8,
                "eight or more",
            ),
        ];
        if let Some((key, value, _, expected)) =
            numbers.iter().find(|(_, value, min, _)| value < min)
        {
            return Err(range(key, value.to_string(), expected));
        }
        let external = match &self.broker {
            BrokerConfig::External { address, .. } => Some(("broker.external.address", address)),
            BrokerConfig::Embedded { .. } => None,
        };
        let public = self.broker_public.as_ref().map(|address| ("broker_public", address));
        for (key, address) in external.into_iter().chain(public) {
            if host_and_port(address).is_none() {
                return Err(range(key, format!("{address:?}"), "host:port"));
            }
        }
        if let Some(url) = &self.public_url
            && host_of(url).is_none()
        {
            return Err(range("public_url", format!("{url:?}"), "https://host:port"));
        }
        Ok(())
    }

    /// Everything that the controller is called: what stands in its certificate. `listen` is where it
    /// listens, and `machine` the machine's name.
    pub(crate) fn all_names(&self, listen: &[SocketAddr], machine: Option<String>) -> Vec<String> {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(Into::into).into();
        let addresses = listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        names.extend(addresses.map(|ip: IpAddr| ip.to_string()));
        names.extend(machine);
        names.extend(self.public_url.as_deref().and_then(host_of));
        let public = self.broker_public.as_deref().and_then(host_and_port);
        names.extend(public.map(|(host, _)| host));
        names.extend(self.names.iter().cloned());
        names
    }
}

impl BrokerConfig {
    /// A broker elsewhere whose certificate comes from the fleet's own authority.
    pub fn external(address: impl Into<String>) -> Self {
        Self::External { address: address.into(), authority_file: None }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::Embedded { listen: ([127, 0, 0, 1], 8883).into() }
    }
}

/// Splits `host:port`; an IPv6 address stands in brackets.
pub(crate) fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let named = !host.is_empty() && !host.contains([' ', '/']);
    Some((host.to_owned(), port.parse().ok()?)).filter(|(_, port)| named && *port > 0)
}

/// The host of an `https://` address.
fn host_of(url: &str) -> Option<String> {
    let parsed = reqwest::Url::parse(url).ok().filter(|parsed| parsed.scheme() == "https")?;
    let host = parsed.host_str()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_secs(u64::from(u32::deserialize(deserializer)?) * 24 * 3600))
}

/// Only this machine, until an operator decides otherwise.
fn default_http() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

/// A second: waves take minutes, and a plan for ten thousand devices takes milliseconds.
fn default_plan_interval() -> u64 {
    1000
}

/// 2 GiB: larger than any model that a device of this kind runs.
fn default_blob_bytes() -> u64 {
    2 << 30
}

/// A day: a mirror that is frozen is noticed after a day at most.
fn default_timestamp() -> u64 {
    24 * 3600
}

/// Ninety days: a device that was stolen unnoticed is out after that, and one that renews when a third
/// is left may be away for a month.
fn default_device_certificate() -> Duration {
    Duration::from_secs(90 * 24 * 3600)
}

/// A year: it is made anew after half of it, also while the controller runs.
fn default_server_certificate() -> u32 {
    365
}

/// A week.
fn default_snapshot() -> u64 {
    7 * 24 * 3600
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServeConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidegate.toml");
        std::fs::write(&path, text).unwrap();
        ServeConfig::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = parse(include_str!("../tidegate.example.toml")).unwrap();
        let expected =
            ServeConfig::new("/var/lib/tidegate", default_http(), BrokerConfig::default());
        assert_eq!(example, expected);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        assert!(parse("data_dir = 'x'\nhttp_lisen = '[::]:1'").unwrap_err().contains("http_lisen"));
        assert!(parse("").unwrap_err().contains("data_dir"));
        let error = parse("data_dir = 'x'\nplan_interval_ms = 0").unwrap_err();
        assert!(error.contains("plan_interval_ms = 0"), "{error}");
        let error = parse("data_dir = 'x'\n[broker.external]\naddress = 'mqtt'").unwrap_err();
        assert!(error.contains("broker.external.address"), "{error}");
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert_eq!(host_and_port("mqtt.plant:1883"), Some(("mqtt.plant".into(), 1883)));
        assert_eq!(host_and_port("[::1]:1883"), Some(("::1".into(), 1883)));
        for address in ["", "mqtt", ":1883", "mqtt:", "mqtt:0", "mqtt:99999", "http://mqtt:1"] {
            assert_eq!(host_and_port(address), None, "{address}");
        }
    }
}
