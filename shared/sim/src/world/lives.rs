//! How an agent starts and ends.

use std::rc::Rc;

use tidegate_device::store::trust::TrustStore;
use tidegate_device::{Device, Input, store};
use tidegate_disk::memory::{Fate, MemoryDisk};
use tidegate_trust::trusted::Recovered;
use tidegate_trust::{Role, Trusted};

use super::network::Noticed;
use super::{Event, World};
use crate::codec::Remembering;
use crate::invariants::Seen;
use crate::scenario::Wreck;
use crate::timeline::Detail;

/// A storage operation that no run gets to.
pub(super) const NEVER: u64 = u64::MAX / 2;
/// Milliseconds from power, or from a crash, to a running agent, at most.
const BOOT_MS_MAX: u64 = 20_000;
impl World {
    /// Plans that an agent starts soon.
    pub(super) fn plan_boot(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let (wait, life) = (1_000 + it.dice.below(BOOT_MS_MAX), it.life);
        self.after(wait, Event::Boots { node, life });
    }

    /// An agent starts, unless its machine is switched off.
    pub(super) fn boot(&mut self, node: usize) {
        let it = &self.nodes[node];
        if it.runs() || it.troubles.gone || it.is_buried {
            return;
        }
        if !self.nodes[node].enrolled {
            self.enrol(node);
        }
        let trusted = self.recover_trust(node);
        if self.nodes[node].disk.is_off() {
            return self.power_went(node);
        }
        let Some(trusted) = trusted else {
            // It cannot go on by itself: its root is gone. People enrol it anew.
            self.timeline.note(Detail::Usual, self.now_ms, || {
                format!("d{node}: its root cannot be read; it is enrolled anew")
            });
            self.nodes[node].excused += 1;
            self.enrol(node);
            return self.plan_boot(node);
        };
        let heartbeat = self.scenario.settings.heartbeat_hours;
        let it = &mut self.nodes[node];
        it.booted_ms = self.now_ms;
        it.boot = store::count_boot(&it.disk, it.unix(self.now_ms));
        it.windows = 0;
        let settings = it.settings(heartbeat);
        let backlog = it.backlog();
        let now = it.moment(self.now_ms);
        let disk = Rc::clone(&it.disk);
        let (brain, effects) = Device::recover(settings, disk, backlog, trusted, now);
        it.brain = Some(brain);
        let life = it.life;
        let crash_every_s = it.troubles.crash_every_s;
        if crash_every_s > 0 {
            let wait = self.nodes[node].dice.below(2 * crash_every_s * 1_000);
            self.after(wait, Event::Dies { node, life });
        }
        self.look(Seen::Booted { node });
        if self.carry_out(node, effects) {
            // Whatever carrying out brought up.
            self.feed(node, Input::Tick);
            self.plan_connect(node, 2_000);
        }
    }

    /// Gives a machine what enrolment gives: an id that the controller knows, and the root.
    fn enrol(&mut self, node: usize) {
        let root = self.release_room.root_bytes();
        let it = &mut self.nodes[node];
        it.enrolled = true;
        let disk = Rc::clone(&it.disk);
        // People look at whether it worked: a disk that is full then is emptied first.
        disk.set_refusal(None);
        let stored = store::make_folders(&*disk)
            .and_then(|()| TrustStore::new(&*disk).persist(Role::Root, &root));
        if stored.is_err() {
            it.excused += 1;
        }
        self.apply_disk_troubles(node);
        let (device, labels) = (self.nodes[node].device.clone(), self.nodes[node].labels.clone());
        self.controller_enrols(device, labels);
    }

    fn recover_trust(&mut self, node: usize) -> Option<Trusted<Remembering>> {
        let disk = &*self.nodes[node].disk;
        let stored = TrustStore::new(disk).load().ok()??;
        let Recovered { trusted, .. } = Trusted::recover(stored).ok()?;
        Some(trusted)
    }

    /// The agent dies: a crash, nothing of its disk is lost.
    pub(super) fn dies(&mut self, node: usize) {
        if !self.nodes[node].runs() {
            return;
        }
        self.timeline.note(Detail::Everything, self.now_ms, || format!("d{node}: dies"));
        self.hang_up(node, Noticed::AtOnce);
        self.nodes[node].forget_process();
        self.plan_boot(node);
    }

    /// Somebody asks the agent to stop, and switches the machine off.
    pub(super) fn shuts_down(&mut self, node: usize) {
        if !self.nodes[node].runs() {
            return;
        }
        self.feed(node, Input::Stopping);
        self.close_serving(node);
        // What is still in its inbox are its last windows.
        self.feed(node, Input::Stopped);
        if self.nodes[node].runs() {
            if let super::node::Link::Up(connection) = self.nodes[node].link {
                self.broker.goodbye(self.nodes[node].id, connection);
            }
            self.hang_up(node, Noticed::AtOnce);
            self.nodes[node].forget_process();
        }
    }

    /// Power went at a storage operation.
    pub(super) fn power_went(&mut self, node: usize) {
        self.timeline.note(Detail::Usual, self.now_ms, || format!("d{node}: power is cut"));
        self.hang_up(node, Noticed::Later);
        let it = &mut self.nodes[node];
        let wreck = it.wreck.take().unwrap_or(Wreck::Missing);
        let found = wrecked(&it.disk, wreck, || it.dice.any());
        it.disk = Rc::new(found);
        it.forget_process();
        self.plan_boot(node);
    }

    /// Power goes now, whatever the disk is doing.
    pub(super) fn cut_power(&mut self, node: usize) {
        if self.nodes[node].runs() {
            self.hang_up(node, Noticed::Later);
            let it = &mut self.nodes[node];
            let found = wrecked(&it.disk, Wreck::Torn, || it.dice.any());
            it.disk = Rc::new(found);
            it.forget_process();
        }
    }
}

/// The disk as it is found after a power cut.
pub(super) fn wrecked(
    disk: &MemoryDisk,
    wreck: Wreck,
    mut next: impl FnMut() -> u64,
) -> MemoryDisk {
    let fates = match wreck {
        Wreck::Whole => vec![Fate::Whole; disk.unsynced().len()],
        Wreck::Missing => Vec::new(),
        Wreck::Torn => disk.draw_fates(&mut next),
    };
    disk.after_power_cut(&fates)
}
