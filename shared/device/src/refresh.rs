//! Newer signed metadata: when it is asked for, and what it changes.

use alloc::vec::Vec;

use tidegate_disk::{Disk, DiskError};
use tidegate_trust::codec::Codec;
use tidegate_trust::trusted::Recovered;
use tidegate_trust::workflow::Limits;
use tidegate_trust::{Effect as Wanted, Event, Refresh, Role, Summary, TrustError, Trusted};
use tidegate_wire::Reason;

use crate::device::Device;
use crate::effect::Effect;
use crate::spool::SpoolStore;
use crate::store;
use crate::store::trust::TrustStore;
use crate::waits::Backoff;

/// First and longest wait after a refresh that failed, milliseconds.
const RETRY_MS: (u64, u64) = (2_000, 300_000);

/// The refresh that is under way, and when the next one is due.
pub(crate) struct Refreshes<C: Codec> {
    running: Option<Running<C>>,
    at: Option<u64>,
    backoff: Backoff,
    /// The newest timestamp that the broker sent; nothing of it was checked.
    announced: Option<Vec<u8>>,
}

struct Running<C: Codec> {
    machine: Refresh<C>,
    /// Whose file was asked for last.
    asked: Role,
}

/// Why a refresh ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    /// The server, or what it sent.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl RefreshError {
    /// The reason code that travels.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Trust(error) => error.reason(),
            Self::Disk(error) => store::reason(error),
        }
    }

    /// Whether nothing was learnt: the server could not be asked, or the disk did not take what it
    /// said. Both pass.
    fn leaves_things_open(&self) -> bool {
        match self {
            Self::Trust(error) => {
                matches!(error, TrustError::Fetch { reason: Reason::Unreachable, .. })
            }
            Self::Disk(_) => true,
        }
    }
}

impl<C: Codec> Refreshes<C> {
    /// The first refresh is due at once.
    pub(crate) fn new(now: u64) -> Self {
        let backoff = Backoff::new(RETRY_MS.0, RETRY_MS.1);
        Self { running: None, at: Some(now), backoff, announced: None }
    }

    /// When a refresh begins, milliseconds; not while one is under way.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.at.filter(|_| self.running.is_none())
    }
}

impl<D: Disk, S: SpoolStore, C: Codec> Device<D, S, C> {
    /// The broker's newest timestamp came: if it is another one, so is the rest.
    pub(crate) fn timestamp_arrived(&mut self, payload: &[u8]) {
        if self.refreshes.announced.as_deref() != Some(payload) {
            self.refreshes.announced = Some(payload.to_vec());
            self.request_refresh();
        }
    }

    /// Asks for newer metadata now, or once more if that is being done already.
    pub(crate) fn request_refresh(&mut self) {
        self.ctx.metadata_is_newest = false;
        self.refreshes.at = Some(self.ctx.now.ms);
    }

    /// Starts a refresh that is due.
    pub(crate) fn start_refresh(&mut self) {
        if self.refreshes.deadline().is_none_or(|at| self.ctx.now.ms < at) {
            return;
        }
        self.refreshes.at = None;
        self.ctx.metadata_is_newest = true;
        self.ctx.refreshing = true;
        let (unix, trusted) = (self.ctx.now.unix, self.ctx.trusted.clone());
        let (machine, wanted) = Refresh::start(unix, trusted, Limits::default());
        self.refreshes.running = Some(Running { machine, asked: Role::Root });
        self.advance(wanted);
    }

    /// Takes what came of a question for metadata.
    pub(crate) fn metadata(&mut self, event: Event) {
        // Without a refresh it is the answer to a question of a former one.
        let Some(running) = &mut self.refreshes.running else { return };
        let wanted = running.machine.step(event);
        self.advance(wanted);
    }

    fn advance(&mut self, wanted: Vec<Wanted>) {
        for one in wanted {
            let stored = match one {
                Wanted::Persist { role, bytes } => {
                    TrustStore::new(&self.ctx.disk).persist(role, &bytes)
                }
                Wanted::Forget { role } => TrustStore::new(&self.ctx.disk).forget(role),
                Wanted::Fetch { role, version, length_max } => {
                    if let Some(running) = &mut self.refreshes.running {
                        running.asked = role;
                    }
                    self.ctx.order(Effect::AskMetadata { role, version, length_max });
                    Ok(())
                }
                Wanted::Done(summary) => return self.refreshed(Ok(summary)),
                Wanted::Failed(error) => return self.refreshed(Err(error.into())),
                // Another answer than the one that is waited for.
                Wanted::Ignored { .. } => Ok(()),
            };
            if let Err(error) = stored {
                return self.refreshed(Err(error.into()));
            }
        }
    }

    /// A refresh ended. Whatever was persisted on the way stays trusted, however it ended.
    fn refreshed(&mut self, result: Result<Summary, RefreshError>) {
        let Some(Running { machine, asked }) = self.refreshes.running.take() else { return };
        self.ctx.refreshing = false;
        self.ctx.trusted = match result {
            // The disk is behind the workflow: what it has is what counts.
            Err(RefreshError::Disk(_)) => self.reload().unwrap_or_else(|| machine.into_trusted()),
            _ => machine.into_trusted(),
        };
        self.ctx.order(Effect::RaiseTimeFloor(self.ctx.trusted.time_floor()));
        let announced = self.refreshes.announced.as_deref();
        let behind = announced.is_some_and(|timestamp| self.ctx.trusted.is_behind(timestamp));
        match result {
            Ok(_) if behind => {
                // A mirror that lags: nothing is turned down on what it does not know yet.
                tracing::warn!("the metadata server is behind what the broker announced");
                self.ctx.metadata_is_newest = false;
                self.retry_refresh();
            }
            Ok(summary) => {
                self.refreshes.backoff.reset();
                self.ctx.status_due |= self.refusals.metadata_is_good();
                if summary.changed {
                    tracing::info!(
                        "trusting root {}, targets {}, timestamp {}",
                        summary.root,
                        summary.targets,
                        summary.timestamp
                    );
                }
            }
            Err(error) => {
                tracing::warn!("no newer metadata: {error} (reason {})", error.reason().code());
                self.ctx.status_due |= self.refusals.metadata(asked, &error);
                // An answer that is bad is an answer.
                self.ctx.metadata_is_newest &= !error.leaves_things_open();
                self.retry_refresh();
            }
        }
        // First what must not run, then what should: whatever the directives say, and also if the
        // refresh failed after it had learnt something.
        self.models.values_mut().for_each(|model| model.limit(&mut self.ctx));
        self.direct_all();
    }

    fn reload(&self) -> Option<Trusted<C>> {
        let stored = TrustStore::new(&self.ctx.disk).load().ok()??;
        let Recovered { trusted, .. } = Trusted::recover(stored).ok()?;
        Some(trusted)
    }

    fn retry_refresh(&mut self) {
        let wait_ms = self.refreshes.backoff.next_wait(&mut self.ctx.dice);
        let at = self.ctx.now.ms.saturating_add(wait_ms);
        self.refreshes.at = Some(self.refreshes.at.map_or(at, |asked| asked.min(at)));
    }
}
