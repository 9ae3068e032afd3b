//! A device on a disk in memory, and a fleet that signs for it. Work is answered well unless a test
//! says otherwise; time stands still unless a test moves it.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tidegate_device::spool::{Backlog, LogSpool, Sender, SpoolLimits};
use tidegate_device::store;
use tidegate_device::store::trust::TrustStore;
use tidegate_device::{
    Device, Effect, Effects, Fault, Gate, Input, Moment, Outcome, Publication, Settings,
};
use tidegate_disk::memory::MemoryDisk;
use tidegate_lifecycle::Machine;
use tidegate_lifecycle::gates::Verdict;
use tidegate_trust::release::{self, Keyring, Roster};
use tidegate_trust::{
    DeviceFacts, EngineFacts, Event, Requirements, Role, SigningKey, Stored, Targets, Trusted,
    sign_directive,
};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::report::Status;
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Generation, Labels, ModelName, Reason, envelope};

pub const NOW: u64 = 1_800_000_000;
pub const LATER: u64 = 1_900_000_000;

pub fn model() -> ModelName {
    "digits".parse().unwrap()
}

/// Publishers, controller and metadata server in one.
pub struct Fleet {
    pub publisher: SigningKey,
    pub online: SigningKey,
    pub root: Vec<u8>,
    pub targets: Targets,
    pub stored: Stored,
    pub files: BTreeMap<(Role, Option<u64>), Vec<u8>>,
    /// Nobody can be asked.
    pub closed: bool,
}

fn ring(key: &SigningKey) -> Keyring {
    Keyring { keys: vec![key.public()], threshold: 1 }
}

fn roster(publisher: &SigningKey, online: &SigningKey) -> Roster {
    Roster {
        root: ring(publisher),
        targets: ring(publisher),
        snapshot: ring(online),
        timestamp: ring(online),
        director: ring(online),
    }
}

