//! A running controller: opens its folder, starts broker, session, planner and HTTP, and ends them
//! in the opposite order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::{self, App};
use crate::blobs::Blobs;
use crate::broker::{Broker, BrokerError, Credential};
use crate::config::{BrokerConfig, ConfigError, ServeConfig, host_and_port};
use crate::data_dir::{DataDir, DataDirError, OpenDataDir};
use crate::expiry::Expiries;
use crate::ingest::Ingest;
use crate::journal::JournalError;
use crate::link::{Link, Target};
use crate::planner::Planner;
use crate::release::{Lifetimes, ReleaseError, Releases};
use crate::state::Ledger;
use crate::telemetry::{DatabaseError, Telemetry};

/// Messages that wait for telemetry; more wait in the broker.
const INCOMING_MAX: usize = 4096;

/// How long requests under way may still take when the controller stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The release metadata is damaged.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Telemetry cannot be stored.
    #[error(transparent)]
    Telemetry(#[from] DatabaseError),
    /// The blobs cannot be read.
    #[error("the blobs cannot be read: {0}")]
    Blobs(io::Error),
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The HTTP address is taken.
    #[error("the HTTP API cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running controller. It ends with [`Server::stop`]; dropped, its tasks are cut off.
pub struct Server {
    http: SocketAddr,
    broker: Option<Arc<Broker>>,
    external: Option<SocketAddr>,
    link: Link,
    stopping: watch::Sender<bool>,
    http_task: Task,
    link_task: Task,
    ingest_task: Task,
    tick_task: Task,
    // Last, so that nobody else takes the folder while something runs in it.
    _folder: OpenDataDir,
}

impl Server {
    /// Starts a controller.
    ///
    /// # Errors
    /// [`ServeError`] says what to do; nothing runs then.
    pub async fn start(config: ServeConfig) -> Result<Self, ServeError> {
        config.validate()?;
        // Whoever embeds the controller may have installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parts = Parts::open(&config)?;
        let credential = Credential::internal();
        let (broker, target) = match &config.broker {
            BrokerConfig::Embedded { listen } => {
                let folder = parts.paths.join("broker");
                let (fleet, ledger) = (parts.fleet.clone(), Arc::clone(&parts.ledger));
                let broker = Broker::start(*listen, &folder, fleet, ledger, &credential).await?;
                let (host, port) = reachable(broker.address());
                (Some(Arc::new(broker)), Target { host, port, credential: Some(credential) })
            }
            BrokerConfig::External { address, username, password } => {
                let (host, port) = host_and_port(address).expect("it was validated");
                let password = password.clone().unwrap_or_default();
                let credential = username.clone().map(|username| Credential { username, password });
                (None, Target { host, port, credential })
            }
        };
        let external = match broker {
            None => resolve(&target).await,
            Some(_) => None,
        };
        let listener = TcpListener::bind(config.http_listen).await;
        let address = config.http_listen;
        let failed = |source| ServeError::Listen { address, source };
        let listener = listener.map_err(failed)?;
        let http = listener.local_addr().map_err(failed)?;
        let (stopping, stop) = watch::channel(false);
        let (incoming, arrived) = mpsc::channel(INCOMING_MAX);
        let link = parts.link.clone();
        let link_task = Task::spawn(link.clone().run(target, parts.planner.clone(), incoming));
        let ingest_task = Task::spawn(Arc::clone(&parts.ingest).run(arrived));
        let planner = Arc::clone(&parts.planner);
        let tick_task = Task::spawn(tick(planner, config.plan_interval_ms, stop.clone()));
        let (app, _folder) = parts.app(&config, broker.clone());
        let http_task = Task::spawn(serve(listener, app, stop));
        Ok(Self {
            http,
            broker,
            external,
            link,
            stopping,
            http_task,
            link_task,
            ingest_task,
            tick_task,
            _folder,
        })
    }

    /// Where the HTTP API listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where the broker is. Of an external one whose name cannot be resolved now, port 0.
    pub fn broker_address(&self) -> SocketAddr {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        self.broker.as_ref().map_or(self.external.unwrap_or(unknown), |broker| broker.address())
    }

    /// Waits until the controller's own session at the broker is up.
    pub async fn connected(&self) {
        // The sender lives in our own link.
        let _ = self.link.connected().wait_for(|connected| *connected).await;
    }

    /// Stops the embedded broker, as a network that goes away. An external one is not ours to stop.
    pub async fn stop_broker(&self) {
        if let Some(broker) = &self.broker {
            broker.stop().await;
        }
    }

    /// Starts the embedded broker again, on the same port and with the same files.
    ///
    /// # Errors
    /// If another program has taken the port meanwhile.
    pub async fn start_broker(&self) -> Result<(), BrokerError> {
        match &self.broker {
            Some(broker) => broker.restart().await,
            None => Ok(()),
        }
    }

    /// Ends the controller: no new requests, then the planner, the session and the broker.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        self.http_task.end(DRAIN).await;
        self.tick_task.end(DRAIN).await;
        self.link_task.cut().await;
        // With the link its source is gone, so it ends after what has arrived.
        self.ingest_task.end(DRAIN).await;
        if let Some(broker) = &self.broker {
            broker.stop().await;
        }
    }
}

