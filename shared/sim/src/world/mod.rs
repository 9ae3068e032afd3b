//! A fleet, its servers and its operators under virtual time.

mod controller;
mod lives;
mod network;
pub mod node;
mod operators;
mod release;
mod steps;
mod trouble;
mod view;
mod work;

pub use view::TrustedVersions;

use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_device::spool::LogSpool;
use tidegate_device::{Device, Epoch};
use tidegate_disk::memory::MemoryDisk;
use tidegate_lifecycle::SlotId;
use tidegate_trust::Role;
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::{DeviceId, Digest, ModelName};

use crate::broker::{Broker, Client, Connection, Keep, Message};
use crate::codec::Remembering;
use crate::invariants::{Checks, Seen, Violation};
use crate::mirror::Mirror;
use crate::queue::Queue;
use crate::rng::{Purpose, Stream};
use crate::scenario::{FaultName, Scenario};
use crate::timeline::{Detail, Timeline};
use crate::troubles::ServerTroubles;
use crate::truth::Truth;

use controller::Controller;
use node::{EPOCH, Node};
use release::ReleaseRoom;

/// What a device's unsent reports are kept in: a log on its own disk.
pub type Spool = LogSpool<Rc<MemoryDisk>>;

/// What a device decides with: the agent's own.
pub type Brain = Device<Rc<MemoryDisk>, Spool, Remembering>;

/// What lies ahead.
#[derive(Debug)]
enum Event {
    Begins {
        fault: usize,
    },
    Ends {
        fault: usize,
    },
    Acts {
        act: usize,
    },
    Closes,
    Boots {
        node: usize,
        life: u32,
    },
    Dies {
        node: usize,
        life: u32,
    },
    Tick {
        node: usize,
        life: u32,
        at_ms: u64,
    },
    WindowFull {
        node: usize,
        life: u32,
        serial: u32,
    },
    Connects {
        node: usize,
        life: u32,
    },
    Breaks {
        node: usize,
        connection: Connection,
    },
    Notices {
        node: usize,
        life: u32,
        connection: Connection,
    },
    BrokerNotices {
        id: u32,
        connection: Connection,
    },
    AtBroker {
        node: usize,
        id: u32,
        connection: Connection,
        message: Message,
        keep: Keep,
    },
    AtDevice {
        client: Client,
        connection: Connection,
        message: Message,
    },
    Fetching {
        node: usize,
        life: u32,
        epoch: Epoch,
        answer: Option<(Digest, u64)>,
    },
    Verified {
        node: usize,
        life: u32,
        model: ModelName,
        epoch: Epoch,
        slot: SlotId,
        artifact: Digest,
    },
    Tested {
        node: usize,
        life: u32,
        model: ModelName,
        epoch: Epoch,
        slot: SlotId,
        artifact: Digest,
    },
    Metadata {
        node: usize,
        life: u32,
        role: Role,
        version: Option<u64>,
        length_max: usize,
    },
    ControllerBoots,
    ControllerConnects {
        life: u32,
    },
    ControllerPlans {
        life: u32,
    },
    ControllerStores {
        life: u32,
    },
}

/// The fleet and everything around it.
pub struct World {
    scenario: Scenario,
    now_ms: u64,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    broker: Broker,
    mirror: Mirror,
    controller: Controller,
    release_room: ReleaseRoom,
    references: BTreeMap<Digest, DriftReference>,
    truth: Truth,
    /// Which faults have begun and not ended.
    active: Vec<bool>,
    servers: ServerTroubles,
    servers_dice: Stream,
    injected: BTreeMap<FaultName, u64>,
    timeline: Timeline,
    checks: Option<Box<Checks>>,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The invariant that was broken, if one was.
    pub violation: Option<Violation>,
    /// How often each invariant was looked at.
    pub checked: Vec<(&'static str, u64)>,
    /// Faults that were injected, by kind.
    pub injected: BTreeMap<FaultName, u64>,
    /// Hours of virtual time, times devices.
    pub device_hours: u64,
    /// Events.
    pub events: u64,
    /// Tells two runs apart.
    pub digest: u64,
    /// What happened, for people.
    pub timeline: String,
}

/// Hours for which nothing new happens before everything is looked at; see [`operators`].
pub const QUIET_HOURS: u64 = operators::CLOSING_HOURS + crate::invariants::LIVENESS_HOURS;

/// Runs a scenario to its end, or to the first invariant that is broken.
pub fn run(scenario: &Scenario, detail: Detail) -> Outcome {
    let mut world = World::new(scenario.clone(), detail);
    world.run();
    world.outcome()
}

impl World {
    fn new(scenario: Scenario, detail: Detail) -> Self {
        let seed = scenario.seed;
        let mut mirror = Mirror::default();
        let timestamp_s = u64::from(scenario.settings.timestamp_hours) * 3_600;
        let release_room = ReleaseRoom::new(EPOCH, timestamp_s, &mut mirror.files);
        let nodes = (0..scenario.devices).map(|id| Node::new(seed, id, id)).collect();
        let active = vec![false; scenario.faults.len()];
        let mut world = Self {
            scenario,
            now_ms: 0,
            queue: Queue::default(),
            nodes,
            broker: Broker::default(),
            mirror,
            controller: Controller::new(seed),
            release_room,
            references: BTreeMap::new(),
            truth: Truth::default(),
            active,
            servers: ServerTroubles::default(),
            servers_dice: Stream::new(seed, Purpose::Servers, 0),
            injected: BTreeMap::new(),
            timeline: Timeline::new(detail),
            checks: Some(Box::default()),
        };
        world.plan_everything();
        world.queue.push(0, Event::ControllerBoots);
        for node in 0..world.nodes.len() {
            world.plan_boot(node);
        }
        world
    }