impl Fleet {
    pub fn new() -> Self {
        let (publisher, online) =
            (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let root = release::initial("test".parse().unwrap(), &roster(&publisher, &online), LATER);
        let root = release::sign_metadata(&root.unwrap(), &[&publisher]);
        let targets = release::first_targets("test".parse().unwrap(), LATER);
        let stored = Stored { root: root.clone(), timestamp: None, snapshot: None, targets: None };
        let files = BTreeMap::new();
        let mut fleet = Self { publisher, online, root, targets, stored, files, closed: false };
        fleet.publish(LATER);
        fleet
    }

    /// Signs and serves the present targets.
    pub fn publish(&mut self, expires: u64) {
        let trusted: Trusted = Trusted::recover(self.stored.clone()).unwrap().trusted;
        let targets = release::sign_metadata(&self.targets, &[&self.publisher]);
        let snapshot = release::next_snapshot(&trusted, &self.targets, &targets, LATER);
        let snapshot_bytes = release::sign_metadata(&snapshot, &[&self.online]);
        let timestamp =
            release::next_timestamp(&trusted, &snapshot, &snapshot_bytes, NOW - 9, expires);
        let timestamp_bytes = release::sign_metadata(&timestamp, &[&self.online]);
        self.files.insert((Role::Timestamp, None), timestamp_bytes.clone());
        self.files.insert((Role::Snapshot, Some(snapshot.version)), snapshot_bytes.clone());
        self.files.insert((Role::Targets, Some(self.targets.version)), targets.clone());
        self.stored = Stored {
            root: self.root.clone(),
            timestamp: Some(timestamp_bytes),
            snapshot: Some(snapshot_bytes),
            targets: Some(targets),
        };
    }

    /// The controller's keys are other ones from now on.
    pub fn rotate(&mut self) {
        let trusted: Trusted = Trusted::recover(self.stored.clone()).unwrap().trusted;
        self.online = SigningKey::from_seed(&[3; 32]);
        let roster = roster(&self.publisher, &self.online);
        let root = release::rotate(trusted.root(), &roster, LATER).unwrap();
        self.root = release::sign_metadata(&root, &[&self.publisher]);
        self.files.insert((Role::Root, Some(root.version)), self.root.clone());
        let targets = self.stored.targets.clone();
        let root = self.root.clone();
        self.stored = Stored { root, timestamp: None, snapshot: None, targets };
        self.publish(LATER);
    }

    pub fn release(&mut self, version: &str) -> ArtifactRef {
        self.targets = release::next_targets(&self.targets, LATER);
        let manifest = format!("manifest of {version}");
        let version = version.parse().unwrap();
        let needs = Requirements::default();
        let added = self.targets.add_artifact(&model(), &version, manifest.as_bytes(), needs);
        self.publish(LATER);
        added.unwrap()
    }

    pub fn revoke(&mut self, artifact: &ArtifactRef) {
        self.targets = release::next_targets(&self.targets, LATER);
        self.targets.revoke(&model(), &artifact.version, "it is unfit").unwrap();
        self.publish(LATER);
    }

    pub fn directive(&self, generation: u64, artifact: &ArtifactRef) -> Vec<u8> {
        self.directive_by(&self.online, generation, artifact)
    }

    pub fn directive_by(
        &self,
        key: &SigningKey,
        generation: u64,
        artifact: &ArtifactRef,
    ) -> Vec<u8> {
        let rule = Rule {
            selector: Labels::new(),
            include: vec![],
            exclude: vec![],
            salt: [7; 16],
            limit: LIMIT_ALL,
            artifact: artifact.clone(),
            since: Generation(generation),
        };
        let directive = Directive {
            fleet: "test".parse().unwrap(),
            model: model(),
            generation: Generation(generation),
            issued: NOW - 9,
            expires: LATER,
            rules: vec![rule],
            reason: None,
        };
        sign_directive(key, &directive)
    }

    fn answer(&self, role: Role, version: Option<u64>) -> Event {
        match self.files.get(&(role, version)) {
            _ if self.closed => Event::FetchFailed { role, reason: Reason::Unreachable },
            Some(bytes) => Event::Fetched { role, bytes: bytes.clone() },
            None => Event::NotFound { role },
        }
    }
}

type TheDevice = Device<Rc<MemoryDisk>, MemorySpool>;

/// The device and what surrounds it.
pub struct World {
    pub fleet: Fleet,
    pub disk: Rc<MemoryDisk>,
    pub device: TheDevice,
    pub ms: u64,
    pub unix: u64,
    /// What was to be done, and was done.
    pub done: Vec<Effect>,
    /// Work that is not answered by itself.
    pub by_hand: fn(&Effect) -> bool,
    /// Whether answers come later: then they are kept in `later`.
    pub is_slow: bool,
    pub later: Vec<Input>,
    pub verdict: Verdict,
    /// Artifacts that the engine cannot load.
    pub unusable: Vec<ArtifactRef>,
}

pub fn settings() -> Settings {
    Settings {
        device: "pi-1".parse().unwrap(),
        facts: DeviceFacts {
            engines: vec![EngineFacts { name: "any".to_string(), opset_max: 18 }],
            agent: "0.1.0".parse().unwrap(),
            memory_mib: 512,
            labels: Labels::new(),
        },
        agent: "0.1.0".to_string(),
        api: "127.0.0.1:1".to_string(),
        instance: 1,
        seed: 1,
        heartbeat_ms: 60_000,
        judge_every_ms: 100,
        jitter_ms_max: 30_000,
        death: Default::default(),
    }
}

impl World {
    /// A device that has just enrolled.
    pub fn new(fleet: Fleet) -> Self {
        let disk = Rc::new(MemoryDisk::default());
        store::make_folders(&disk).unwrap();
        TrustStore::new(&disk).persist(Role::Root, &fleet.root).unwrap();
        Self::start(fleet, disk)
    }

    /// A device that starts with what lies on its disk.
    pub fn start(fleet: Fleet, disk: Rc<MemoryDisk>) -> Self {
        Self::start_at(fleet, disk, Vec::new(), NOW)
    }

    pub fn start_at(
        fleet: Fleet,
        disk: Rc<MemoryDisk>,
        unusable: Vec<ArtifactRef>,
        unix: u64,
    ) -> Self {
        let (device, effects) = recover(&disk, Moment { ms: 0, unix });
        let mut world = Self {
            fleet,
            disk,
            device,
            ms: 0,
            unix,
            done: Vec::new(),
            by_hand: |_| false,
            is_slow: false,
            later: Vec::new(),
            verdict: Verdict::Passed,
            unusable,
        };
        world.carry_out(effects);
        world
    }

    /// The agent is killed and starts again.
    pub fn restart(self) -> Self {
        Self::start_at(self.fleet, self.disk, self.unusable, self.unix)
    }

