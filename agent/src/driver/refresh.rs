//! Runs one refresh of the signed metadata: the pure workflow's effects against server and disk.

use tidegate_device::store;
use tidegate_disk::DiskError;
use tidegate_trust::trusted::Recovered;
use tidegate_trust::workflow::{Effect, Event, Limits, Refresh, Summary};
use tidegate_trust::{Role, TrustError, Trusted};
use tidegate_wire::Reason;

use crate::store::TrustStore;
use crate::upstream::Upstream;

/// Why a refresh ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefreshError {
    /// The server, or what it sent.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl RefreshError {
    /// The reason code that travels.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Trust(error) => error.reason(),
            Self::Disk(error) => store::reason(error),
        }
    }

    /// Whether nothing was learnt: the server could not be asked, or the disk did not take what it
    /// said. Both pass.
    pub(super) fn leaves_things_open(&self) -> bool {
        match self {
            Self::Trust(error) => {
                matches!(error, TrustError::Fetch { reason: Reason::Unreachable, .. })
            }
            Self::Disk(_) => true,
        }
    }
}

/// What is trusted now, and how it ended.
pub(super) struct Refreshed {
    pub(super) trusted: Trusted,
    /// Whose file was asked for last.
    pub(super) asked: Role,
    pub(super) result: Result<Summary, RefreshError>,
}

/// Refreshes. Whatever was persisted on the way stays trusted, however it ends.
pub(super) async fn refresh(
    clock: u64,
    before: Trusted,
    upstream: Upstream,
    store: TrustStore,
) -> Refreshed {
    let (mut refresh, mut effects) = Refresh::start(clock, before, Limits::default());
    let mut asked = Role::Root;
    let result = loop {
        asked = last_asked(&effects).unwrap_or(asked);
        match carry_out(effects, &upstream, &store).await {
            Ok(Next::Step(event)) => effects = refresh.step(event),
            Ok(Next::Done(result)) => break result.map_err(RefreshError::from),
            Err(error) => {
                // The disk is behind the machine: what it has is what counts.
                let trusted = reload(&store).unwrap_or_else(|| refresh.into_trusted());
                return Refreshed { trusted, asked, result: Err(error.into()) };
            }
        }
    };
    Refreshed { trusted: refresh.into_trusted(), asked, result }
}

fn last_asked(effects: &[Effect]) -> Option<Role> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Fetch { role, .. } => Some(*role),
        _ => None,
    })
}

enum Next {
    Step(Event),
    Done(Result<Summary, TrustError>),
}

async fn carry_out(
    effects: Vec<Effect>,
    upstream: &Upstream,
    store: &TrustStore,
) -> Result<Next, DiskError> {
    for effect in effects {
        match effect {
            Effect::Persist { role, bytes } => store.persist(role, &bytes)?,
            Effect::Forget { role } => store.forget(role)?,
            Effect::Fetch { role, version, length_max } => {
                return Ok(Next::Step(fetch(upstream, role, version, length_max).await));
            }
            Effect::Done(summary) => return Ok(Next::Done(Ok(summary))),
            Effect::Failed(error) => return Ok(Next::Done(Err(error))),
            Effect::Ignored { role } => return Ok(Next::Done(Err(TrustError::Missing { role }))),
        }
    }
    Ok(Next::Done(Err(TrustError::Missing { role: Role::Root })))
}

async fn fetch(upstream: &Upstream, role: Role, version: Option<u64>, length_max: usize) -> Event {
    match upstream.metadata(role, version, length_max).await {
        Ok(bytes) => Event::Fetched { role, bytes },
        Err(error) if error.reason == Reason::BlobNotFound => Event::NotFound { role },
        Err(error) => {
            tracing::debug!("{error}");
            Event::FetchFailed { role, reason: error.reason }
        }
    }
}

fn reload(store: &TrustStore) -> Option<Trusted> {
    let stored = store.load().ok()??;
    let Recovered { trusted, .. } = Trusted::recover(stored).ok()?;
    Some(trusted)
}
