//! Work that takes long and is done beside the driver: downloads, checks, self-tests, loading.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_device::store::slots::{SlotError, Slots};
use tidegate_device::{Epoch, Fault, Order, Outcome};
use tidegate_lifecycle::SlotId;
use tidegate_trust::{Event, Role};
use tidegate_wire::{ArtifactRef, Digest, ModelName, Reason};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::background;
use crate::disk::Folder;
use crate::fetch::{self, FetchError, Pace};
use crate::rehearsal::Rehearsal;
use crate::self_test::{SelfTestOutcome, self_test};
use crate::serving::{LoadError, LoadedModel, read_golden};
use crate::upstream::Upstream;

/// What came of a piece of work, and which piece it was.
pub(super) struct Answer {
    pub(super) model: ModelName,
    pub(super) epoch: Epoch,
    pub(super) outcome: Outcome,
    /// The candidate that passed its self-test.
    pub(super) loaded: Option<Arc<LoadedModel>>,
}

/// Where answers go.
pub(super) type Answers = mpsc::UnboundedSender<Answer>;

/// Where the files of a model's artifacts lie.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) disk: Folder,
    pub(super) slots: Slots,
    pub(super) model: ModelName,
    /// How candidates are loaded at first.
    pub(super) rehearsal: Option<Rehearsal>,
}

impl Place {
    fn path(&self, slot: SlotId) -> std::path::PathBuf {
        self.disk.path(&self.slots.path(slot))
    }
}

/// Starts the download of an artifact.
pub(super) fn download(
    place: Place,
    epoch: Epoch,
    order: Order,
    (upstream, pace): (Upstream, Arc<Pace>),
    answers: Answers,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Place { disk, slots, model, .. } = place;
        tokio::time::sleep(Duration::from_millis(order.delay_ms)).await;
        let order = fetch::Order {
            artifact: order.artifact,
            manifest_length: order.manifest_length,
            slot: slots.path(order.slot),
            other_slot: slots.path(order.slot.other()),
        };
        let fetched = fetch::fetch(upstream, pace, disk, order).await;
        let fault = |FetchError { reason, detail }| Fault { reason, detail };
        let outcome = Outcome::Fetched(fetched.map_err(fault));
        let _ = answers.send(Answer { model, epoch, outcome, loaded: None });
    })
}

/// Starts the check of every byte in a slot.
pub(super) fn verify(place: Place, epoch: Epoch, slot: SlotId, artifact: Digest, answers: Answers) {
    tokio::spawn(async move {
        let model = place.model.clone();
        let check = move || {
            let manifest = place.slots.verify(&place.disk, slot, artifact, &place.model);
            manifest.map(|manifest| manifest.gates.trial.attempts_max).map_err(wrong)
        };
        let panicked = |error| Err(fault(Reason::StorageFailed, error));
        let checked = background::run("check", check).await.unwrap_or_else(panicked);
        let outcome = Outcome::Verified(checked);
        let _ = answers.send(Answer { model, epoch, outcome, loaded: None });
    });
}

/// Starts loading a candidate and its golden set.
pub(super) fn test(place: Place, epoch: Epoch, slot: SlotId, artifact: Digest, answers: Answers) {
    tokio::spawn(async move {
        let model = place.model.clone();
        let test = move || load_and_test(&place, slot, artifact);
        // An engine that panics on a model is a model that cannot be loaded.
        let panicked = |error| Err(fault(Reason::LoadFailed, error));
        let tested = background::run("self-test", test).await.unwrap_or_else(panicked);
        let (outcome, loaded) = match tested {
            Ok((loaded, SelfTestOutcome { verdict: Ok(()), detail, .. })) => {
                (Ok(detail), Some(loaded))
            }
            Ok((_, SelfTestOutcome { verdict: Err(reason), detail, .. })) => {
                (Err(Fault { reason, detail }), None)
            }
            Err(fault) => (Err(fault), None),
        };
        let outcome = Outcome::Tested(outcome);
        let _ = answers.send(Answer { model, epoch, outcome, loaded });
    });
}

