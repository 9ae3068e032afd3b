//! Work that takes long and is done beside the driver: downloads, checks, self-tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_device::store::slots::{SlotError, Slots};
use tidegate_lifecycle::SlotId;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::{ArtifactRef, Digest, ModelName, Reason};
use tokio::sync::mpsc;

use super::context::Context;
use super::model::Model;
use crate::clock::random_below;
use crate::disk::Folder;
use crate::fetch::{self, FetchError, Order};
use crate::self_test::{SelfTestOutcome, self_test};
use crate::serving::{LoadedModel, read_golden};

/// What came of a piece of work, and which piece it was.
pub(super) struct Answer {
    pub(super) model: ModelName,
    /// The model's epoch when the work began.
    pub(super) epoch: u64,
    pub(super) outcome: Outcome,
}

/// What came of it.
pub(super) enum Outcome {
    Fetched(Result<(), FetchError>),
    Verified(Result<Manifest, (Reason, String)>),
    Tested(Result<(Arc<LoadedModel>, SelfTestOutcome), (Reason, String)>),
}

/// Where answers go.
pub(super) type Answers = mpsc::UnboundedSender<Answer>;

impl Model {
    /// Begins something whose answer will bear the new epoch.
    fn begin(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// Starts the download of an artifact.
    pub(super) async fn spawn_fetch(&mut self, ctx: &Context, slot: SlotId, artifact: Digest) {
        self.end_download().await;
        let (model, epoch) = (self.name.clone(), self.begin());
        let entry = self.artifact(&ctx.trusted, artifact).and_then(|artifact| {
            ctx.trusted.targets().and_then(|targets| targets.entry(&self.name, &artifact).cloned())
        });
        // Only the first byte of an artifact waits: a retry is random enough.
        let first = self.jittered.replace(artifact) != Some(artifact);
        let order = Order {
            artifact,
            manifest_length: entry.map(|entry| entry.length),
            slot: self.slots.path(slot),
            other_slot: self.slots.path(slot.other()),
        };
        let delay = if first { random_below(ctx.jitter_max) } else { Duration::ZERO };
        let disk = self.disk.clone();
        let (upstream, pace) = (ctx.upstream.clone(), Arc::clone(&ctx.pace));
        let answers = ctx.answers.clone();
        self.download = Some(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let outcome = Outcome::Fetched(fetch::fetch(upstream, pace, disk, order).await);
            let _ = answers.send(Answer { model, epoch, outcome });
        }));
    }

    /// Starts the check of every byte in a slot.
    pub(super) fn spawn_verify(&mut self, ctx: &Context, slot: SlotId, artifact: Digest) {
        let (model, epoch) = (self.name.clone(), self.begin());
        let (disk, slots) = (self.disk.clone(), self.slots.clone());
        let answers = ctx.answers.clone();
        tokio::spawn(async move {
            let name = model.clone();
            let check = move || slots.verify(&disk, slot, artifact, &name).map_err(fault);
            let checked = tokio::task::spawn_blocking(check).await;
            let panicked = |_| Err((Reason::StorageFailed, "the check broke off".to_string()));
            let outcome = Outcome::Verified(checked.unwrap_or_else(panicked));
            let _ = answers.send(Answer { model, epoch, outcome });
        });
    }

    /// Starts loading a candidate and its golden set.
    pub(super) fn spawn_self_test(&mut self, ctx: &Context, slot: SlotId, artifact: Digest) {
        let (model, epoch) = (self.name.clone(), self.begin());
        let (place, answers) = ((self.disk.clone(), self.slots.clone()), ctx.answers.clone());
        tokio::spawn(async move {
            let name = model.clone();
            let test = move || load_and_test(&place, slot, artifact, &name);
            // An engine that panics on a model is a model that cannot be loaded.
            let panicked = |error: tokio::task::JoinError| {
                Err((Reason::LoadFailed, format!("the engine broke off: {error}")))
            };
            let tested = tokio::task::spawn_blocking(test).await.unwrap_or_else(panicked);
            let _ = answers.send(Answer { model, epoch, outcome: Outcome::Tested(tested) });
        });
    }
}

fn fault(error: SlotError) -> (Reason, String) {
    (error.reason, error.to_string())
}

type Tested = Result<(Arc<LoadedModel>, SelfTestOutcome), (Reason, String)>;

fn load_and_test(
    (disk, slots): &(Folder, Slots),
    slot: SlotId,
    artifact: Digest,
    model: &ModelName,
) -> Tested {
    // Verified when it came, but perhaps before a restart: reading it again is cheap beside
    // believing bytes that rotted meanwhile.
    let manifest = slots.verify(disk, slot, artifact, model).map_err(fault)?;
    let folder = disk.path(&slots.path(slot));
    let artifact = ArtifactRef { digest: artifact, version: manifest.version.clone() };
    let unusable = |error: crate::serving::LoadError| (error.reason(), error.to_string());
    let golden = read_golden(&folder, &manifest).map_err(unusable)?;
    let golden = golden.ok_or_else(|| {
        let text = "the artifact has no golden set; add one to the bundle and push it again";
        (Reason::GoldenMismatch, text.to_string())
    })?;
    let loaded = LoadedModel::load(&folder, artifact, manifest).map_err(unusable)?;
    let outcome = self_test(&loaded, &golden);
    Ok((Arc::new(loaded), outcome))
}

/// Loads a model that has proved itself before, checking every byte first. Blocking work is done
/// beside the runtime.
pub(super) async fn reload(
    (disk, slots): (Folder, Slots),
    slot: SlotId,
    artifact: Digest,
    model: ModelName,
) -> Result<Arc<LoadedModel>, (Reason, String)> {
    let load = move || {
        let manifest = slots.verify(&disk, slot, artifact, &model).map_err(fault)?;
        let artifact = ArtifactRef { digest: artifact, version: manifest.version.clone() };
        let folder: &Path = &disk.path(&slots.path(slot));
        let loaded = LoadedModel::reload(folder, artifact, manifest);
        loaded.map(Arc::new).map_err(|error| (error.reason(), error.to_string()))
    };
    let panicked = |error| Err((Reason::LoadFailed, format!("the engine broke off: {error}")));
    tokio::task::spawn_blocking(load).await.unwrap_or_else(panicked)
}
