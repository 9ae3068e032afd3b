//! The embedded MQTT broker: the crate `mqtt5` with our rules of who may do what.
//!
//! It listens on the loopback interface only, and admits whom the front door ([`crate::door`]) has
//! recognised: a device's user name and client id must be the id in the certificate that it showed
//! there. A device may publish and subscribe to its own topics only. The controller's own session
//! has a credential that is drawn at the start and never leaves the process. Retained messages and
//! sessions lie in files and survive a restart.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::{BrokerConfig, StorageConfig};
use mqtt5::broker::resource_monitor::ResourceLimits;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::{BrokerShutdownHandle, DynamicStorage, MqttBroker, StorageBackend};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use mqtt5::time::Duration as BrokerDuration;
use tidegate_wire::envelope::Message;
use tidegate_wire::report::Report;
use tidegate_wire::topic::{controller_subscriptions, device_publications, device_subscriptions};
use tidegate_wire::{DeviceId, Digest, FleetId};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::clock;
use crate::door::Guests;
use crate::ledger::Ledger;
use crate::rejections::{Rejection, Rejections};

/// The user name and client id of the controller's own session. No device id may be this, since
/// those start with a letter or digit.
pub const CONTROLLER: &str = "-controller";

/// Messages that may be under way to one client. Devices get few; the controller gets every
/// report, and at 64, the broker's default, it waits for acknowledgements.
const INFLIGHT_MAX: u16 = 1024;

/// Sessions at a time. The broker's own default, 10,000, would keep the controller out of a fleet of
/// that size; what really bounds them is the number of files that the process may open.
const SESSIONS_MAX: usize = 1_000_000;

/// A device may be away for a week and still get its acknowledgements.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Shutting down takes at most 5 s in `mqtt5`; this is for what it does not bound.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Where it listens: a free port that only this machine reaches.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// There is no free port.
    #[error("the embedded broker cannot listen on this machine's loopback interface: {0}")]
    Listen(io::Error),
    /// The broker itself failed.
    #[error("the embedded broker failed: {0}")]
    Failed(String),
}

/// What the controller's own session logs in with.
#[derive(Clone)]
pub struct Credential {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl Credential {
    /// One that nobody else knows.
    pub fn internal() -> Self {
        Self { username: CONTROLLER.into(), password: clock::secret().bearer() }
    }
}

/// An embedded broker that can be stopped and started again.
pub struct Broker {
    address: RwLock<SocketAddr>,
    folder: PathBuf,
    rules: Arc<Rules>,
    running: Mutex<Option<Running>>,
}

struct Running {
    shutdown: BrokerShutdownHandle,
    router: Arc<MessageRouter>,
    storage: Option<Arc<DynamicStorage>>,
    task: JoinHandle<()>,
}

impl Broker {
    /// Starts a broker that keeps its files in `folder`.
    ///
    /// # Errors
    /// [`BrokerError`] says what is wrong.
    pub async fn start(
        folder: &Path,
        fleet: FleetId,
        ledger: Arc<Ledger>,
        guests: Arc<Guests>,
        rejections: Arc<Rejections>,
        credential: &Credential,
    ) -> Result<Self, BrokerError> {
        let controller = Digest::of(credential.password.as_bytes());
        let rules = Arc::new(Rules { fleet, ledger, guests, rejections, controller });
        let (address, running) = launch(folder, &rules).await?;
        let (address, running) = (RwLock::new(address), Mutex::new(Some(running)));
        Ok(Self { address, folder: folder.into(), rules, running })
    }

    /// Where it listens now, on the loopback interface; every restart takes another port.
    pub fn address(&self) -> SocketAddr {
        *self.address.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every session, as a network that goes away. Does nothing if it is stopped.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        if let Some(Running { shutdown, task, .. }) = running.take() {
            shutdown.shutdown();
            let abort = task.abort_handle();
            if tokio::time::timeout(STOP_TIMEOUT, task).await.is_err() {
                tracing::warn!("the embedded broker did not stop in time and was cut off");
                abort.abort();
            }
        }
    }

    /// Ends a device's session and forgets what was kept for it: subscriptions and queued messages.
    ///
    /// To be called once the device is out, so that it cannot come back.
    ///
    /// # Errors
    /// If the session's file cannot be removed. The connection has ended all the same.
    pub async fn evict(&self, device: &DeviceId) -> Result<(), BrokerError> {
        let running = self.running.lock().await;
        let Some(Running { router, storage, .. }) = &*running else { return Ok(()) };
        // The connection sees that its entry is gone, and closes.
        router.unregister_client(device.as_str()).await;
        let Some(storage) = storage else { return Ok(()) };
        let failed = |error: mqtt5::error::MqttError| {
            BrokerError::Failed(format!("the session of {device} cannot be removed: {error}"))
        };
        storage.remove_session(device.as_str()).await.map_err(failed)?;
        storage.remove_queued_messages(device.as_str()).await.map_err(failed)
    }

    /// Starts again with the same files. Does nothing if it runs.
    ///
    /// # Errors
    /// [`BrokerError`] says what is wrong.
    pub async fn restart(&self) -> Result<(), BrokerError> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            let (address, launched) = launch(&self.folder, &self.rules).await?;
            *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
            *running = Some(launched);
        }
        Ok(())
    }
}

