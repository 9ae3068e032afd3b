//! Carries out what the device decides: on what answers, on the disk, over the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidegate_device::{Effect, Epoch, Fault, Gate, Input, Outcome, Publication};
use tidegate_lifecycle::SlotId;
use tidegate_trust::{Event, Role};
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest, ModelName, Reason};
use tokio::task::JoinHandle;

use super::tasks::{self, Answer, Answers, Place};
use crate::disk::Folder;
use crate::fetch::Pace;
use crate::link::{Keep, Uplink};
use crate::rehearsal::Rehearsal;
use crate::serving::{LoadedModel, Serving};
use crate::tls::TimeFloor;
use crate::upstream::Upstream;

/// What effects are carried out with.
pub(super) struct Hands {
    pub(super) device: DeviceId,
    pub(super) disk: Folder,
    pub(super) serving: Arc<Serving>,
    pub(super) uplink: Arc<dyn Uplink>,
    pub(super) upstream: Upstream,
    pub(super) floor: TimeFloor,
    pub(super) pace: Arc<Pace>,
    pub(super) rehearsal: Option<Rehearsal>,
    pub(super) answers: Answers,
    pub(super) held: BTreeMap<ModelName, Held>,
    /// The question for metadata that is open.
    pub(super) asking: Option<(Role, JoinHandle<Event>)>,
}

/// What is held for one model, and what is done for it.
#[derive(Default)]
pub(super) struct Held {
    /// The download, which can be ended.
    download: Option<JoinHandle<()>>,
    /// Of the newest work; None once a candidate was let go.
    epoch: Option<Epoch>,
    /// The candidate, once it passed its self-test.
    candidate: Option<Arc<LoadedModel>>,
    /// What answered before the candidate on trial: going back must not wait for loading.
    previous: Option<Arc<LoadedModel>>,
}

