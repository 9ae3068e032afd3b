//! Faults begin and end.

use std::rc::Rc;

use tidegate_disk::Fault as DiskFault;
use tidegate_disk::memory::Bad;

use super::node::Node;
use super::{Event, World};
use crate::broker::{Memory, ROOM};
use crate::scenario::{Fault, FaultKind};
use crate::timeline::Detail;
use crate::troubles::{DeviceTroubles, ServerTroubles};

impl World {
    /// Plans all faults and acts.
    pub(super) fn plan_everything(&mut self) {
        for (index, fault) in self.scenario.faults.iter().enumerate() {
            self.queue.push(fault.from_s * 1_000, Event::Begins { fault: index });
            if !fault.is_instant() {
                self.queue.push(fault.until_s * 1_000, Event::Ends { fault: index });
            }
        }
        for (index, act) in self.scenario.acts.iter().enumerate() {
            self.queue.push(act.at_s * 1_000, Event::Acts { act: index });
        }
        self.plan_closing();
    }

    /// A fault begins.
    pub(super) fn begins(&mut self, index: usize) {
        let fault = self.scenario.faults[index].clone();
        *self.injected.entry(fault.kind.name()).or_default() += 1;
        self.note_fault("begins", &fault);
        self.active[index] = true;
        match fault.kind {
            FaultKind::PowerCut { operation, wreck } => {
                for node in self.befallen(&fault) {
                    self.nodes[node].wreck = Some(wreck);
                    self.nodes[node].disk.cut_at(operation + 1);
                }
            }
            FaultKind::Rot => {
                for node in self.befallen(&fault) {
                    self.rot(node);
                }
            }
            FaultKind::RestoresImage => {
                for node in self.befallen(&fault) {
                    let it = &mut self.nodes[node];
                    it.image = Some((*it.disk).clone());
                }
            }
            FaultKind::SharedId => {
                for node in self.befallen(&fault) {
                    if !self.nodes[node].is_twin {
                        self.twin(node);
                    }
                }
            }
            FaultKind::BrokerForgetsSessions => self.restart_broker(Memory::WithoutSessions),
            FaultKind::BrokerForgetsRetained => self.restart_broker(Memory::WithoutRetained),
            FaultKind::BrokerRestored => self.broker.back_up(),
            FaultKind::BrokerAway => self.restart_broker(Memory::Kept),
            FaultKind::MirrorStale if self.mirror.stale.is_none() => {
                self.mirror.stale = Some(self.mirror.files.outdated());
            }
            FaultKind::ControllerDies { operation, wreck } => self.arm_controller(operation, wreck),
            FaultKind::ControllerMoves => self.controller_goes(),
            _ => {}
        }
        self.apply(&fault);
    }

    /// A fault ends.
    pub(super) fn ends(&mut self, index: usize) {
        if !std::mem::take(&mut self.active[index]) {
            return;
        }
        let fault = self.scenario.faults[index].clone();
        self.note_fault("ends", &fault);
        match fault.kind {
            FaultKind::RestoresImage => {
                for node in self.befallen(&fault) {
                    self.restore(node);
                }
            }
            FaultKind::SharedId => self.twins_go(&fault),
            FaultKind::ControllerDies { .. } => self.disarm_controller(),
            FaultKind::BrokerRestored => self.restart_broker(Memory::OfBackup),
            _ => {}
        }
        self.apply(&fault);
        match fault.kind {
            FaultKind::BrokerAway => {
                self.plan_connects();
                self.plan_controller_connect();
            }
            FaultKind::ControllerMoves => self.plan_controller_boot(),
            _ => {}
        }
    }

    fn note_fault(&mut self, what: &str, fault: &Fault) {
        let (name, who) = (fault.kind.name(), fault.who);
        self.timeline.note(Detail::Usual, self.now_ms, || match fault.is_instant() {
            true => format!("fault {name}: {who}"),
            false => format!("fault {what}: {name}: {who}"),
        });
    }

    /// The machines that a fault befalls.
    fn befallen(&self, fault: &Fault) -> Vec<usize> {
        let takes = |(index, node): (usize, &Node)| {
            let mine = fault.who.takes(node.id) && !node.is_buried;
            mine.then_some(index)
        };
        self.nodes.iter().enumerate().filter_map(takes).collect()
    }

