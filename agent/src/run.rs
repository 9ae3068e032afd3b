//! Puts the rooms together: from a configuration to a running agent, and back down.

use std::sync::Arc;
use std::time::Duration;

use tidegate_device::spool::{Sender, SpoolLimits};
use tidegate_disk::DiskError;
use tidegate_trust::trusted::Recovered;
use tidegate_trust::{TrustError, Trusted};
use tidegate_wire::{FleetId, envelope};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::Config;
use crate::death;
use crate::driver::{self, Driver, Parts};
use crate::engine;
use crate::enrol::{self, EnrolError};
use crate::http::Facts;
use crate::link::Door;
use crate::link::mqtt::{BadBroker, MqttConfig, MqttLink};
use crate::listen::{Answering, ListenError, Sockets};
use crate::renewal::{self, Renewal};
use crate::serving::Serving;
use crate::store::identity::{Enrolment, Identity, IdentityError};
use crate::store::lock::LockError;
use crate::store::{Backlog, Store};
use crate::tls::{self, TimeFloor, TlsError};
use crate::upstream::{Upstream, UpstreamError};

/// Closed windows that wait for the driver: two for each of 32 models, and as many again.
const WINDOWS_WAITING: usize = 128;
/// Link events that wait for the driver; then the broker waits.
const LINK_EVENTS_WAITING: usize = 64;
/// How long requests that have begun, or wait their turn, may take when the agent stops. Containers
/// are killed ten seconds after they are asked to stop, and windows must be on disk by then.
const GOODBYE_MAX: Duration = Duration::from_secs(6);

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data folder cannot be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The device's identity cannot be had.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The device cannot enrol.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The stored root metadata is damaged.
    #[error(
        "the stored root metadata is damaged ({0}): remove `trust/root` from the data folder and \
         start again with the enrol token"
    )]
    Trust(TrustError),
    /// The local API's address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The stored certificate cannot be used.
    #[error("{0}: remove the data folder and enrol this device again")]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The controller gave a broker address that is none.
    #[error(transparent)]
    Broker(#[from] BadBroker),
    /// The system gives no threads or no random numbers.
    #[error("the system cannot run the agent: {0}")]
    System(String),
}

/// Runs an agent until the process is asked to stop (SIGTERM or SIGINT). Blocks.
///
/// # Errors
/// [`RunError`] for what only an operator can change; whatever may pass is waited for.
pub fn run(config: Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads)
        .thread_name("tidegate")
        .enable_all()
        .build()
        .map_err(|error| RunError::System(error.to_string()))?;
    // On this thread, beside the workers: the driver waits for the disk, and answers must not.
    let result = runtime.block_on(async {
        let stop = stop_signal().map_err(|error| RunError::System(error.to_string()))?;
        run_until(config, stop).await
    });
    // A check or a self-test that still runs must not hold up the stop.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Ready when the process is asked to stop (SIGTERM or SIGINT).
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("asked to stop");
    })
}

