//! A running controller: opens its folder, starts broker, session, planner and HTTPS, and ends them
//! in the opposite order.

mod embedded;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::Digest;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::embedded::Embedded;
use crate::api::{self, App};
use crate::authority::{Authority, AuthorityError, Presented, Shown, is_name};
use crate::blobs::Blobs;
use crate::broker::{Broker, BrokerError, Credential};
use crate::clock;
use crate::config::{BrokerConfig, ConfigError, ServeConfig, host_and_port};
use crate::data_dir::{DataDir, DataDirError, OpenDataDir};
use crate::door::{Certificate, Guests, HttpsDoor, Peer, server_config};
use crate::expiry::{Expiries, Expiry, Renewal};
use crate::external::External;
use crate::ingest::Ingest;
use crate::journal::JournalError;
use crate::ledger::Ledger;
use crate::link::{Link, Target};
use crate::planner::Planner;
use crate::rejections::Rejections;
use crate::release::{Lifetimes, ReleaseError, Releases};
use crate::telemetry::{DatabaseError, Telemetry};

/// Messages that wait for telemetry; more wait in the broker.
const INCOMING_MAX: usize = 4096;

/// How often the controller looks whether its own certificate is getting old.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(3600);

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
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The TLS library refuses the certificates.
    #[error("TLS cannot be set up with the certificates in ca/: {0}")]
    Tls(#[from] rustls::Error),
    /// An address is taken, or not this machine's.
    #[error("the {what} cannot listen on {address}: {source}")]
    Listen {
        /// Who wants to listen.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running controller. It ends with [`Server::stop`]; dropped, its tasks are cut off.
pub struct Server {
    http: SocketAddr,
    url: String,
    app: Arc<App>,
    broker: Option<Arc<Embedded>>,
    external: Option<SocketAddr>,
    link: Link,
    stopping: watch::Sender<bool>,
    http_task: Task,
    link_task: Task,
    ingest_task: Task,
    tick_task: Task,
    _certificate_task: Task,
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
        let limits = config.door;
        let guests = Guests::new(Arc::clone(&parts.ledger), limits.device_kib_per_second_max);
        let shown = Own::new(&config, Arc::clone(&parts.folder.authority), parts.expiries.clone())?;
        let https = shown.tls(Certificate::Welcome)?;
        let max = limits.https_connections_max;
        let https = HttpsDoor::open(config.http_listen, https, Arc::clone(&guests), max).await;
        let address = config.http_listen;
        let failed = |source| ServeError::Listen { what: "HTTPS API", address, source };
        let https = https.map_err(failed)?;
        let http = https.address();
        let Brokers { embedded, external, target } =
            Brokers::start(&config, &parts, &shown, &guests).await?;
        let address = match embedded {
            None => resolve(&target).await,
            Some(_) => None,
        };
        let url = config.public_url.clone().unwrap_or_else(|| url(http, &config.names));
        let (stopping, stop) = watch::channel(false);
        let (incoming, arrived) = mpsc::channel(INCOMING_MAX);
        let link = parts.link.clone();
        let link_task = Task::spawn(link.clone().run(target, parts.planner.clone(), incoming));
        let ingest_task = Task::spawn(Arc::clone(&parts.ingest).run(arrived));
        let planner = Arc::clone(&parts.planner);
        let tick_task = Task::spawn(tick(planner, config.plan_interval_ms, stop.clone()));
        let broker = embedded.clone();
        let others = external.map(|external| external.others()).unwrap_or_default();
        let (app, folder) = parts.app(&config, &url, broker.as_deref(), guests, others);
        app.write_revoked()?;
        folder.paths.refresh_pass(&url_here(http), app.authority.digest())?;
        let http_task = Task::spawn(serve(https, Arc::clone(&app), stop));
        Ok(Self {
            http,
            url,
            app,
            broker,
            external: address,
            link,
            stopping,
            http_task,
            link_task,
            ingest_task,
            tick_task,
            _certificate_task: Task::spawn(shown.renew()),
            _folder: folder,
        })
    }

    /// Where devices and operators find the HTTPS API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// SHA-256 of the certificate of the fleet's authority: how this controller is recognised.
    pub fn authority(&self) -> Digest {
        self.app.authority.digest()
    }

    #[cfg(test)]
    pub(crate) fn guests(&self) -> &Guests {
        &self.app.guests
    }

    #[cfg(test)]
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.app.ledger
    }

    /// Where the HTTPS API listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where devices find the broker. Of an external one whose name cannot be resolved now, port 0.
    pub fn broker_address(&self) -> SocketAddr {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        self.broker.as_ref().map_or(self.external.unwrap_or(unknown), |broker| broker.address())
    }

    /// Where the embedded broker itself listens, behind its door.
    #[cfg(test)]
    pub(crate) fn inner_broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(|embedded| embedded.broker.address())
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
    pub async fn start_broker(&self) -> Result<(), ServeError> {
        match &self.broker {
            Some(embedded) => embedded.restart().await,
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
    rejections: Arc<Rejections>,
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
        let rejections = Arc::new(Rejections::default());
        let ingest = Ingest::new(
            fleet.clone(),
            Arc::clone(&ledger),
            Arc::clone(&telemetry),
            link.clone(),
            Arc::clone(&rejections),
        );
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
            rejections,
            folder,
        })
    }

    fn app(
        self,
        config: &ServeConfig,
        url: &str,
        embedded: Option<&Embedded>,
        guests: Arc<Guests>,
        others: Vec<Vec<u8>>,
    ) -> (Arc<App>, OpenDataDir) {
        let told = match (&config.broker_public, &config.broker) {
            (Some(public), _) => api::Told::As(public.clone()),
            (None, BrokerConfig::External { address, .. }) => api::Told::As(address.clone()),
            (None, BrokerConfig::Embedded { .. }) => {
                let address = embedded.expect("it is embedded").address();
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
            blobs: self.blobs,
            broker: embedded.map(|embedded| Arc::clone(&embedded.broker)),
            connected: self.link.connected(),
            link: self.link,
            told,
            expiries: self.expiries,
            guests,
            authority: Arc::clone(&self.folder.authority),
            others,
            url: url.to_owned(),
            certificate_seconds: config.device_certificate.as_secs(),
            revoking: Default::default(),
            rejections: self.rejections,
            used: Default::default(),
        });
        (app, self.folder)
    }
}

