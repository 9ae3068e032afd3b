//! The embedded broker behind its door, which come and go together.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::Mutex;

use super::ServeError;
use crate::broker::Broker;
use crate::door::{Guests, Limits, MqttDoor};

/// The broker and the door in front of it.
pub(super) struct Embedded {
    pub(super) broker: Arc<Broker>,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    guests: Arc<Guests>,
    limits: Limits,
    door: Mutex<Option<MqttDoor>>,
}

impl Embedded {
    /// Opens the door of a broker that runs.
    pub(super) async fn open(
        broker: Arc<Broker>,
        listen: SocketAddr,
        config: Arc<ServerConfig>,
        guests: Arc<Guests>,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let door = Mutex::new(None);
        let mut closed = Self { broker, address: listen, config, guests, limits, door };
        let opened = closed.door().await?;
        // With port 0 a free one was chosen; it is kept.
        closed.address = opened.address();
        *closed.door.get_mut() = Some(opened);
        Ok(closed)
    }

    async fn door(&self) -> Result<MqttDoor, ServeError> {
        let (config, guests) = (Arc::clone(&self.config), Arc::clone(&self.guests));
        let broker = Arc::clone(&self.broker);
        let max = self.limits.mqtt_connections_max;
        let opened = MqttDoor::open(self.address, config, guests, broker, max).await;
        let address = self.address;
        opened.map_err(|source| ServeError::Listen { what: "broker", address, source })
    }

    /// Where devices find it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Both go away, as a network that does. Does nothing if they have.
    pub(super) async fn stop(&self) {
        if let Some(door) = self.door.lock().await.take() {
            door.close().await;
        }
        self.broker.stop().await;
    }

    /// Both come back, on the same port.
    pub(super) async fn restart(&self) -> Result<(), ServeError> {
        self.broker.restart().await?;
        let mut door = self.door.lock().await;
        if door.is_none() {
            *door = Some(self.door().await?);
        }
        Ok(())
    }
}
