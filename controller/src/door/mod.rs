//! The front door: TLS towards the network, and who may come in.
//!
//! ```text
//! device ──TLS──▶ door (mqtt) ──loopback──▶ embedded broker     a client certificate is demanded
//! anybody ─TLS──▶ door (https) ───────────▶ HTTP API            a client certificate is welcome
//! ```
//!
//! The embedded broker hears nobody else: the door tells it which device is behind which of its own
//! loopback connections ([`Guests`]), and there are no passwords. Here everything is bounded that
//! somebody without a certificate could use up: handshakes by number and time, silence, connections
//! by address; and what a device with a certificate could: its sessions, and the bytes that it sends
//! a second. A device that is put out is cut off here, at once.

mod bucket;
mod crowd;
mod guests;
mod https;
mod listener;
mod mqtt;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use tidegate_wire::DeviceId;

pub use guests::{Guests, Turned};
pub use https::HttpsDoor;
pub use mqtt::MqttDoor;

use crate::authority::Presented;

/// Bounds of the front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Devices' sessions at a time.
    pub mqtt_connections_max: u32,
    /// HTTPS connections at a time.
    pub https_connections_max: u32,
    /// Kibibytes a second that one device may send over MQTT; it is slowed down beyond, nothing is
    /// lost. 0 is no limit.
    pub device_kib_per_second_max: u32,
}

impl Default for Limits {
    /// A session takes two connections of this process and one loopback port, of which the system
    /// has some 28,000. A device reports a few kibibytes a minute; at 256 a second the 64 MiB that it
    /// may have kept during an outage are here after four minutes.
    fn default() -> Self {
        Self {
            mqtt_connections_max: 20_000,
            https_connections_max: 4_096,
            device_kib_per_second_max: 256,
        }
    }
}

/// What a client must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// A certificate that the authority signed.
    Demanded,
    /// Such a certificate, or none.
    Welcome,
}

/// TLS of a server that shows `presented`.
///
/// # Errors
/// If the TLS library refuses the authority's certificate.
pub fn server_config(
    roots: Arc<RootCertStore>,
    presented: Arc<Presented>,
    certificate: Certificate,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let verifier = match certificate {
        Certificate::Demanded => verifier,
        Certificate::Welcome => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(presented);
    Ok(Arc::new(config))
}

/// Who is at the other end of an HTTPS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// Whose certificate was shown, if one was.
    pub shown: Option<ShownCertificate>,
}

/// Names a certificate that the authority signed. Whether it still counts stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Whose it is.
    pub device: DeviceId,
    /// Its serial number.
    pub serial: Vec<u8>,
}