/// The broker that is used, and how the controller's own session gets there.
struct Brokers {
    embedded: Option<Arc<Embedded>>,
    external: Option<Arc<External>>,
    target: Target,
}

impl Brokers {
    async fn start(
        config: &ServeConfig,
        parts: &Parts,
        own: &Own,
        guests: &Arc<Guests>,
    ) -> Result<Self, ServeError> {
        match &config.broker {
            BrokerConfig::Embedded { listen } => {
                let credential = Credential::internal();
                let folder = parts.paths.join("broker");
                let (fleet, ledger) = (parts.fleet.clone(), Arc::clone(&parts.ledger));
                let inside = Arc::clone(guests);
                let counts = Arc::clone(&parts.rejections);
                let broker =
                    Broker::start(&folder, fleet, ledger, inside, counts, &credential).await?;
                let broker = Arc::new(broker);
                let target = Target::Embedded(Arc::clone(&broker), credential);
                let tls = own.tls(Certificate::Demanded)?;
                let guests = Arc::clone(guests);
                let opened = Embedded::open(broker, *listen, tls, guests, config.door).await?;
                Ok(Self { embedded: Some(Arc::new(opened)), external: None, target })
            }
            BrokerConfig::External { address, authority_file } => {
                let (host, port) = host_and_port(address).expect("it was validated");
                let (authority, days) =
                    (Arc::clone(&own.authority), config.server_certificate_days);
                let external = External::new(authority, authority_file.as_deref(), days)?;
                let external = Arc::new(external);
                let target = Target::External { host, port, external: Arc::clone(&external) };
                Ok(Self { embedded: None, external: Some(external), target })
            }
        }
    }
}

/// The certificate that the controller shows.
struct Own {
    authority: Arc<Authority>,
    presented: Arc<Presented>,
    expiries: Expiries,
    names: Vec<String>,
    days: u32,
}

impl Own {
    fn new(
        config: &ServeConfig,
        authority: Arc<Authority>,
        expiries: Expiries,
    ) -> Result<Self, ServeError> {
        let mut listen = vec![config.http_listen];
        if let BrokerConfig::Embedded { listen: broker } = config.broker {
            listen.push(broker);
        }
        let names = config.all_names(&listen, machine_name());
        let days = config.server_certificate_days;
        let shown = authority.server(&names, clock::now(), days)?;
        let presented = Presented::new(&shown);
        let own = Self { authority, presented, expiries, names, days };
        own.watch(&shown);
        Ok(own)
    }

    /// Has people told when these expire.
    fn watch(&self, shown: &Shown) {
        let new = "remove ca/ before the next start, and let every device enrol anew";
        self.expiries.watch(Expiry {
            what: "certificate authority".to_owned(),
            version: None,
            expires: self.authority.expires(),
            renewal: Renewal::ByHand(new),
        });
        let lifetime_seconds = u64::from(self.days) * 24 * 3600;
        self.expiries.watch(Expiry {
            what: "server certificate".to_owned(),
            version: None,
            expires: shown.expires,
            renewal: Renewal::ByItself { lifetime_seconds },
        });
    }

    fn tls(&self, certificate: Certificate) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
        server_config(self.authority.roots(), Arc::clone(&self.presented), certificate)
    }

    /// Shows a new one whenever the old one is getting old.
    async fn renew(self) {
        let mut looks = tokio::time::interval(CERTIFICATE_LOOK);
        looks.tick().await;
        loop {
            looks.tick().await;
            match self.authority.server(&self.names, clock::now(), self.days) {
                Ok(shown) => {
                    self.presented.replace(&shown);
                    self.watch(&shown);
                }
                Err(error) => tracing::error!(%error, "the controller's certificate stays the old"),
            }
        }
    }
}

/// What the machine calls itself, if that can stand in a certificate.
fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_ascii_lowercase();
    is_name(&name).then_some(name)
}

/// The address of the HTTPS API for others: of what listens everywhere, by the first of the names that
/// it was given, or by the machine's own.
fn url(listen: SocketAddr, names: &[String]) -> String {
    if !listen.ip().is_unspecified() {
        return url_here(listen);
    }
    match names.first().cloned().or_else(machine_name) {
        Some(name) if name.contains(':') => format!("https://[{name}]:{}", listen.port()),
        Some(name) => format!("https://{name}:{}", listen.port()),
        None => url_here(listen),
    }
}

/// The address of the HTTPS API on this machine.
fn url_here(listen: SocketAddr) -> String {
    format!("https://{}", reachable(listen))
}

/// The address to connect to for one that was listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match (address.ip().is_unspecified(), address.is_ipv4()) {
        (true, true) => IpAddr::from([127, 0, 0, 1]),
        (true, false) => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        (false, _) => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}

async fn resolve(target: &Target) -> Option<SocketAddr> {
    let Target::External { host, port, .. } = target else { return None };
    let mut found = tokio::net::lookup_host((host.as_str(), *port)).await.ok()?;
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

async fn serve(listener: HttpsDoor, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let service = api::router(app).into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the HTTPS API ended");
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
