//! One machine: disk, clock, engine, and the agent's decisions while it runs.

use std::collections::VecDeque;
use std::rc::Rc;

use tidegate_device::fetch::Fetch;
use tidegate_device::spool::{Backlog, LogSpool, Sender, SpoolLimits};
use tidegate_device::{Epoch, Input, Moment, Settings};
use tidegate_disk::memory::MemoryDisk;
use tidegate_trust::{AgentVersion, DeviceFacts, EngineFacts};
use tidegate_wire::report::Status;
use tidegate_wire::{DeviceId, Labels};

use super::release::fleet;
use super::{Brain, Spool};
use crate::broker::Connection;
use crate::engine::{Figures, Loaded, Serving, Shadow};
use crate::model::ENGINE;
use crate::rng::{Purpose, Stream};
use crate::scenario::Wreck;
use crate::troubles::DeviceTroubles;

/// Unix seconds at the start of every run.
pub const EPOCH: u64 = 1_800_000_000;
/// The version of every agent.
const AGENT: &str = "0.1.0";
/// Milliseconds between two questions to a gate. Coarse: the least trial is twenty minutes.
const JUDGE_EVERY_MS: u64 = 300_000;
/// Milliseconds over which a fleet spreads its downloads.
const JITTER_MS_MAX: u64 = 60_000;

/// The machine's way to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// There is none, and an attempt is planned or waits for better times.
    Down,
    /// It is up.
    Up(Connection),
    /// It is broken, and the machine has not noticed.
    Dead(Connection),
}

/// A direction between a device and the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the broker.
    Up,
    /// To the device.
    Down,
}

/// One machine.
pub struct Node {
    /// The number of its id, which another machine may have too.
    pub id: u32,
    /// Its id.
    pub device: DeviceId,
    /// Its labels.
    pub labels: Labels,
    /// Its disk.
    pub disk: Rc<MemoryDisk>,
    /// The agent, while it runs.
    pub brain: Option<Brain>,
    /// Random, drawn when the agent started.
    pub instance: u64,
    /// How often the agent was started.
    pub life: u32,
    /// Whether it has ever enrolled.
    pub enrolled: bool,
    /// When the agent was started, milliseconds.
    pub booted_ms: u64,
    /// The agent's own number of its start.
    pub boot: u64,
    /// Windows that were closed since.
    pub windows: u64,
    /// Its way to the broker.
    pub link: Link,
    /// Whether its next session begins without what waited.
    pub fresh: bool,
    /// What is wrong with it.
    pub troubles: DeviceTroubles,
    /// When the last message arrives that is on its way, in each direction, milliseconds.
    pub arrived_ms: [u64; 2],
    /// Draws delays and losses.
    pub network: Stream,
    /// Draws inputs.
    pub inputs: Stream,
    /// Draws everything else.
    pub dice: Stream,
    /// What answers.
    pub serving: Option<Serving>,
    /// Rises whenever something else answers.
    pub serial: u32,
    /// What is loaded beside it.
    pub candidate: Option<Rc<Loaded>>,
    /// What answered before it.
    pub previous: Option<Rc<Loaded>>,
    /// A candidate that sees inputs.
    pub shadow: Option<Shadow>,
    /// Until when inputs were answered, milliseconds.
    pub answered_ms: u64,
    /// A download.
    pub fetch: Option<(Epoch, Fetch)>,
    /// When the next tick is planned.
    pub tick_at: Option<u64>,
    /// What happened and was not looked at yet.
    pub inbox: VecDeque<Input>,
    /// What a power cut that is armed leaves.
    pub wreck: Option<Wreck>,
    /// An image of the disk, to come back to.
    pub image: Option<MemoryDisk>,
    /// Figures of what answered before what answers now.
    pub before: Option<Figures>,
    /// Times at which something befell the disk that no agent can make good: checkers must not
    /// blame it for what is lost.
    pub excused: u32,
    /// Times at which it came back as it was some time before.
    pub restored: u32,
    /// Times at which the agent died.
    pub deaths: u32,
    /// It is the second machine with its id.
    pub is_twin: bool,
    /// It is gone for good.
    pub is_buried: bool,
}

impl Node {
    /// A machine that was never switched on.
    pub fn new(seed: u64, index: u32, id: u32) -> Self {
        let stream = |purpose| Stream::new(seed, purpose, u64::from(index));
        Self {
            id,
            device: device_id(id),
            labels: labels(id),
            disk: Rc::default(),
            brain: None,
            instance: 0,
            life: 0,
            enrolled: false,
            booted_ms: 0,
            boot: 0,
            windows: 0,
            link: Link::Down,
            fresh: true,
            troubles: DeviceTroubles::default(),
            arrived_ms: [0; 2],
            network: stream(Purpose::Network),
            inputs: stream(Purpose::Engine),
            dice: stream(Purpose::Device),
            serving: None,
            serial: 0,
            candidate: None,
            previous: None,
            shadow: None,
            answered_ms: 0,
            fetch: None,
            tick_at: None,
            inbox: VecDeque::new(),
            wreck: None,
            image: None,
            before: None,
            excused: 0,
            restored: 0,
            deaths: 0,
            is_twin: false,
            is_buried: false,
        }
    }

