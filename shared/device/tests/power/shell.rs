//! A shell that carries out everything on the disk, so that power can be cut everywhere.

use std::collections::VecDeque;
use std::rc::Rc;

use tidegate_device::fetch::{self, Fetch};
use tidegate_device::spool::{Backlog, LogSpool, Sender, SpoolLimits};
use tidegate_device::store::slots::Slots;
use tidegate_device::store::trust::TrustStore;
use tidegate_device::{
    Device, Effect, Effects, Fault, Gate, Input, Moment, Order, Outcome, Publication, store,
};
use tidegate_disk::memory::MemoryDisk;
use tidegate_lifecycle::SlotId;
use tidegate_lifecycle::gates::Verdict;
use tidegate_trust::{Event, Trusted};
use tidegate_wire::report::{Ack, Window};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Digest, Reason, envelope};

use crate::ledger::{Disk, Ledger, TheDevice};
use crate::scene::{Flaw, Phase, Scene};
use crate::world::{NOW, model, settings};

/// Power went.
#[derive(Debug)]
pub struct Cut;

/// Milliseconds of the device's clock that a phase may take.
const PHASE_MS_MAX: u64 = 3_600_000;

struct Shell<'a> {
    scene: &'a Scene,
    phase: &'a Phase,
    ledger: &'a mut Ledger,
    disk: Disk,
    slots: Slots,
    device: TheDevice,
    ms: u64,
    inputs: VecDeque<Input>,
    answering: Option<Digest>,
    /// What passed its self-test, and what answered before.
    at_hand: Vec<Digest>,
}

/// Lets the device live through a phase, from a start on. When power goes, what the device has
/// promised until then is in the ledger, and the disk knows what it may have lost.
pub fn live(scene: &Scene, phase: &Phase, ledger: &mut Ledger, disk: &Disk) -> Result<(), Cut> {
    ledger.inspect(disk);
    let (slots, effects, device) = start(ledger, disk)?;
    let mut shell = Shell {
        scene,
        phase,
        ledger,
        disk: Rc::clone(disk),
        slots,
        device,
        ms: 0,
        inputs: VecDeque::new(),
        answering: None,
        at_hand: vec![],
    };
    shell.begin(effects)?;
    shell.go_on()?;
    if phase.stops {
        shell.stop()?;
    }
    shell.ledger.inspect(disk);
    Ok(())
}

fn start(ledger: &mut Ledger, disk: &Disk) -> Result<(Slots, Effects, TheDevice), Cut> {
    let boot = store::count_boot(disk, 1_000_000);
    let made = store::make_folders(disk);
    if disk.is_off() {
        return Err(Cut);
    }
    made.unwrap();
    ledger.booted(boot);
    let stored = TrustStore::new(disk).load();
    if disk.is_off() {
        return Err(Cut);
    }
    let stored = stored.unwrap().expect("there is a root");
    let trusted: Trusted = Trusted::recover(stored).expect("what is stored is trusted").trusted;
    ledger.recovered(&trusted);
    let sender = Sender { fleet: trusted.fleet().clone(), device: settings().device };
    let limits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 20 };
    let backlog = Backlog::new(LogSpool::new(Rc::clone(disk), boot), sender, limits);
    let now = Moment { ms: 0, unix: NOW };
    let (device, effects) = Device::recover(settings(), Rc::clone(disk), backlog, trusted, now);
    if disk.is_off() { Err(Cut) } else { Ok((store::slots(&model()), effects, device)) }
}