async fn launch(folder: &Path, rules: &Arc<Rules>) -> Result<(SocketAddr, Running), BrokerError> {
    // Its own error does not say why an address cannot be bound.
    let probe = tokio::net::TcpListener::bind(SocketAddr::from(LISTEN)).await;
    let address = probe.map_err(BrokerError::Listen)?.local_addr().map_err(BrokerError::Listen)?;
    let broker = MqttBroker::with_config(config(address, folder)).await;
    let mut broker = broker
        .map_err(|error| BrokerError::Failed(error.to_string()))?
        .with_auth_provider(Arc::clone(rules) as Arc<dyn AuthProvider>);
    // All sessions come from this machine's address, by way of the door, which has limits of its own.
    broker.resource_monitor().update_limits(unlimited());
    let shutdown = broker.shutdown_handle();
    let (router, storage) = (broker.router(), broker.storage());
    let mut ready = broker.ready_receiver();
    let (ended, mut end) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        if let Err(error) = broker.run().await {
            tracing::error!(%error, "the embedded broker ended");
            let _ = ended.send(error.to_string());
        }
    });
    tokio::select! {
        ready = ready.wait_for(|ready| *ready) => match ready {
            Ok(_) => {}
            Err(_) => return Err(BrokerError::Failed("it ended at once".into())),
        },
        Ok(what) = &mut end => return Err(BrokerError::Failed(what)),
    }
    Ok((address, Running { shutdown, router, storage, task }))
}

fn unlimited() -> ResourceLimits {
    ResourceLimits {
        max_connections: SESSIONS_MAX,
        max_connections_per_ip: SESSIONS_MAX,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        rate_limit_window: BrokerDuration::from_secs(1),
    }
}

fn config(address: SocketAddr, folder: &Path) -> BrokerConfig {
    let storage = StorageConfig::new().with_base_dir(folder.into());
    BrokerConfig::new()
        .with_bind_address(address)
        .with_storage(storage)
        .with_max_clients(SESSIONS_MAX)
        .with_session_expiry(BrokerDuration::from_secs(SESSION_EXPIRY.as_secs()))
        .with_max_packet_size(Report::SIZE_MAX + 1024)
        .with_max_outbound_inflight(INFLIGHT_MAX)
        .with_max_subscriptions_per_client(8)
        .with_maximum_qos(1)
        .with_sys_topics_enabled(false)
}

/// Who may do what.
struct Rules {
    fleet: FleetId,
    ledger: Arc<Ledger>,
    guests: Arc<Guests>,
    rejections: Arc<Rejections>,
    /// SHA-256 of the controller's password.
    controller: Digest,
}

impl Rules {
    fn admits(&self, connect: &ConnectPacket, client: SocketAddr) -> Result<(), ReasonCode> {
        let Some(user) = &connect.username else {
            return Err(ReasonCode::BadUsernameOrPassword);
        };
        if connect.client_id != *user {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        let known = match user.as_str() {
            CONTROLLER => self.is_controller(connect),
            device => self.guests.device_at(&client).is_some_and(|it| it.as_str() == device),
        };
        known.then_some(()).ok_or(ReasonCode::BadUsernameOrPassword)
    }

    fn is_controller(&self, connect: &ConnectPacket) -> bool {
        let password = connect.password.as_deref().map(Digest::of);
        password.is_some_and(|password| same(&self.controller, &password))
    }

    fn may_publish(&self, user: Option<&str>, topic: &str) -> Verdict {
        match user {
            Some(CONTROLLER) => Verdict::Allowed,
            user => {
                let own = |device: &DeviceId| device_publications(&self.fleet, device).to_vec();
                self.own(user, topic, own, Rejection::Publish)
            }
        }
    }

    fn may_subscribe(&self, user: Option<&str>, filter: &str) -> Verdict {
        match user {
            Some(CONTROLLER) => {
                let own = controller_subscriptions(&self.fleet);
                Verdict::of(own.iter().any(|own| own == filter))
            }
            user => {
                let own = |device: &DeviceId| device_subscriptions(&self.fleet, device).to_vec();
                self.own(user, filter, own, Rejection::Subscribe)
            }
        }
    }

    /// Whether a topic or filter is one of an enrolled device's own; counted if it is not.
    fn own(
        &self,
        user: Option<&str>,
        topic: &str,
        own: impl Fn(&DeviceId) -> Vec<String>,
        rejection: Rejection,
    ) -> Verdict {
        let device: Option<DeviceId> = user.and_then(|user| user.parse().ok());
        let device = device.filter(|id| self.ledger.state().devices.contains_key(id));
        match device {
            Some(device) if own(&device).iter().any(|own| own == topic) => return Verdict::Allowed,
            Some(device) => self.rejections.count_of(&device, rejection),
            None => self.rejections.count(rejection),
        }
        tracing::debug!(user, topic, "the broker refused a topic");
        Verdict::Refused
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Allowed,
    Refused,
}

impl Verdict {
    fn of(allowed: bool) -> Self {
        if allowed { Self::Allowed } else { Self::Refused }
    }

    fn answer(self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(std::future::ready(matches!(self, Self::Allowed)))
    }
}

/// Compares digests in a time that does not depend on where they differ.
pub fn same(a: &Digest, b: &Digest) -> bool {
    a.0.iter().zip(&b.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

impl AuthProvider for Rules {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        client: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::error::Result<AuthResult>> + Send + 'a>> {
        let result = match self.admits(connect, client) {
            Ok(()) => AuthResult::success_with_user(connect.client_id.clone()),
            Err(code) => {
                self.rejections.count(match code {
                    ReasonCode::ClientIdentifierNotValid => Rejection::Identity,
                    _ => Rejection::Credentials,
                });
                let id: String = connect.client_id.chars().take(64).collect();
                tracing::info!(id, ?code, "the broker turned a client away");
                AuthResult::fail(code)
            }
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        self.may_publish(user, topic).answer()
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        self.may_subscribe(user, filter).answer()
    }
}