fn load_and_test(
    place: &Place,
    slot: SlotId,
    artifact: Digest,
) -> Result<(Arc<LoadedModel>, SelfTestOutcome), Fault> {
    // Verified when it came, but perhaps before a restart: reading it again is cheap beside
    // believing bytes that rotted meanwhile.
    let manifest = place.slots.verify(&place.disk, slot, artifact, &place.model).map_err(wrong)?;
    let folder = place.path(slot);
    let artifact = ArtifactRef { digest: artifact, version: manifest.version.clone() };
    let golden = read_golden(&folder, &manifest).map_err(unusable)?;
    let golden = golden.ok_or_else(|| {
        let text = "the artifact has no golden set; add one to the bundle and push it again";
        fault(Reason::GoldenMismatch, text)
    })?;
    let tries = manifest.gates.self_test.tries;
    up_to(tries, || {
        let (artifact, manifest) = (artifact.clone(), manifest.clone());
        let rehearsed = place.rehearsal.as_ref().map(|rehearsal| rehearsal.run(&folder, &manifest));
        rehearsed.transpose().map_err(unusable)?;
        let loaded = LoadedModel::load(&folder, artifact, manifest).map_err(unusable)?;
        let outcome = self_test(&loaded, &golden);
        match outcome.verdict {
            Err(reason) if may_pass(reason) => Err(Fault { reason, detail: outcome.detail }),
            _ => Ok((Arc::new(loaded), outcome)),
        }
    })
}

/// Does something until it works, its fault is one that comes again, or it was tried `tries` times.
fn up_to<T>(tries: u8, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let mut tried = 1;
    loop {
        match attempt() {
            Err(Fault { reason, detail }) if may_pass(reason) => {
                if tried >= tries {
                    return Err(fault(reason, format!("{detail} (tried {tried} times)")));
                }
                tracing::warn!("{detail}; it is tried again, {tried} of {tries}");
                tried += 1;
            }
            done => return done,
        }
    }
}

/// Whether a fault of loading may be the device's passing one: time, memory, disk, engine. The rest
/// is in the artifact's bytes, which stay the same.
fn may_pass(reason: Reason) -> bool {
    use Reason::{LoadFailed, LoadTooSlow, StorageFailed, TooMuchMemory};
    matches!(reason, LoadTooSlow | TooMuchMemory | LoadFailed | StorageFailed)
}

/// Loads a model that has proved itself before, checking every byte first. Blocking work is done
/// beside the runtime, and not in the background: while this goes on nothing answers.
pub(super) async fn reload(
    place: Place,
    slot: SlotId,
    artifact: Digest,
) -> Result<Arc<LoadedModel>, Fault> {
    let load = move || {
        let manifest =
            place.slots.verify(&place.disk, slot, artifact, &place.model).map_err(wrong)?;
        let artifact = ArtifactRef { digest: artifact, version: manifest.version.clone() };
        let folder: &Path = &place.path(slot);
        LoadedModel::reload(folder, artifact, manifest).map(Arc::new).map_err(unusable)
    };
    let panicked = |error| Err(fault(Reason::LoadFailed, format!("the load broke off: {error}")));
    tokio::task::spawn_blocking(load).await.unwrap_or_else(panicked)
}

/// Starts fetching a metadata file.
pub(super) fn ask(
    upstream: Upstream,
    role: Role,
    version: Option<u64>,
    length_max: usize,
) -> JoinHandle<Event> {
    tokio::spawn(async move {
        match upstream.metadata(role, version, length_max).await {
            Ok(bytes) => Event::Fetched { role, bytes },
            Err(error) if error.reason == Reason::BlobNotFound => Event::NotFound { role },
            Err(error) => {
                tracing::debug!("{error}");
                Event::FetchFailed { role, reason: error.reason }
            }
        }
    })
}

fn fault(reason: Reason, detail: impl ToString) -> Fault {
    Fault { reason, detail: detail.to_string() }
}

fn wrong(error: SlotError) -> Fault {
    fault(error.reason, error)
}

fn unusable(error: LoadError) -> Fault {
    fault(error.reason(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(faults: &[Reason]) -> (usize, Result<(), Reason>) {
        let mut count = 0;
        let outcome = up_to(3, || {
            count += 1;
            let reason = faults.get(count - 1);
            reason.map_or(Ok(()), |reason| Err(fault(*reason, "a fault")))
        });
        (count, outcome.map_err(|fault| fault.reason))
    }

    #[test]
    fn loading_is_tried_three_times_and_wrong_answers_once() {
        use Reason::{GoldenMismatch, LoadTooSlow, TooMuchMemory, UnsupportedOperator};
        assert_eq!(tries(&[]), (1, Ok(())));
        assert_eq!(tries(&[LoadTooSlow, TooMuchMemory]), (3, Ok(())));
        assert_eq!(tries(&[LoadTooSlow; 9]), (3, Err(LoadTooSlow)));
        assert_eq!(tries(&[GoldenMismatch]), (1, Err(GoldenMismatch)));
        assert_eq!(tries(&[LoadTooSlow, UnsupportedOperator]), (2, Err(UnsupportedOperator)));
        let error = up_to(0, || Err::<(), _>(fault(TooMuchMemory, "loading took 9 MiB")));
        assert_eq!(error.unwrap_err().detail, "loading took 9 MiB (tried 1 times)");
    }
}
