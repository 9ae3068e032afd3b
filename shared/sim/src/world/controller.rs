//! The controller's machine: journal, books, planner, and its session at the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidegate_control::announce::{self, Owed};
use tidegate_control::books::Books;
use tidegate_control::certificate::IssuedCertificate;
use tidegate_control::hearing::Hearing;
use tidegate_control::ingest::{self, Acks, Said};
use tidegate_control::journal::{Ending, Journal};
use tidegate_control::planner::{self, PLANNER, Surroundings};
use tidegate_control::state::{Record, State};
use tidegate_control::{Decided, Entry};
use tidegate_disk::Fault as DiskFault;
use tidegate_disk::memory::MemoryDisk;
use tidegate_rollout::{ArtifactFacts, Evidence, FleetView, Rollout, RolloutId};
use tidegate_trust::sign_directive;
use tidegate_wire::directive::Directive;
use tidegate_wire::envelope;
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest, Labels, ModelName};

use super::lives::wrecked;
use super::release::{ReleaseRoom, fleet};
use super::{EPOCH, Event, World};
use crate::broker::{Keep, Message, Place};
use crate::invariants::{DiskState, Seen};
use crate::rng::{Purpose, Stream};
use crate::scenario::Wreck;
use crate::timeline::Detail;

/// Milliseconds from a death to the next start, at most.
const BOOT_MS_MAX: u64 = 30_000;
/// Milliseconds between two attempts at the broker, at most.
const CONNECT_MS_MAX: u64 = 2_000;

/// The controller's machine.
pub struct Controller {
    /// The disk with the journal.
    pub disk: Rc<MemoryDisk>,
    /// What telemetry has stored: a database that writes a batch as a whole or not at all.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// The process, while it runs.
    pub running: Option<Running>,
    /// How often it was started.
    pub life: u32,
    /// Devices that enrolled: certificates are not simulated, so neither is their journal.
    enrolled: Vec<Entry>,
    enrolled_ids: BTreeSet<DeviceId>,
    dice: Stream,
    wreck: Option<Wreck>,
    away: bool,
}

/// The controller's process.
pub struct Running {
    journal: Journal<Rc<MemoryDisk>>,
    /// What was decided.
    pub state: State,
    /// What was reported.
    pub books: Books,
    incoming: Vec<Message>,
    store_planned: bool,
    /// Whether its session at the broker is up.
    pub connected: bool,
    owed: Owed,
    hearing: Hearing,
    signed_under: u64,
}

struct Around<'a> {
    books: &'a Books,
    room: &'a ReleaseRoom,
    reference: Option<&'a DriftReference>,
    heard_since_ms: u64,
}

impl Surroundings for Around<'_> {
    fn facts(&self, model: &ModelName) -> ArtifactFacts {
        planner::facts(self.room.targets(), model)
    }

    fn observed(&self, state: &State, rollout: &Rollout) -> (FleetView, Evidence) {
        let fleet = self.books.fleet_view(state, rollout).heard_since(self.heard_since_ms);
        (fleet, self.books.evidence(rollout, self.reference))
    }

    fn sign(&self, directive: &Directive) -> Vec<u8> {
        sign_directive(&self.room.keys().director(), directive)
    }
}

impl Controller {
    /// A machine that was never switched on.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Rc::default(),
            documents: BTreeMap::new(),
            running: None,
            life: 0,
            enrolled: Vec::new(),
            enrolled_ids: BTreeSet::new(),
            dice: Stream::new(seed, Purpose::Controller, 0),
            wreck: None,
            away: false,
        }
    }

    /// What was decided, as the process knows it.
    pub fn state(&self) -> Option<&State> {
        self.running.as_ref().map(|running| &running.state)
    }

    /// What was reported, as the process knows it.
    pub fn books(&self) -> Option<&Books> {
        self.running.as_ref().map(|running| &running.books)
    }

    /// A salt for a rollout.
    pub fn salt(&mut self) -> [u8; 16] {
        self.dice.salt()
    }
}

impl World {
    fn unix_ms(&self) -> u64 {
        EPOCH * 1_000 + self.now_ms
    }

    /// Plans that the controller starts soon.
    pub(super) fn plan_controller_boot(&mut self) {
        let wait = 1_000 + self.controller.dice.below(BOOT_MS_MAX);
        self.after(wait, Event::ControllerBoots);
    }