    /// Lets what is wrong now have its effect on whom a fault befalls.
    fn apply(&mut self, fault: &Fault) {
        let active = |(index, fault): (usize, &Fault)| self.active[index].then(|| fault.clone());
        let active: Vec<Fault> =
            self.scenario.faults.iter().enumerate().filter_map(active).collect();
        self.servers = ServerTroubles::of(active.iter());
        self.mirror.wrong = self.servers.mirror;
        if !self.servers.mirror_stale {
            self.mirror.stale = None;
        }
        let room = self.servers.broker_room.map_or(ROOM, |room| room as usize);
        self.broker.set_room(room);
        self.apply_controller_troubles();
        for node in self.befallen(fault) {
            let id = self.nodes[node].id;
            let mine = active.iter().filter(|fault| fault.who.takes(id));
            self.change_troubles(node, DeviceTroubles::of(mine));
        }
    }

    fn change_troubles(&mut self, node: usize, now: DeviceTroubles) {
        let before = std::mem::replace(&mut self.nodes[node].troubles, now);
        self.apply_disk_troubles(node);
        match (before.gone, now.gone) {
            (false, true) if self.nodes[node].dice.chance(500) => self.shuts_down(node),
            (false, true) => self.cut_power(node),
            (true, false) => self.plan_boot(node),
            _ => {}
        }
        match (before.offline, now.offline) {
            (false, true) => self.fall_silent(node),
            (true, false) => self.plan_connect(node, 60_000),
            _ => {}
        }
        let life = self.nodes[node].life;
        if before.crash_every_s == 0 && now.crash_every_s > 0 && self.nodes[node].runs() {
            let wait = self.nodes[node].dice.below(2 * now.crash_every_s * 1_000);
            self.after(wait, Event::Dies { node, life });
        }
        if let (0, every_s @ 1.., super::node::Link::Up(connection)) =
            (before.cut_every_s, now.cut_every_s, self.nodes[node].link)
        {
            let wait = self.nodes[node].network.below(2 * every_s * 1_000);
            self.after(wait, Event::Breaks { node, connection });
        }
    }

    /// Lets a machine's disk be as bad as it is.
    pub(super) fn apply_disk_troubles(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.disk.set_refusal(it.troubles.full.then_some(DiskFault::Full));
        let names = it.disk.names();
        let bad = it.troubles.bad;
        for name in names.iter().filter(|name| !name.ends_with('/')) {
            // The root is what people enrol again for: another story.
            if bad > 0 && it.dice.chance(bad) && !name.ends_with("root") {
                it.excused += 1;
                let how = *it.dice.pick(&[Bad::Read, Bad::Write]);
                it.disk.set_bad(name, how, 0, u64::MAX);
            } else if bad == 0 {
                it.disk.mend(name);
            }
        }
    }

    /// A bit of a file in a slot flips.
    fn rot(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let names: Vec<String> = it.disk.names();
        let slots: Vec<&String> =
            names.iter().filter(|name| name.contains("/slot-") && !name.ends_with('/')).collect();
        if slots.is_empty() {
            return;
        }
        let name = (*it.dice.pick(&slots)).clone();
        let length = it.disk.content(&name).map_or(0, |content| content.len());
        it.disk.rot(&name, it.dice.below(length), 1 << it.dice.below(8));
        it.excused += 1;
    }

    /// The machine gets its disk back as it was.
    fn restore(&mut self, node: usize) {
        let Some(disk) = self.nodes[node].image.take() else { return };
        self.cut_power(node);
        let it = &mut self.nodes[node];
        it.disk = Rc::new(disk);
        it.restored += 1;
        it.excused += 1;
        self.look(crate::invariants::Seen::Restored { node });
        self.apply_disk_troubles(node);
        self.plan_boot(node);
    }

    /// Another machine with the same id comes up, with a disk of its own.
    fn twin(&mut self, node: usize) {
        let (index, id) = (self.nodes.len(), self.nodes[node].id);
        let mut twin = Node::new(self.scenario.seed, index as u32, id);
        twin.is_twin = true;
        self.nodes.push(twin);
        self.look(crate::invariants::Seen::Joined { node: index });
        self.plan_boot(index);
    }

    fn twins_go(&mut self, fault: &Fault) {
        for node in self.befallen(fault) {
            if self.nodes[node].is_twin {
                self.cut_power(node);
                self.nodes[node].is_buried = true;
            }
        }
    }
}