/// Runs an agent until `shutdown` is ready.
///
/// # Errors
/// Those of [`run`].
pub async fn run_until(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let mut shutdown = std::pin::pin!(shutdown);
    engine::configure(&config.engines);
    tls::install_provider();
    let clock = Clock::start();
    let store = Store::open(&config.data_dir)?;
    let boot = store.count_boot(clock.unix());
    // Before any model is loaded: from here on a death is charged to what is.
    let death = death::last(store.disk(), death::Kills::now());
    let instance = getrandom::u64().map_err(|error| RunError::System(error.to_string()))?;
    let api = LocalApi::bind(&config, &store, boot).await?;

    let mut identity = store.identity()?;
    let address = api.sockets.address.clone();
    let facts = Facts { body_bytes_max: config.api.body_bytes_max(), ..Facts::default() };
    let mut server = Server::Waiting { sockets: api.sockets, facts };
    if identity.enrolment().is_none() {
        // There are no models yet, and the API says so while the device waits to get in. On all
        // others it waits for the models: callers rather wait a moment than hear of no model.
        server = server.start(&api.serving);
    }
    let floor = TimeFloor::default();
    let admitted = tokio::select! {
        admitted = admit(&config, &mut identity, &store, &floor) => admitted?,
        () = &mut shutdown => {
            server.stop().await;
            return Ok(());
        }
    };
    let Admitted { enrolment, trusted } = admitted;
    let tls = identity.tls(&enrolment, &floor)?;
    let base = enrol::controller(&config, &enrolment);
    let upstream = Upstream::new(&base, tls.clone(), enrol::silence_max(&config))?;

    let settings = driver::settings(&config, &address, instance);
    let (events, link_events) = mpsc::channel(LINK_EVENTS_WAITING);
    let mqtt = MqttConfig {
        door: Door { broker: enrolment.broker, tls: Arc::new(tls) },
        fleet: enrolment.fleet.clone(),
        device: config.device.clone(),
        last_will: envelope::seal(&settings.offline()),
    };
    let backlog = backlog(&config, &store, enrolment.fleet);
    let link = MqttLink::start(mqtt, events)?;
    let parts = renewal::Parts {
        identity,
        floor: floor.clone(),
        upstream: upstream.clone(),
        link: link.uplink(),
    };
    let renewing = Renewal::new(&config, parts, api.serving.metrics());
    let renewing = tokio::spawn(renewing.run());
    let parts = Parts {
        store,
        trusted,
        serving: Arc::clone(&api.serving),
        windows: api.windows,
        backlog,
        uplink: link.uplink(),
        link: link_events,
        upstream,
        floor,
        api: address,
        instance,
        death,
    };
    let mut driver = Driver::recover(&config, parts).await;
    let server = server.start(&api.serving);
    driver.run(shutdown).await;
    renewing.abort();
    server.stop().await;
    driver.finish().await;
    link.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The local API before it serves.
struct LocalApi {
    sockets: Sockets,
    serving: Arc<Serving>,
    windows: mpsc::Receiver<tidegate_wire::report::Window>,
}

impl LocalApi {
    async fn bind(config: &Config, store: &Store, boot: u64) -> Result<Self, RunError> {
        let sockets = Sockets::bind(&config.api).await?;
        if let Err(error) = store.publish_api_address(&sockets.address) {
            // A full disk: only those who look there for the address are worse off.
            tracing::error!("{error}; the local API listens on {}", sockets.address);
        }
        let (sender, windows) = mpsc::channel(WINDOWS_WAITING);
        let serving = Serving::with(config.serving.clone(), config.models.clone(), sender, boot);
        Ok(Self { sockets, serving, windows })
    }
}

/// The local API: callers wait, or are answered.
enum Server {
    Waiting { sockets: Sockets, facts: Facts },
    Answering(Answering),
}

impl Server {
    fn start(self, serving: &Arc<Serving>) -> Self {
        match self {
            Self::Waiting { sockets, facts } => Self::Answering(sockets.serve(serving, &facts)),
            answering => answering,
        }
    }

    /// Takes no new requests, and gives those that have begun a little time.
    async fn stop(self) {
        if let Self::Answering(answering) = self {
            answering.stop(GOODBYE_MAX).await;
        }
    }
}

struct Admitted {
    enrolment: Enrolment,
    trusted: Trusted,
}

/// What the device may do and whom it trusts, from the disk or by enrolling.
async fn admit(
    config: &Config,
    identity: &mut Identity,
    store: &Store,
    floor: &TimeFloor,
) -> Result<Admitted, RunError> {
    let trust = store.trust();
    let enrolment = enrol::enrol(config, identity, &trust, floor).await?;
    let Some(stored) = trust.load()? else {
        return Err(RunError::Trust(TrustError::Missing { role: tidegate_trust::Role::Root }));
    };
    let Recovered { trusted, dropped } = Trusted::recover(stored).map_err(RunError::Trust)?;
    for error in dropped {
        tracing::warn!("stored metadata is left out and fetched anew: {error}");
    }
    floor.raise(trusted.time_floor());
    Ok(Admitted { enrolment, trusted })
}

/// Where reports wait. A disk that does not work now is waited for: serving needs none.
fn backlog(config: &Config, store: &Store, fleet: FleetId) -> Backlog {
    let limits = SpoolLimits {
        entries_max: config.reports.spool_entries_max,
        bytes_max: config.reports.spool_kib_max.saturating_mul(1024),
    };
    let sender = Sender { fleet, device: config.device.clone() };
    Backlog::new(store.spool(), sender, limits)
}