    /// Plans that the controller looks for the broker soon.
    pub(super) fn plan_controller_connect(&mut self) {
        let (wait, life) = (self.controller.dice.below(CONNECT_MS_MAX), self.controller.life);
        self.after(wait, Event::ControllerConnects { life });
    }

    /// The controller starts, and rebuilds what it knows from its disk.
    pub(super) fn controller_boots(&mut self) {
        if self.controller.running.is_some() || self.controller.away {
            return;
        }
        let disk = Rc::clone(&self.controller.disk);
        let opened = match Journal::open(disk, Ending::Checked) {
            Ok(opened) => opened,
            Err(error) => {
                if self.controller.disk.is_off() {
                    return self.controller_dies();
                }
                let detail = error.to_string();
                self.timeline.note(Detail::Usual, self.now_ms, || {
                    format!("the controller does not start: {detail}")
                });
                let disk = match self.servers.controller_full {
                    true => DiskState::Full,
                    false => DiskState::Sound,
                };
                self.look(Seen::ControllerRefuses { detail: &error.to_string(), disk });
                // A full disk may have room again.
                return self.plan_controller_boot();
            }
        };
        let mut state = State::default();
        self.controller.enrolled.iter().for_each(|entry| state.apply(entry));
        opened.entries.iter().for_each(|(entry, _)| state.apply(entry));
        let books = Books::read(&self.controller.documents);
        self.controller.life += 1;
        self.controller.running = Some(Running {
            journal: opened.journal,
            state,
            books,
            incoming: Vec::new(),
            store_planned: false,
            connected: false,
            owed: Owed::Nothing,
            hearing: Hearing::default(),
            signed_under: 0,
        });
        let entries: Vec<Entry> = opened.entries.into_iter().map(|(entry, _)| entry).collect();
        self.look(Seen::ControllerBooted { entries: &entries });
        self.plan_controller_connect();
        let life = self.controller.life;
        self.after(1_000, Event::ControllerPlans { life });
    }

    /// The controller's session comes about: it hears what is retained and announces everything.
    pub(super) fn controller_connects(&mut self) {
        let Some(running) = &mut self.controller.running else { return };
        if running.connected || self.servers.broker_away {
            return;
        }
        running.connected = true;
        running.hearing.up(EPOCH * 1_000 + self.now_ms);
        let mut deliveries = Vec::new();
        self.broker.controller_connects(&mut deliveries);
        self.deliver(deliveries);
        self.announce_everything();
    }

    fn announce_everything(&mut self) {
        let Some(running) = &self.controller.running else { return };
        let all = announce::retained(&running.state, self.release_room.timestamp());
        all.into_iter().for_each(|(topic, bytes)| self.controller_says(topic, bytes));
    }

    /// The broker is gone, and with it the controller's session.
    pub(super) fn controller_lost_broker(&mut self) {
        if let Some(running) = &mut self.controller.running {
            running.connected = false;
            running.hearing.down(EPOCH * 1_000 + self.now_ms);
            self.plan_controller_connect();
        }
    }

    fn controller_says(&mut self, topic: Topic, bytes: Vec<u8>) {
        if !self.controller.running.as_ref().is_some_and(|running| running.connected) {
            // Whatever matters is sent again on the next connection.
            return;
        }
        let (place, keep) = match topic {
            Topic::Timestamp => (Place::Timestamp, Keep::Retain),
            Topic::Directive(model) => (Place::Directive(model), Keep::Retain),
            Topic::Ack(device) => (Place::Ack(super::number_of(&device)), Keep::Pass),
            Topic::Report(_) | Topic::Status(_) => return,
        };
        let message = Message { place, payload: bytes.into() };
        let mut deliveries = Vec::new();
        self.broker.publish(message, keep, &mut deliveries);
        self.deliver(deliveries);
    }

    /// A device's message arrives.
    pub(super) fn controller_hears(&mut self, message: Message) {
        let gather = u64::from(self.scenario.settings.gather_seconds) * 1_000;
        let life = self.controller.life;
        let Some(running) = &mut self.controller.running else { return };
        running.incoming.push(message);
        if !std::mem::replace(&mut running.store_planned, true) {
            self.after(gather.max(10), Event::ControllerStores { life });
        }
    }

