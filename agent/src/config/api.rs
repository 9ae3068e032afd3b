//! The local API, by which applications on the device get answers.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Where the local API listens, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens; `"off"` is none. With port 0 the system chooses; `<data_dir>/api-address`
    /// has the result.
    #[serde(deserialize_with = "address_or_off")]
    pub listen: Option<SocketAddr>,
    /// A Unix socket at which it answers, too.
    pub unix_socket: Option<PathBuf>,
    /// Who may use the socket, as the permission bits of a file.
    pub unix_mode: u32,
    /// Where gRPC listens; none if it does not. Needs a build with the feature `grpc`.
    pub grpc: Option<SocketAddr>,
    /// Kibibytes that a request may have, unpacked.
    pub body_kib_max: u32,
}

impl Default for ApiConfig {
    /// 16 MiB of body: a 224×224 RGB image in JSON is at most 2 MiB.
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8470))),
            unix_socket: None,
            unix_mode: 0o660,
            grpc: None,
            body_kib_max: 16 * 1024,
        }
    }
}

impl ApiConfig {
    /// Bytes that a request may have, unpacked.
    pub fn body_bytes_max(&self) -> usize {
        usize::try_from(self.body_kib_max).unwrap_or(usize::MAX).saturating_mul(1024)
    }

    /// Keys with values that cannot be, and why they cannot.
    pub(super) fn problems(&self) -> [(bool, &'static str, &'static str); 5] {
        let nowhere = self.listen.is_none() && self.unix_socket.is_none();
        let relative = self.unix_socket.as_ref().is_some_and(|path| !path.is_absolute());
        let no_grpc = self.grpc.is_some() && !cfg!(feature = "grpc");
        let kib = 1..=1024 * 1024;
        [
            (nowhere, "api.listen", "is off: give `api.unix_socket`, or nobody could ask"),
            (relative, "api.unix_socket", "must be a path that begins with /"),
            (self.unix_mode > 0o777, "api.unix_mode", "must be permissions as in 0o660"),
            (no_grpc, "api.grpc", "needs an agent that was built with the feature `grpc`"),
            (!kib.contains(&self.body_kib_max), "api.body_kib_max", "must be 1 to 1048576"),
        ]
    }
}

fn address_or_off<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format_args!("{text:?} is no address as in 127.0.0.1:8470, nor \"off\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_can_be_off_and_an_address_must_be_one() {
        let off: ApiConfig = toml::from_str("listen = \"off\"\nunix_mode = 0o600").unwrap();
        assert_eq!((off.listen, off.unix_mode), (None, 0o600));
        let wrong = toml::from_str::<ApiConfig>("listen = \"localhost\"").unwrap_err().to_string();
        assert!(wrong.contains("\"localhost\" is no address"), "{wrong}");
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let good = ApiConfig::default();
        let wrong = [
            ("api.listen", ApiConfig { listen: None, ..good.clone() }),
            ("api.unix_socket", ApiConfig { unix_socket: Some("x".into()), ..good.clone() }),
            ("api.unix_mode", ApiConfig { unix_mode: 0o1000, ..good.clone() }),
            ("api.body_kib_max", ApiConfig { body_kib_max: 0, ..good.clone() }),
        ];
        assert!(good.problems().iter().all(|(wrong, ..)| !wrong));
        for (key, config) in wrong {
            let named: Vec<_> =
                config.problems().into_iter().filter(|(wrong, ..)| *wrong).collect();
            assert_eq!((named.len(), named[0].1), (1, key));
        }
        let grpc = ApiConfig { grpc: "127.0.0.1:1".parse().ok(), ..good };
        let refused = grpc.problems().iter().any(|(wrong, ..)| *wrong);
        assert_eq!(refused, !cfg!(feature = "grpc"));
    }
}