/// Everything that is opened before anything runs.
struct Parts {
    paths: DataDir,
    fleet: tidegate_wire::FleetId,
    ledger: Arc<Ledger>,
    telemetry: Arc<Telemetry>,
    releases: Arc<Releases>,
    planner: Arc<Planner>,
    ingest: Arc<Ingest>,
    blobs: Blobs,
    link: Link,
    expiries: Expiries,
    folder: OpenDataDir,
}

impl Parts {
    fn open(config: &ServeConfig) -> Result<Self, ServeError> {
        let folder = DataDir::new(&config.data_dir).open()?;
        let (paths, fleet) = (folder.paths.clone(), folder.fleet.clone());
        let ledger = Arc::new(Ledger::open(&paths.join("journal"))?);
        let telemetry = Arc::new(Telemetry::open(&paths.join("telemetry"))?);
        let blobs = Blobs::open(&paths.join("blobs"), config.blob_bytes_max);
        let blobs = blobs.map_err(ServeError::Blobs)?;
        let lifetimes = Lifetimes {
            snapshot_seconds: config.snapshot_seconds,
            timestamp_seconds: config.timestamp_seconds,
        };
        let journal = Arc::clone(&ledger);
        let releases = Releases::open(&paths, blobs.clone(), lifetimes, journal)?;
        let (releases, link) = (Arc::new(releases), Link::new(fleet.clone()));
        let expiries = Expiries::default();
        let planner = Arc::new(Planner::new(
            fleet.clone(),
            Arc::clone(&ledger),
            Arc::clone(&telemetry),
            Arc::clone(&releases),
            link.clone(),
            expiries.clone(),
        ));
        let (journal, stored) = (Arc::clone(&ledger), Arc::clone(&telemetry));
        let ingest = Ingest::new(fleet.clone(), journal, stored, link.clone());
        Ok(Self {
            paths,
            fleet,
            ledger,
            telemetry,
            releases,
            planner,
            ingest,
            blobs,
            link,
            expiries,
            folder,
        })
    }

    fn app(self, config: &ServeConfig, broker: Option<Arc<Broker>>) -> (Arc<App>, OpenDataDir) {
        let told = match (&config.broker_public, &config.broker) {
            (Some(public), _) => api::Told::As(public.clone()),
            (None, BrokerConfig::External { address, .. }) => api::Told::As(address.clone()),
            (None, BrokerConfig::Embedded { .. }) => {
                let address = broker.as_ref().expect("it is embedded").address();
                match address.ip().is_unspecified() {
                    true => api::Told::SameHost(address.port()),
                    false => api::Told::As(address.to_string()),
                }
            }
        };
        let app = Arc::new(App {
            fleet: self.fleet,
            ledger: self.ledger,
            telemetry: self.telemetry,
            releases: self.releases,
            planner: self.planner,
            ingest: self.ingest,
            blobs: self.blobs,
            broker,
            connected: self.link.connected(),
            link: self.link,
            told,
            expiries: self.expiries,
            passwords: Arc::clone(&self.folder.passwords),
        });
        (app, self.folder)
    }
}

/// The address to connect to for one that was listened on.
fn reachable(address: SocketAddr) -> (String, u16) {
    let host = match (address.ip().is_unspecified(), address.is_ipv4()) {
        (true, true) => "127.0.0.1".to_owned(),
        (true, false) => "::1".to_owned(),
        (false, _) => address.ip().to_string(),
    };
    (host, address.port())
}

async fn resolve(target: &Target) -> Option<SocketAddr> {
    let mut found = tokio::net::lookup_host((target.host.as_str(), target.port)).await.ok()?;
    found.next()
}

async fn tick(planner: Arc<Planner>, interval_ms: u64, mut stop: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(Duration::from_millis(interval_ms));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let planner = Arc::clone(&planner);
        if tokio::task::spawn_blocking(move || planner.tick()).await.is_err() {
            tracing::error!("planning panicked; the next tick tries again");
        }
    }
}

async fn serve(listener: TcpListener, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served = axum::serve(listener, api::router(app)).with_graceful_shutdown(stopped).await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP API ended");
    }
}

/// A task that is cut off when nobody holds it any more.
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Waits until it ends by itself, for so long at most.
    async fn end(mut self, patience: Duration) {
        if tokio::time::timeout(patience, &mut self.0).await.is_err() {
            self.cut().await;
        }
    }

    async fn cut(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