    /// The time by its own clocks.
    pub fn moment(&self, now_ms: u64) -> Moment {
        Moment { ms: now_ms.saturating_sub(self.booted_ms), unix: self.unix(now_ms) }
    }

    /// Unix seconds by its own clock.
    pub fn unix(&self, now_ms: u64) -> u64 {
        if self.troubles.no_clock {
            return now_ms.saturating_sub(self.booted_ms) / 1_000;
        }
        (EPOCH + now_ms / 1_000).saturating_add_signed(self.troubles.clock_s)
    }

    /// Whether the agent runs.
    pub fn runs(&self) -> bool {
        self.brain.is_some()
    }

    /// Whether it runs and anything gets through.
    pub fn is_reachable(&self) -> bool {
        self.runs() && !self.troubles.offline
    }

    /// Milliseconds that something takes on its way.
    pub fn delay_ms(&mut self) -> u64 {
        let mut delay = 20 + self.network.below(60);
        if self.troubles.slow_ms > 0 {
            delay += self.network.below(self.troubles.slow_ms);
        }
        delay
    }

    /// When a message arrives that sets out now: a connection keeps the order of what is sent in
    /// one direction, unless messages overtake one another.
    pub fn arrives_ms(&mut self, way: Way, now_ms: u64) -> u64 {
        let at_ms = now_ms + self.delay_ms();
        if self.troubles.reorders > 0 && self.network.chance(self.troubles.reorders) {
            return at_ms + self.network.below(self.troubles.late_ms);
        }
        let last = &mut self.arrived_ms[way as usize];
        *last = at_ms.max(*last);
        *last
    }

    /// What the broker is to say on its behalf when it is gone.
    pub fn goodbye(&self) -> Status {
        Status {
            device: self.device.clone(),
            agent: AGENT.to_owned(),
            online: false,
            instance: self.instance,
            labels: self.labels.clone(),
            models: Vec::new(),
            api: self.api(),
            spooled: 0,
            dropped: 0,
            refused: Vec::new(),
        }
    }

    /// What an agent is told that starts now.
    pub fn settings(&mut self, heartbeat_hours: u32) -> Settings {
        self.instance = self.dice.any();
        Settings {
            device: self.device.clone(),
            facts: facts(&self.labels),
            agent: AGENT.to_owned(),
            api: self.api(),
            instance: self.instance,
            seed: self.dice.any(),
            heartbeat_ms: u64::from(heartbeat_hours) * 3_600_000,
            judge_every_ms: JUDGE_EVERY_MS,
            jitter_ms_max: JITTER_MS_MAX,
            death: Default::default(),
        }
    }

    fn api(&self) -> String {
        format!("127.0.0.1:{}", 1_024 + self.id % 60_000)
    }

    /// Its unsent reports.
    pub fn backlog(&mut self) -> Backlog<Spool> {
        let store = LogSpool::new(Rc::clone(&self.disk), self.dice.any());
        let sender = Sender { fleet: fleet(), device: self.device.clone() };
        Backlog::new(store, sender, SpoolLimits { entries_max: 1_000, bytes_max: 4 << 20 })
    }

    /// Forgets everything that a process has in memory.
    pub fn forget_process(&mut self) {
        self.brain = None;
        self.life += 1;
        self.deaths += 1;
        self.before = None;
        self.serving = None;
        self.serial += 1;
        self.candidate = None;
        self.previous = None;
        self.shadow = None;
        self.fetch = None;
        self.tick_at = None;
        self.inbox.clear();
        self.fresh = true;
    }
}

/// The id with a number.
pub fn device_id(id: u32) -> DeviceId {
    format!("d{id}").parse().expect("it is an id")
}

/// The labels of the device with a number: two sites.
pub fn labels(id: u32) -> Labels {
    let site = if id.is_multiple_of(3) { "north" } else { "south" };
    [("site".to_owned(), site.to_owned())].into()
}

/// What every device has.
pub fn facts(labels: &Labels) -> DeviceFacts {
    DeviceFacts {
        engines: vec![EngineFacts { name: ENGINE.to_owned(), opset_max: 0 }],
        agent: AgentVersion([0, 1, 0]),
        memory_mib: 1_024,
        labels: labels.clone(),
    }
}