    pub fn step(&mut self, input: Input) {
        let effects = self.device.step(Moment { ms: self.ms, unix: self.unix }, input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        let mut inputs: VecDeque<Input> = VecDeque::new();
        let mut effects = effects;
        for _ in 0..1_000 {
            for effect in &effects {
                match self.answer(effect) {
                    Some(input) if self.is_slow && takes_long(&input) => self.later.push(input),
                    input => inputs.extend(input),
                }
            }
            self.done.append(&mut effects);
            let now = Moment { ms: self.ms, unix: self.unix };
            let deadline = self.device.deadline();
            assert!(deadline.is_none_or(|at| at > self.ms), "{deadline:?} is not in the future");
            let Some(input) = inputs.pop_front() else { return };
            effects = self.device.step(now, input);
        }
        panic!("the device is never done: {:?}", self.done.last());
    }

    /// What comes of it, if all goes well.
    pub fn answer(&self, effect: &Effect) -> Option<Input> {
        if (self.by_hand)(effect) {
            return None;
        }
        let answer = |model: &ModelName, epoch, outcome| {
            Some(Input::Answer { model: model.clone(), epoch, outcome })
        };
        match effect {
            Effect::AskMetadata { role, version, .. } => {
                Some(Input::Metadata(self.fleet.answer(*role, *version)))
            }
            Effect::Fetch { model, epoch, .. } => answer(model, *epoch, Outcome::Fetched(Ok(()))),
            Effect::Verify { model, epoch, .. } => answer(model, *epoch, Outcome::Verified(Ok(3))),
            Effect::SelfTest { model, epoch, .. } => {
                answer(model, *epoch, Outcome::Tested(Ok("all rows".to_string())))
            }
            Effect::Judge { model, gate } => Some(Input::Judged {
                model: model.clone(),
                gate: *gate,
                verdict: self.verdict,
                detail: "by the test".to_string(),
            }),
            Effect::Activate { model, artifact, .. }
                if self.unusable.iter().any(|it| it.digest == *artifact) =>
            {
                let fault = Fault { reason: Reason::DigestMismatch, detail: "bits".to_string() };
                let (model, artifact) = (model.clone(), *artifact);
                Some(Input::ActivationFailed { model, artifact, still: None, fault })
            }
            _ => None,
        }
    }

    /// Time goes on; the device is asked whenever it wants to be.
    pub fn pass(&mut self, ms: u64) {
        let until = self.ms + ms;
        while let Some(at) = self.device.deadline().filter(|at| *at <= until) {
            self.unix += (at - self.ms) / 1_000;
            self.ms = at;
            self.step(Input::Tick);
        }
        self.ms = until;
    }

    pub fn direct(&mut self, payload: Vec<u8>) {
        self.step(Input::Message { topic: Topic::Directive(model()), payload });
    }

    /// The controller says that there is newer metadata.
    pub fn nudge(&mut self) {
        let payload = self.fleet.stored.timestamp.clone().unwrap();
        self.step(Input::Message { topic: Topic::Timestamp, payload });
    }

    /// What was done since the last look.
    pub fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.done)
    }

    /// How often metadata was asked for since the last look.
    pub fn refreshes(&mut self) -> usize {
        let is_first = |e: &&Effect| matches!(e, Effect::AskMetadata { role: Role::Root, .. });
        self.done().iter().filter(is_first).count()
    }

    pub fn machine(&self) -> &Machine {
        let name = model();
        let found = self.device.models().find(|(known, _)| **known == name);
        found.expect("the device has the model").1
    }

    /// The last status that was published since the last look.
    pub fn status(&mut self) -> Option<Status> {
        let published = self.done().into_iter().rev().find_map(|effect| match effect {
            Effect::Publish { publication: Publication::Status, payload } => Some(payload),
            _ => None,
        });
        published.map(|payload| envelope::open(&payload).unwrap())
    }

    /// Brings a model to its commit.
    pub fn commit(&mut self, generation: u64, artifact: &ArtifactRef) {
        let directive = self.fleet.directive(generation, artifact);
        self.direct(directive);
        self.pass(60_000);
        assert_eq!(self.machine().active().map(|(_, digest)| digest), Some(artifact.digest));
        assert_eq!(self.machine().candidate(), None);
    }
}

fn takes_long(input: &Input) -> bool {
    matches!(input, Input::Answer { .. } | Input::Metadata(_))
}

pub fn position(effects: &[Effect], is_it: impl Fn(&Effect) -> bool) -> usize {
    let found = effects.iter().position(is_it);
    found.unwrap_or_else(|| panic!("not among {effects:?}"))
}

pub fn is_about_a_gate(effect: &Effect, which: Gate) -> bool {
    matches!(effect, Effect::Judge { gate, .. } if *gate == which)
}

type MemorySpool = LogSpool<Rc<MemoryDisk>>;

fn recover(disk: &Rc<MemoryDisk>, now: Moment) -> (TheDevice, Effects) {
    let stored = TrustStore::new(disk).load().unwrap().unwrap();
    let trusted = Trusted::recover(stored).unwrap().trusted;
    let sender = Sender { fleet: trusted.fleet().clone(), device: settings().device };
    let limits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 20 };
    let backlog = Backlog::new(LogSpool::new(Rc::clone(disk), 7), sender, limits);
    Device::recover(settings(), Rc::clone(disk), backlog, trusted, now)
}