    /// What arrived is taken in, stored, and only then acknowledged.
    pub(super) fn controller_stores(&mut self) {
        let unix_ms = self.unix_ms();
        let full = self.servers.controller_full;
        let Some(running) = &mut self.controller.running else { return };
        running.store_planned = false;
        let batch = std::mem::take(&mut running.incoming);
        let (mut reports, mut acks) = (Vec::new(), Acks::default());
        let fleet = fleet();
        for message in batch {
            let topic = match message.place {
                Place::Report(id) => Topic::Report(super::node::device_id(id)),
                Place::Status(id) => Topic::Status(super::node::device_id(id)),
                _ => continue,
            };
            let topic = topic.name(&fleet);
            let said = ingest::read(&fleet, &running.state, topic.as_bytes(), &message.payload);
            match said {
                Ok(Said::Report(report)) => {
                    acks.add(&report);
                    reports.push(report);
                }
                Ok(Said::Status(status)) => running.books.hear(status, unix_ms, &running.state),
                Ok(Said::Nothing) => {}
                Err(_) => running.books.refuse(),
            }
        }
        self.look(Seen::Arriving { reports: &reports });
        let Some(running) = &mut self.controller.running else { return };
        running.books.absorb(reports, &running.state);
        let changes = running.books.changes();
        if full {
            // Nothing is acknowledged; the next batch tries again.
            running.books.unstored(changes);
            return self.look(Seen::NotStored);
        }
        for document in changes.documents {
            match document.bytes {
                Some(bytes) => self.controller.documents.insert(document.name, bytes),
                None => self.controller.documents.remove(&document.name),
            };
        }
        self.look(Seen::Stored);
        // It may die between storing and acknowledging.
        if self.controller.wreck.is_some() && self.controller.dice.chance(20) {
            return self.controller_dies();
        }
        for (topic, ack) in acks.messages() {
            if let Topic::Ack(device) = &topic {
                self.look(Seen::Acknowledged { device, ack: &ack });
            }
            self.controller_says(topic, envelope::seal(&ack));
        }
    }

    /// A device comes in.
    pub(super) fn controller_enrols(&mut self, device: DeviceId, labels: Labels) {
        if !self.controller.enrolled_ids.insert(device.clone()) {
            return;
        }
        let certificate = IssuedCertificate::new([1; 16], 0, u64::MAX);
        let what = Record::DeviceEnrolled {
            device: device.clone(),
            labels,
            public_key: Vec::new(),
            certificate,
            agent: "0.1.0".into(),
            token: Digest([0; 32]),
        };
        let (who, why, previous) = (device.to_string(), String::new(), Digest([0; 32]));
        let entry = Entry { seq: 0, at_ms: self.unix_ms(), who, why, previous, what };
        if let Some(running) = &mut self.controller.running {
            running.state.apply(&entry);
        }
        self.controller.enrolled.push(entry);
    }

    /// Looks at the state, journals what is decided, and then makes it visible. False if nothing
    /// came of it.
    pub(super) fn decide<T>(&mut self, who: &str, decided: Decided<T>) -> Option<T> {
        let now_ms = self.unix_ms();
        let running = self.controller.running.as_mut()?;
        let Some(record) = decided.record else { return Some(decided.value) };
        let appended = running.journal.append(now_ms, who, &decided.why, record);
        let value = match appended {
            Ok((entry, _)) => {
                running.state.apply(&entry);
                let text = entry.what.line();
                self.timeline.note(Detail::Usual, self.now_ms, || format!("{who}: {text}"));
                self.timeline.count_bytes(text.as_bytes());
                self.look(Seen::Decided { entry: &entry });
                Some(decided.value)
            }
            Err(error) => {
                self.timeline.note(Detail::Usual, self.now_ms, || format!("{who}: {error}"));
                None
            }
        };
        // Whoever asked hears nothing more, whatever is on the disk.
        if self.controller.disk.is_off() {
            self.controller_dies();
            return None;
        }
        value
    }

    /// The planner's turn.
    pub(super) fn controller_plans(&mut self) {
        let (now_ms, unix) = (self.unix_ms(), EPOCH + self.now_ms / 1_000);
        if self.release_room.renew(unix, &mut self.mirror.files) {
            self.stamp();
        }
        self.sign_anew();
        self.settle();
        let Some(running) = &mut self.controller.running else { return };
        let newest: Vec<RolloutId> =
            running.state.latest_rollouts().iter().map(|entry| entry.rollout.id).collect();
        running.books.keep_evidence(&newest);
        for id in newest {
            let Some(running) = &self.controller.running else { return };
            let to = running.state.rollouts.get(&id).map(|entry| entry.rollout.to.digest);
            let reference = to.and_then(|to| self.references.get(&to));
            let around = self.around(running, reference, now_ms);
            let decided = planner::plan_rollout(&running.state, id, &around, now_ms);
            if let Some(planned) = self.decide(PLANNER, decided) {
                self.send(planned.sent);
            }
        }
        if self.controller.running.is_some() {
            let wait = u64::from(self.scenario.settings.plan_seconds) * 1_000;
            let life = self.controller.life;
            self.after(wait, Event::ControllerPlans { life });
        }
    }