    fn end_ms(&self) -> u64 {
        (self.scenario.hours + QUIET_HOURS) * steps::HOUR_MS
    }

    fn run(&mut self) {
        let end_ms = self.end_ms();
        while self.queue.next_ms().is_some_and(|at_ms| at_ms <= end_ms) {
            let Some((at_ms, event)) = self.queue.pop() else { break };
            self.now_ms = at_ms;
            self.happen(event);
            if self.is_broken() {
                return;
            }
        }
        self.now_ms = end_ms;
        self.look(Seen::Ended);
    }

    fn is_broken(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.violation.is_some())
    }

    fn after(&mut self, wait_ms: u64, event: Event) {
        self.queue.push(self.now_ms.saturating_add(wait_ms), event);
    }

    /// Shows something to the checkers.
    fn look(&mut self, seen: Seen<'_>) {
        if let Some(mut checks) = self.checks.take() {
            checks.look(&seen, self);
            self.checks = Some(checks);
        }
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begins { fault } => self.begins(fault),
            Event::Ends { fault } => self.ends(fault),
            Event::Acts { act } => self.acts(act),
            Event::Closes => self.closes(),
            Event::BrokerNotices { id, connection } => self.broker_notices(id, connection),
            Event::Breaks { node, connection } => self.break_off(node, connection),
            Event::AtBroker { node, id, connection, message, keep } => {
                self.at_broker(node, id, connection, message, keep);
            }
            Event::AtDevice { client, connection, message } => {
                self.timeline.count(self.now_ms, 1, u64::from(client.node));
                self.at_device(client, connection, message);
            }
            Event::ControllerBoots => self.controller_boots(),
            Event::ControllerConnects { life } if life == self.controller.life => {
                self.controller_connects();
            }
            Event::ControllerPlans { life } if life == self.controller.life => {
                self.controller_plans();
            }
            Event::ControllerStores { life } if life == self.controller.life => {
                self.controller_stores();
            }
            Event::ControllerConnects { .. }
            | Event::ControllerPlans { .. }
            | Event::ControllerStores { .. } => {}
            of_node => self.happen_at_node(of_node),
        }
    }

    /// What befalls one run of an agent, if it still runs.
    fn happen_at_node(&mut self, event: Event) {
        match event {
            Event::Boots { node, life } if self.lives(node, life) => self.boot(node),
            Event::Dies { node, life } if self.lives(node, life) => self.dies(node),
            Event::Tick { node, life, at_ms } if self.lives(node, life) => self.tick(node, at_ms),
            Event::WindowFull { node, life, serial }
                if self.lives(node, life) && self.nodes[node].serial == serial =>
            {
                self.window_full(node);
            }
            Event::Connects { node, life } if self.lives(node, life) => self.connect(node),
            Event::Notices { node, life, connection } if self.lives(node, life) => {
                self.notices(node, connection);
            }
            Event::Fetching { node, life, epoch, answer } if self.lives(node, life) => {
                self.drive_fetch(node, epoch, answer);
            }
            Event::Verified { node, life, model, epoch, slot, artifact }
                if self.lives(node, life) =>
            {
                self.verify(node, model, epoch, slot, artifact);
            }
            Event::Tested { node, life, model, epoch, slot, artifact }
                if self.lives(node, life) =>
            {
                self.self_test(node, model, epoch, slot, artifact);
            }
            Event::Metadata { node, life, role, version, length_max } if self.lives(node, life) => {
                self.metadata(node, role, version, length_max);
            }
            _ => {}
        }
    }

    fn outcome(self) -> Outcome {
        let hours = self.now_ms / steps::HOUR_MS;
        let checks = self.checks.unwrap_or_default();
        Outcome {
            violation: checks.violation.clone(),
            checked: checks.counts(),
            injected: self.injected,
            device_hours: hours * u64::from(self.scenario.devices),
            events: self.queue.made(),
            digest: self.timeline.digest(),
            timeline: self.timeline.text(),
        }
    }
}

/// The number of a device's id.
fn number_of(device: &DeviceId) -> u32 {
    device.as_str()[1..].parse().unwrap_or(u32::MAX)
}