impl Hands {
    /// Does one thing, and says what came of it if that is known at once.
    pub(super) async fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Follow { model } => self.serving.announce(&model),
            Effect::Fetch { model, epoch, order } => {
                let (place, answers) = (self.place(&model), self.answers.clone());
                let network = (self.upstream.clone(), Arc::clone(&self.pace));
                let download = tasks::download(place, epoch, order, network, answers);
                self.work(model, epoch).download = Some(download);
            }
            Effect::StopFetch { model } => self.stop_fetch(model).await,
            Effect::Erase { model, slot } => {
                let Place { disk, slots, .. } = self.place(&model);
                // What stays behind is checked like everything else, so this is no danger.
                if let Err(error) = slots.erase(&disk, slot) {
                    tracing::warn!("{error}");
                }
            }
            Effect::Verify { model, epoch, slot, artifact } => {
                let (place, answers) = (self.place(&model), self.answers.clone());
                tasks::verify(place, epoch, slot, artifact, answers);
                self.work(model, epoch);
            }
            Effect::SelfTest { model, epoch, slot, artifact } => {
                let (place, answers) = (self.place(&model), self.answers.clone());
                tasks::test(place, epoch, slot, artifact, answers);
                self.work(model, epoch);
            }
            Effect::DropCandidate { model } => {
                self.serving.stop_shadow(&model);
                let held = self.held(model);
                (held.epoch, held.candidate) = (None, None);
            }
            Effect::Activate { model, slot, artifact } => {
                return self.activate(model, slot, artifact).await;
            }
            Effect::ForgetPrevious { model } => self.held(model).previous = None,
            Effect::AskMetadata { role, version, length_max } => {
                let asking = tasks::ask(self.upstream.clone(), role, version, length_max);
                self.asking = Some((role, asking));
            }
            Effect::Publish { publication, payload } => return self.publish(publication, payload),
            Effect::RaiseTimeFloor(floor) => self.floor.raise(floor),
            Effect::Judge { model, gate } => return self.judge(model, gate),
            serving => self.serve(serving),
        }
        None
    }

    /// What concerns only what answers.
    fn serve(&mut self, effect: Effect) {
        match effect {
            Effect::StartShadow { model } => {
                let candidate = self.held(model.clone()).candidate.clone();
                if let Some(candidate) = candidate {
                    self.serving.start_shadow(&model, candidate);
                }
            }
            Effect::StartTrial { model } => self.serving.start_trial(&model),
            Effect::Deactivate { model } => self.serving.deactivate(&model),
            Effect::TellAbsence { model, reason } => self.serving.tell_absence(&model, reason),
            _ => {}
        }
    }

    /// What came of a piece of work. A candidate is kept, unless it was let go meanwhile.
    pub(super) fn answered(&mut self, answer: Answer) -> Input {
        let Answer { model, epoch, mut outcome, mut loaded } = answer;
        if let Some(Err(detail)) = loaded.as_deref().map(|loaded| self.serving.room_for(loaded)) {
            loaded = None;
            outcome = Outcome::Tested(Err(Fault { reason: Reason::TooMuchMemory, detail }));
        }
        let held = self.held(model.clone());
        if held.epoch == Some(epoch) && loaded.is_some() {
            held.candidate = loaded;
        }
        Input::Answer { model, epoch, outcome }
    }

    /// What came of the question for metadata; never, if there is none.
    pub(super) async fn told(&mut self) -> Input {
        let Some((role, asking)) = &mut self.asking else { return std::future::pending().await };
        let event = asking.await.unwrap_or_else(|error| {
            tracing::error!("the question for {role} metadata broke off: {error}");
            Event::FetchFailed { role: *role, reason: Reason::Unreachable }
        });
        self.asking = None;
        Input::Metadata(event)
    }

    /// Ends the question for metadata.
    pub(super) fn stop_asking(&mut self) {
        if let Some((_, asking)) = self.asking.take() {
            asking.abort();
        }
    }

    fn held(&mut self, model: ModelName) -> &mut Held {
        self.held.entry(model).or_default()
    }

    fn work(&mut self, model: ModelName, epoch: Epoch) -> &mut Held {
        let held = self.held(model);
        held.epoch = Some(epoch);
        held
    }

    fn place(&self, model: &ModelName) -> Place {
        let slots = tidegate_device::store::slots(model);
        let (disk, model) = (self.disk.clone(), model.clone());
        Place { disk, slots, model, rehearsal: self.rehearsal.clone() }
    }

    /// Ends the download, and waits until it does nothing more.
    async fn stop_fetch(&mut self, model: ModelName) {
        if let Some(download) = self.held(model).download.take() {
            download.abort();
            // It was aborted; that it says so is no news.
            let _ = download.await;
        }
    }

    async fn activate(
        &mut self,
        model: ModelName,
        slot: SlotId,
        artifact: Digest,
    ) -> Option<Input> {
        let active = self.serving.active(&model);
        let place = self.place(&model);
        let held = self.held.entry(model.clone()).or_default();
        let is_it = |loaded: &Arc<LoadedModel>| loaded.artifact.digest == artifact;
        let at_hand = [held.candidate.take(), held.previous.take()].into_iter().flatten();
        let loaded = match at_hand.into_iter().find(is_it) {
            Some(loaded) => Ok(loaded),
            None => tasks::reload(place, slot, artifact).await,
        };
        match loaded {
            Ok(loaded) => {
                tracing::info!("{model} {} answers from now on", loaded.artifact);
                self.serving.activate(&model, loaded);
                held.previous = active;
                None
            }
            Err(fault) => {
                let (slot, detail) = (slot.name(), &fault.detail);
                tracing::error!("{model} cannot be loaded from {slot}: {detail}");
                let still = active.map(|loaded| loaded.artifact.digest);
                Some(Input::ActivationFailed { model, artifact, still, fault })
            }
        }
    }

    fn judge(&self, model: ModelName, gate: Gate) -> Option<Input> {
        let now = Instant::now();
        let (verdict, detail) = match gate {
            Gate::Shadow => self.serving.shadow_verdict(&model, now),
            Gate::Trial => self.serving.trial_verdict(&model, now),
        }?;
        Some(Input::Judged { model, gate, verdict, detail })
    }

    fn publish(&self, publication: Publication, payload: Vec<u8>) -> Option<Input> {
        let (topic, keep) = match publication {
            Publication::Report(_) => (Topic::Report(self.device.clone()), Keep::Pass),
            Publication::Status => (Topic::Status(self.device.clone()), Keep::Retain),
        };
        let taken = self.uplink.try_publish(&topic, payload, keep);
        taken.err().map(|_| Input::NotTaken(publication))
    }
}