    fn around<'a>(
        &'a self,
        running: &'a Running,
        reference: Option<&'a DriftReference>,
        now_ms: u64,
    ) -> Around<'a> {
        let heard_since_ms = running.hearing.since_ms(now_ms);
        Around { books: &running.books, room: &self.release_room, reference, heard_since_ms }
    }

    fn sign_anew(&mut self) {
        let trusted = self.release_room.trusted();
        let root = trusted.root().version;
        let Some(running) = &self.controller.running else { return };
        if running.signed_under == root {
            return;
        }
        let around = self.around(running, None, self.unix_ms());
        let decided = planner::sign_anew(&running.state, trusted, &around);
        if let Some(models) = self.decide(PLANNER, decided) {
            if let Some(running) = &mut self.controller.running {
                running.signed_under = root;
            }
            models.into_iter().for_each(|model| self.send(Some(model)));
        }
    }

    fn settle(&mut self) {
        let Some(running) = &mut self.controller.running else { return };
        if running.owed.settle() == Owed::Everything {
            self.announce_everything();
        }
    }

    /// Sends the newest timestamp.
    pub(super) fn stamp(&mut self) {
        if let Some(bytes) = self.release_room.timestamp() {
            self.controller_says(Topic::Timestamp, bytes);
        }
    }

    /// Sends a model's newest directive.
    pub(super) fn send(&mut self, sent: Option<ModelName>) {
        let Some(running) = &self.controller.running else { return };
        let newest = sent.and_then(|model| announce::newest(&running.state, &model));
        if let Some((topic, bytes)) = newest {
            self.controller_says(topic, bytes);
        }
    }

    /// Does with the newest rollout what an operator wishes.
    pub(super) fn command(&mut self, command: planner::RolloutCommand, why: &str) -> bool {
        let now_ms = self.unix_ms();
        let Some(running) = &self.controller.running else { return false };
        let Some(entry) = running.state.latest(&crate::model::model_name()) else { return false };
        let (id, to) = (entry.rollout.id, entry.rollout.to.digest);
        let reference = self.references.get(&to);
        let around = self.around(running, reference, now_ms);
        let act = tidegate_rollout::Act { by: "operator".into(), why: why.into() };
        let decided = planner::command(&running.state, id, command, act, &around, now_ms);
        match decided {
            Ok(decided) => match self.decide("operator", decided) {
                Some(planned) => {
                    self.send(planned.sent);
                    true
                }
                None => false,
            },
            Err(error) => {
                self.timeline.note(Detail::Usual, self.now_ms, || format!("refused: {error}"));
                false
            }
        }
    }

    /// Power will go at a journal operation.
    pub(super) fn arm_controller(&mut self, operation: u64, wreck: Wreck) {
        self.controller.wreck = Some(wreck);
        self.controller.disk.cut_at(operation + 1);
    }

    /// Power stays.
    pub(super) fn disarm_controller(&mut self) {
        self.controller.wreck = None;
        self.controller.disk.cut_at(super::lives::NEVER);
    }

    /// The machine is taken away, with its disk as it is.
    pub(super) fn controller_goes(&mut self) {
        self.controller.away = true;
        self.controller_ends();
    }

    /// The process dies.
    pub(super) fn controller_dies(&mut self) {
        self.timeline.note(Detail::Usual, self.now_ms, || "the controller dies".into());
        let wreck = self.controller.wreck.take().unwrap_or(Wreck::Missing);
        let dice = &mut self.controller.dice;
        let found = wrecked(&self.controller.disk, wreck, || dice.any());
        self.controller.disk = Rc::new(found);
        self.apply_controller_troubles();
        self.controller_ends();
        self.plan_controller_boot();
    }

    fn controller_ends(&mut self) {
        self.controller.running = None;
        self.controller.life += 1;
        self.broker.controller_leaves();
        self.look(Seen::ControllerGone);
    }

    /// Lets the controller's disk be as bad as it is.
    pub(super) fn apply_controller_troubles(&mut self) {
        let full = self.servers.controller_full;
        self.controller.disk.set_refusal(full.then_some(DiskFault::Full));
        self.controller.away = self.servers.controller_away;
    }
}
