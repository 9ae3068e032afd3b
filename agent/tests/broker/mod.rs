//! A real broker on a loopback port, that can go away and forget.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::net::SocketAddr;
use std::time::Duration;

use mqtt5::broker::config::{BrokerConfig, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub struct Broker {
    pub address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// A broker that knows nothing yet. Port 0 chooses a free one.
    pub async fn start(listen: SocketAddr) -> Self {
        let probe = TcpListener::bind(listen).await.unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let folder = tempfile::tempdir().unwrap();
        let storage = StorageConfig::new().with_base_dir(folder.path().into());
        let config = BrokerConfig::new().with_bind_address(address).with_storage(storage);
        let mut broker = MqttBroker::with_config(config).await.unwrap();
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move { broker.run().await.unwrap() });
        within("the broker", ready.wait_for(|ready| *ready)).await.unwrap();
        Self { address, shutdown, task, _folder: folder }
    }

    pub async fn stop(self) {
        self.shutdown.shutdown();
        within("the broker's end", self.task).await.unwrap();
    }
}

pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}
