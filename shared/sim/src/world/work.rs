//! What takes a while: downloads, checks, self-tests, metadata.

use std::rc::Rc;

use tidegate_device::fetch::{self, Fetch, FetchError};
use tidegate_device::store::slots::Slots;
use tidegate_device::{Epoch, Fault, Input, Order, Outcome};
use tidegate_lifecycle::SlotId;
use tidegate_trust::{self as trust, Role};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest};
use tidegate_wire::tensor::GoldenSet;
use tidegate_wire::{ArtifactRef, Digest, ModelName, Reason};

use super::{Event, World};
use crate::engine::Loaded;
use crate::mirror::{Answer, Wish};
use crate::model::{Weights, model_name};

/// How long nobody answers before a device gives up, milliseconds.
const SILENCE_MS: u64 = 30_000;
/// Bytes that come at a time.
const CHUNK: usize = 700;

impl World {
    fn slots(&self, model: &ModelName) -> Slots {
        Slots::new(format!("models/{model}"))
    }

    pub(super) fn erase(&mut self, node: usize, model: &ModelName, slot: SlotId) {
        // What stays behind is checked like everything else.
        let _ = self.slots(model).erase(&*self.nodes[node].disk, slot);
    }

    pub(super) fn begin_fetch(&mut self, node: usize, epoch: Epoch, order: &Order) {
        let slots = self.slots(&model_name());
        let fetch = Fetch::new(fetch::Order {
            artifact: order.artifact,
            manifest_length: order.manifest_length,
            slot: slots.path(order.slot),
            other_slot: slots.path(order.slot.other()),
        });
        let it = &mut self.nodes[node];
        it.fetch = Some((epoch, fetch));
        let life = it.life;
        self.after(order.delay_ms, Event::Fetching { node, life, epoch, answer: None });
    }

    /// Drives a download on until it has to wait for something.
    pub(super) fn drive_fetch(&mut self, node: usize, epoch: Epoch, asked: Option<(Digest, u64)>) {
        let now_ms = self.now_ms;
        let it = &mut self.nodes[node];
        let Some((_, mut fetch)) = it.fetch.take_if(|(open, _)| *open == epoch) else { return };
        let disk = Rc::clone(&it.disk);
        match fetch.wants() {
            fetch::Effect::Ask { .. } => self.answer_fetch(node, &mut fetch, asked),
            fetch::Effect::Pause { .. } => {
                fetch.step(&*disk, now_ms, fetch::Input::Waited);
            }
            _ => {}
        }
        loop {
            match fetch.wants() {
                fetch::Effect::Work => {
                    fetch.step(&*disk, now_ms, fetch::Input::Work);
                }
                // The answer was over, and it wants more of it.
                fetch::Effect::Read => {
                    fetch.step(&*disk, now_ms, fetch::Input::Ended);
                }
                fetch::Effect::Ask { digest, offset } => {
                    let wait = self.mirror_ms(node);
                    return self.wait_for(node, epoch, fetch, wait, Some((digest, offset)));
                }
                fetch::Effect::Pause { ms } => return self.wait_for(node, epoch, fetch, ms, None),
                fetch::Effect::Done(result) => {
                    let fault =
                        |error: FetchError| Fault { reason: error.reason, detail: error.detail };
                    let outcome = Outcome::Fetched(result.map_err(fault));
                    let input = Input::Answer { model: model_name(), epoch, outcome };
                    return self.feed_unless_off(node, input);
                }
            }
        }
    }

    fn wait_for(
        &mut self,
        node: usize,
        epoch: Epoch,
        fetch: Fetch,
        ms: u64,
        answer: Option<(Digest, u64)>,
    ) {
        if self.nodes[node].disk.is_off() {
            return self.power_went(node);
        }
        let it = &mut self.nodes[node];
        it.fetch = Some((epoch, fetch));
        let life = it.life;
        self.after(ms, Event::Fetching { node, life, epoch, answer });
    }

    fn answer_fetch(&mut self, node: usize, fetch: &mut Fetch, asked: Option<(Digest, u64)>) {
        let failed = |reason, detail: &str| {
            fetch::Input::Failed(FetchError { reason, detail: detail.to_owned() })
        };
        let now_ms = self.now_ms;
        let disk = Rc::clone(&self.nodes[node].disk);
        let Some((digest, offset)) = asked else { return };
        if !self.mirror_reaches(node) {
            fetch.step(&*disk, now_ms, failed(Reason::Unreachable, "nobody answers"));
            return;
        }
        let answer = self.mirror.answer(Wish::Blob(digest), &mut self.servers_dice);
        let (bytes, whole) = match answer {
            Answer::Missing => {
                let missing = failed(Reason::BlobNotFound, "it has no such blob");
                fetch.step(&*disk, now_ms, missing);
                return;
            }
            Answer::Bytes(bytes) => (bytes, true),
            Answer::Begun(bytes) => (bytes, false),
            Answer::Endless => (Rc::from(vec![0xA5; 1 << 20]), true),
        };
        if offset > bytes.len() as u64 {
            let error = FetchError {
                reason: Reason::Unreachable,
                detail: "it has no byte at this offset".to_owned(),
            };
            fetch.step(&*disk, now_ms, fetch::Input::RangeRefused(error));
            return;
        }
        fetch.step(&*disk, now_ms, fetch::Input::Answered { start: Some(offset) });
        for chunk in bytes[offset as usize..].chunks(CHUNK) {
            if fetch.wants() != fetch::Effect::Read {
                return;
            }
            let loss = self.nodes[node].troubles.loss;
            if self.nodes[node].network.chance(loss / 4) {
                fetch.step(&*disk, now_ms, failed(Reason::Unreachable, "it broke off"));
                return;
            }
            fetch.step(&*disk, now_ms, fetch::Input::Chunk(chunk));
        }
        if fetch.wants() == fetch::Effect::Read {
            let end = match whole {
                true => fetch::Input::Ended,
                false => failed(Reason::Unreachable, "it broke off"),
            };
            fetch.step(&*disk, now_ms, end);
        }
    }