impl Shell<'_> {
    /// What was active answers before anything else happens.
    fn begin(&mut self, effects: Effects) -> Result<(), Cut> {
        self.carry_out(effects)?;
        self.inputs.push_back(Input::LinkUp);
        let payload = self.phase.timestamp.clone();
        self.inputs.push_back(Input::Message { topic: Topic::Timestamp, payload });
        for payload in self.phase.stale.iter().chain([&self.phase.directive]) {
            let (topic, payload) = (Topic::Directive(model()), payload.clone());
            self.inputs.push_back(Input::Message { topic, payload });
        }
        for _ in 0..self.phase.windows {
            self.inputs.push_back(Input::Window(window(self.ledger.window_next)));
            self.ledger.window_next += 1;
        }
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), Cut> {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.step(input)?;
            }
            if self.scene.is_over(self.phase, &self.device) {
                return Ok(());
            }
            let at = self.device.deadline().expect("a device always waits for something");
            self.ms = self.ms.max(at);
            assert!(self.ms < PHASE_MS_MAX, "it never ends: {}", self.state());
            self.inputs.push_back(Input::Tick);
        }
    }

    fn stop(&mut self) -> Result<(), Cut> {
        for input in [Input::Stopping, Input::Stopped] {
            self.step(input)?;
        }
        Ok(())
    }

    fn state(&self) -> String {
        let models: Vec<_> = self.device.models().map(|(_, machine)| machine.record()).collect();
        format!("{} {models:?} {:?}", self.phase.name, self.device.figures())
    }

    fn step(&mut self, input: Input) -> Result<(), Cut> {
        let window = if let Input::Window(window) = &input { Some(window.window) } else { None };
        let now = Moment { ms: self.ms, unix: NOW + self.ms / 1_000 };
        let effects = self.device.step(now, input);
        if self.disk.is_off() {
            return Err(Cut);
        }
        if let Some(number) = window {
            self.ledger.window_taken(number);
        }
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects) -> Result<(), Cut> {
        self.ledger.promised(&self.device);
        for effect in effects {
            let answer = self.carry_out_one(effect);
            if self.disk.is_off() {
                return Err(Cut);
            }
            self.inputs.extend(answer);
        }
        self.ledger.answers(self.answering, self.phase);
        Ok(())
    }

    fn carry_out_one(&mut self, effect: Effect) -> Option<Input> {
        let work = |epoch, outcome| Some(Input::Answer { model: model(), epoch, outcome });
        match effect {
            Effect::Fetch { epoch, order, .. } => {
                self.must_not_answer(order.slot);
                work(epoch, Outcome::Fetched(self.fetch(order)))
            }
            Effect::Erase { slot, .. } => {
                self.must_not_answer(slot);
                let _ = self.slots.erase(&self.disk, slot);
                None
            }
            Effect::Verify { epoch, slot, artifact, .. } => {
                work(epoch, Outcome::Verified(self.verify(slot, artifact).map(|()| 3)))
            }
            Effect::SelfTest { epoch, slot, artifact, .. } => {
                work(epoch, Outcome::Tested(self.self_test(slot, artifact)))
            }
            Effect::Judge { gate, .. } => {
                let (verdict, detail) = (self.judge(gate), String::new());
                Some(Input::Judged { model: model(), gate, verdict, detail })
            }
            Effect::Activate { slot, artifact, .. } => self.activate(slot, artifact),
            Effect::Deactivate { .. } => {
                self.answering = None;
                None
            }
            Effect::AskMetadata { role, version, .. } => {
                let event = match self.phase.files.get(&(role, version)) {
                    Some(bytes) => Event::Fetched { role, bytes: bytes.clone() },
                    None => Event::NotFound { role },
                };
                Some(Input::Metadata(event))
            }
            Effect::Publish { publication: Publication::Report(_), payload } => {
                let report = self.ledger.reported(&payload, self.phase.acks);
                let ack = Ack { spool: report.spool, seqs: vec![(report.seq, report.seq)] };
                let topic = Topic::Ack(settings().device);
                let payload = envelope::seal(&ack);
                self.phase.acks.then_some(Input::Message { topic, payload })
            }
            _ => None,
        }
    }

    fn must_not_answer(&self, slot: SlotId) {
        let (_, machine) = self.device.models().next().expect("there is a model");
        assert_ne!(machine.record().active, Some(slot), "the slot of what answers");
    }

    fn fetch(&self, order: Order) -> Result<(), Fault> {
        let mut fetch = Fetch::new(fetch::Order {
            artifact: order.artifact,
            manifest_length: order.manifest_length,
            slot: self.slots.path(order.slot),
            other_slot: self.slots.path(order.slot.other()),
        });
        let mut rest: &[u8] = &[];
        loop {
            let input = match fetch.wants() {
                fetch::Effect::Work => fetch::Input::Work,
                fetch::Effect::Ask { digest, offset } => {
                    rest = &self.scene.blobs[&digest][offset as usize..];
                    fetch::Input::Answered { start: Some(offset) }
                }
                fetch::Effect::Read if rest.is_empty() => fetch::Input::Ended,
                fetch::Effect::Read => {
                    let (chunk, left) = rest.split_at(rest.len().min(1_000));
                    rest = left;
                    fetch::Input::Chunk(chunk)
                }
                fetch::Effect::Pause { .. } => fetch::Input::Waited,
                fetch::Effect::Done(done) => {
                    return done
                        .map_err(|error| Fault { reason: error.reason, detail: error.detail });
                }
            };
            fetch.step(&self.disk, self.ms, input);
        }
    }

    fn verify(&self, slot: SlotId, artifact: Digest) -> Result<(), Fault> {
        let checked = self.slots.verify(&self.disk, slot, artifact, &model());
        let fault = |error: store::slots::SlotError| Fault {
            reason: error.reason,
            detail: error.to_string(),
        };
        checked.map(drop).map_err(fault)
    }

    fn self_test(&mut self, slot: SlotId, artifact: Digest) -> Result<String, Fault> {
        self.verify(slot, artifact)?;
        if self.scene.flaws.get(&artifact) == Some(&Flaw::SelfTest) {
            let detail = "row 1".to_string();
            return Err(Fault { reason: Reason::GoldenMismatch, detail });
        }
        self.at_hand.push(artifact);
        Ok("all rows".to_string())
    }

    fn judge(&self, gate: Gate) -> Verdict {
        let (_, machine) = self.device.models().next().expect("there is a model");
        let judged = match gate {
            Gate::Shadow => machine.candidate(),
            Gate::Trial => machine.active(),
        };
        let flaw = judged.and_then(|(_, artifact)| self.scene.flaws.get(&artifact));
        match (flaw, gate) {
            (Some(Flaw::Shadow), Gate::Shadow) | (Some(Flaw::Trial), Gate::Trial) => {
                Verdict::Failed(Reason::Disagreement)
            }
            _ => Verdict::Passed,
        }
    }

    fn activate(&mut self, slot: SlotId, artifact: Digest) -> Option<Input> {
        if !self.at_hand.contains(&artifact)
            && let Err(fault) = self.verify(slot, artifact)
            && !self.disk.is_off()
        {
            panic!("what should answer cannot be loaded: {}", fault.detail);
        }
        self.ledger.activated(artifact, self.device.trusted());
        self.at_hand = self.answering.replace(artifact).into_iter().collect();
        None
    }
}

fn window(number: u64) -> Window {
    Window {
        model: model(),
        artifact: ArtifactRef { digest: Digest::of(b"m"), version: "1.0.0".parse().unwrap() },
        boot: 1,
        window: number,
        opened: 0,
        closed: 1,
        rows: 10,
        errors: 0,
        reference: None,
        features: vec![],
        outputs: None,
        latency: tidegate_drift::LatencySummary::default(),
        bad_inputs: 0,
        humility: Default::default(),
        feedback: None,
    }
}

/// A device that has just enrolled.
pub fn enrolled(scene: &Scene) -> MemoryDisk {
    let disk = MemoryDisk::default();
    store::make_folders(&disk).unwrap();
    TrustStore::new(&disk).persist(tidegate_trust::Role::Root, &scene.root).unwrap();
    disk
}
