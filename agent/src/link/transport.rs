//! The connection under MQTT: TCP, and TLS on it. Done here and not by the MQTT client, so that
//! [`LastWord`] hears plaintext, and so that each connection shows the newest certificate.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rumqttc::NetworkOptions;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::farewell::{LastWord, Listened};
use super::mqtt::BadBroker;

/// Where the broker is, and how to connect.
#[derive(Debug, Clone)]
pub struct Door {
    /// The broker, `host:port`.
    pub broker: String,
    /// Whom to believe, and what to show.
    pub tls: Arc<ClientConfig>,
}

/// The door to use for the next connection; replaced when the device gets a new certificate.
#[derive(Debug, Clone)]
pub(super) struct CurrentDoor {
    door: Arc<Mutex<Door>>,
    changed: Arc<Notify>,
}

impl CurrentDoor {
    pub(super) fn new(door: Door) -> Self {
        Self { door: Arc::new(Mutex::new(door)), changed: Arc::default() }
    }

    pub(super) fn replace(&self, door: Door) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = door;
        self.changed.notify_one();
    }

    pub(super) fn get(&self) -> Door {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it was replaced, if that was not waited for before.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Connects to `address`, which is the door's, and listens to the last word.
    pub(super) async fn connect(
        self,
        address: String,
        network: NetworkOptions,
        last_word: LastWord,
    ) -> io::Result<Listened<TlsStream<TcpStream>>> {
        let Door { broker, tls } = self.get();
        let name = server_name(&broker).map_err(io::Error::other)?;
        let stream = rumqttc::default_socket_connect(address, network).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        Ok(last_word.listen(stream))
    }
}

/// The name that the broker's certificate must be for.
pub(super) fn server_name(broker: &str) -> Result<ServerName<'static>, BadBroker> {
    let (host, _) = split_address(broker)?;
    ServerName::try_from(host).map_err(|_| BadBroker(broker.to_string()))
}

/// `host:port`, the host perhaps an IPv6 address in brackets.
pub(super) fn split_address(address: &str) -> Result<(String, u16), BadBroker> {
    let bad = || BadBroker(address.to_string());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| bad())?;
    if host.is_empty() { Err(bad()) } else { Ok((host.to_string(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses() {
        assert_eq!(split_address("h.example:8883"), Ok(("h.example".to_string(), 8883)));
        assert_eq!(split_address("[::1]:8883"), Ok(("::1".to_string(), 8883)));
        assert!(matches!(server_name("[::1]:8883"), Ok(ServerName::IpAddress(_))));
        assert!(matches!(server_name("h.example:1"), Ok(ServerName::DnsName(_))));
        for bad in ["", "host", ":8883", "host:", "host:99999", "no name:1"] {
            assert_eq!(server_name(bad), Err(BadBroker(bad.to_string())), "{bad}");
        }
    }
}