    fn feed_unless_off(&mut self, node: usize, input: Input) {
        match self.nodes[node].disk.is_off() {
            true => self.power_went(node),
            false => self.feed(node, input),
        }
    }

    fn mirror_reaches(&self, node: usize) -> bool {
        self.nodes[node].is_reachable() && !self.servers.mirror_away
    }

    fn mirror_ms(&mut self, node: usize) -> u64 {
        if !self.mirror_reaches(node) {
            return SILENCE_MS;
        }
        let slow = self.servers_dice.below(self.servers.mirror_ms);
        2 * self.nodes[node].delay_ms() + slow
    }

    pub(super) fn ask_metadata(
        &mut self,
        node: usize,
        role: Role,
        version: Option<u64>,
        length_max: usize,
    ) {
        let (wait, life) = (self.mirror_ms(node), self.nodes[node].life);
        self.after(wait, Event::Metadata { node, life, role, version, length_max });
    }

    pub(super) fn metadata(
        &mut self,
        node: usize,
        role: Role,
        version: Option<u64>,
        length_max: usize,
    ) {
        let failed = |reason| trust::Event::FetchFailed { role, reason };
        let event = if self.mirror_reaches(node) {
            match self.mirror.answer(Wish::Metadata((role, version)), &mut self.servers_dice) {
                Answer::Bytes(bytes) if bytes.len() <= length_max => {
                    trust::Event::Fetched { role, bytes: bytes.to_vec() }
                }
                Answer::Bytes(_) | Answer::Endless => failed(Reason::TooLong),
                Answer::Begun(_) => failed(Reason::Unreachable),
                Answer::Missing => trust::Event::NotFound { role },
            }
        } else {
            failed(Reason::Unreachable)
        };
        self.feed(node, Input::Metadata(event));
    }

    /// Checks every byte in a slot.
    pub(super) fn verify(
        &mut self,
        node: usize,
        model: ModelName,
        epoch: Epoch,
        slot: SlotId,
        artifact: Digest,
    ) {
        let checked = self.slots(&model).verify(&*self.nodes[node].disk, slot, artifact, &model);
        let outcome = Outcome::Verified(match checked {
            Ok(manifest) => Ok(manifest.gates.trial.attempts_max),
            Err(error) => Err(Fault { reason: error.reason, detail: error.to_string() }),
        });
        self.feed_unless_off(node, Input::Answer { model, epoch, outcome });
    }

    /// Checks every byte in a slot, loads it and runs its golden set.
    pub(super) fn self_test(
        &mut self,
        node: usize,
        model: ModelName,
        epoch: Epoch,
        slot: SlotId,
        artifact: Digest,
    ) {
        let tested = self.load(node, &model, slot, artifact).and_then(|loaded| {
            let folder = self.slots(&model).path(slot);
            let golden: GoldenSet = self.read(node, &folder, FileRole::Golden)?;
            let plain = |reason| Fault { reason, detail: "the golden set".to_owned() };
            loaded.golden(&golden).map_err(plain)?;
            Ok(loaded)
        });
        if let Ok(loaded) = &tested {
            self.nodes[node].candidate = Some(Rc::clone(loaded));
        }
        let outcome = Outcome::Tested(tested.map(|_| String::new()));
        self.feed_unless_off(node, Input::Answer { model, epoch, outcome });
    }

    /// Loads what lies in a slot, checking every byte first.
    pub(super) fn load(
        &self,
        node: usize,
        model: &ModelName,
        slot: SlotId,
        artifact: Digest,
    ) -> Result<Rc<Loaded>, Fault> {
        let slots = self.slots(model);
        let checked = slots.verify(&*self.nodes[node].disk, slot, artifact, model);
        let manifest: Manifest =
            checked.map_err(|error| Fault { reason: error.reason, detail: error.to_string() })?;
        let folder = slots.path(slot);
        let weights: Weights = self.read(node, &folder, FileRole::Model)?;
        let reference: DriftReference = self.read(node, &folder, FileRole::Reference)?;
        let artifact = ArtifactRef { digest: artifact, version: manifest.version.clone() };
        let loaded = Loaded::new(artifact, manifest, &weights, reference);
        loaded.map(Rc::new).map_err(|reason| Fault { reason, detail: "the engine".to_owned() })
    }

    fn read<M: Message>(&self, node: usize, folder: &str, role: FileRole) -> Result<M, Fault> {
        let name = format!("{folder}/{}", role.name());
        let fault = |detail: String| Fault { reason: Reason::StorageFailed, detail };
        let bytes = tidegate_disk::read(&*self.nodes[node].disk, &name, M::SIZE_MAX)
            .map_err(|error| fault(error.to_string()))?
            .ok_or_else(|| fault(format!("{name} is missing")))?;
        envelope::open(&bytes).map_err(|error| fault(format!("{name}: {error}")))
    }
}
