//! What the device has said or shown so far: no power cut may take any of it back.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_device::spool::LogSpool;
use tidegate_device::{Device, store};
use tidegate_disk::memory::MemoryDisk;
use tidegate_trust::Trusted;
use tidegate_wire::report::{Body, Report};
use tidegate_wire::{Digest, envelope};

use crate::scene::{Phase, Scene};
use crate::world::model;

pub type Disk = std::rc::Rc<MemoryDisk>;
pub type TheDevice = Device<Disk, LogSpool<Disk>>;

/// Everything that must hold for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    generation: u64,
    boot: u64,
    /// Something answered.
    pub has_runnable: bool,
    answered: BTreeSet<Digest>,
    revoked: BTreeSet<Digest>,
    floor: u64,
    /// Of root, timestamp, snapshot and targets.
    versions: [u64; 4],
    spool: Option<u64>,
    /// So many reports were ever on the disk.
    made: u64,
    /// What was sent under each number.
    sent: BTreeMap<u64, Digest>,
    /// Numbers that the controller has stored and acknowledged.
    pub stored: BTreeSet<u64>,
    windows_stored: BTreeSet<u64>,
    windows_taken: BTreeSet<u64>,
    pub window_next: u64,
}

impl Ledger {
    /// A start was counted.
    pub fn booted(&mut self, boot: u64) {
        assert!(boot > self.boot, "start {boot} came after {}", self.boot);
        assert!(boot < 1_000, "the counter of starts was lost");
        self.boot = boot;
    }

    /// Looks at what is trusted after a restart: *never-untrustable*, *versions-rise*.
    pub fn recovered(&self, trusted: &Trusted) {
        let [root, timestamp, snapshot, targets] = versions(trusted);
        assert!(root >= self.versions[0], "root fell from {} to {root}", self.versions[0]);
        // Keys that changed may take timestamp and snapshot with them, and only they.
        let excused = root > self.versions[0];
        for (found, before) in [(timestamp, self.versions[1]), (snapshot, self.versions[2])] {
            assert!(found >= before || excused, "{found} came after {before}");
        }
        assert!(targets >= self.versions[3], "targets fell from {} to {targets}", self.versions[3]);
    }

    /// Looks at the disk behind the device's back: *runnable-model*, *old-model-stays*,
    /// *generations-rise*.
    pub fn inspect(&self, disk: &MemoryDisk) {
        let copy = disk.after_kill();
        let models = store::models(&copy).unwrap();
        if models.is_empty() {
            assert!(!self.has_runnable && self.generation == 0, "the model is gone");
            return;
        }
        let (slots, opened) = store::model(&copy, &model()).unwrap();
        let record = opened.record.unwrap_or_default();
        assert!(opened.damage.is_none() || self.generation == 0, "{:?}", opened.damage);
        let generation = record.generation.0;
        assert!(generation >= self.generation, "{generation} came after {}", self.generation);
        if let Some(active) = record.active {
            let artifact = record.slot(active).runnable().expect("what answers is whole");
            if let Err(error) = slots.verify(&copy, active, artifact, &model()) {
                panic!("what answers is not whole: {error}");
            }
        }
    }

    /// A step is over: what it says from here on is for ever.
    pub fn promised(&mut self, device: &TheDevice) {
        if let Some((_, machine)) = device.models().next() {
            let generation = machine.record().generation.0;
            assert!(generation >= self.generation, "{generation} came after {}", self.generation);
            self.generation = generation;
        }
        let trusted = device.trusted();
        self.recovered(trusted);
        self.versions = versions(trusted);
        let revoked = trusted.targets().into_iter().flat_map(|it| it.revoked.keys());
        self.revoked.extend(revoked);
        self.floor = self.floor.max(trusted.targets().map_or(0, |it| it.floor(&model())));
        let figures = device.figures();
        assert!(figures.made >= self.made, "{} reports came after {}", figures.made, self.made);
        assert_eq!(figures.dropped, 0, "a report was dropped");
        self.made = figures.made;
    }

    /// What answers when all effects of a step were carried out: *runnable-model*.
    pub fn answers(&mut self, answering: Option<Digest>, phase: &Phase) {
        self.has_runnable |= answering.is_some();
        assert!(answering.is_some() || !self.has_runnable || phase.silent, "nothing answers");
    }

    /// What answers from now on: *nothing-unverified*, *revoked-never-runs*, *never-below-floor*.
    pub fn activated(&mut self, artifact: Digest, trusted: &Trusted) {
        assert!(!self.revoked.contains(&artifact), "what answers was revoked");
        let targets = trusted.targets().expect("nothing answers that nobody signed");
        let mut entries = targets.artifacts[&model()].values();
        let entry = entries.find(|entry| entry.digest == artifact);
        let release = entry.expect("nothing answers that nobody signed").release;
        // What answered before may do so again, by the device's own way back.
        let is_new = self.answered.insert(artifact);
        assert!(release >= self.floor || !is_new, "{release} is below {}", self.floor);
    }

    /// A window was closed and the device took it.
    pub fn window_taken(&mut self, number: u64) {
        self.windows_taken.insert(number);
    }

    /// A report came to the controller: *count-once*. Whether it acknowledges it.
    pub fn reported(&mut self, payload: &[u8], acks: bool) -> Report {
        let report: Report = envelope::open(payload).unwrap();
        assert_eq!(*self.spool.get_or_insert(report.spool), report.spool, "a new spool");
        assert!(report.seq < self.made, "{} of {} was never made", report.seq, self.made);
        // What the spool has lost meanwhile is told anew every time.
        let said = envelope::seal(&Report { oldest: 0, dropped: 0, ..report.clone() });
        let said = Digest::of(&said);
        let before = *self.sent.entry(report.seq).or_insert(said);
        assert_eq!(before, said, "{} was another report before", report.seq);
        if acks
            && self.stored.insert(report.seq)
            && let Body::Window(window) = &report.body
        {
            let is_new = self.windows_stored.insert(window.window);
            assert!(is_new, "window {} was counted twice", window.window);
        }
        report
    }

    /// After quiet, everything that was ever said to be on the disk has come, once.
    pub fn settled(&self) {
        let all: BTreeSet<u64> = (0..self.made).collect();
        assert_eq!(self.stored, all, "reports are missing");
        let missing: Vec<_> = self.windows_taken.difference(&self.windows_stored).collect();
        assert!(missing.is_empty(), "windows {missing:?} are missing");
    }
}

fn versions(trusted: &Trusted) -> [u64; 4] {
    [
        trusted.root().version,
        trusted.timestamp().map_or(0, |it| it.version),
        trusted.snapshot().map_or(0, |it| it.version),
        trusted.targets().map_or(0, |it| it.version),
    ]
}

impl Scene {
    /// Whether all that the phase should have brought is there.
    pub fn is_over(&self, phase: &Phase, device: &TheDevice) -> bool {
        let Some((_, machine)) = device.models().next() else { return false };
        let known = versions(device.trusted());
        let acknowledged = !phase.acks || device.figures().spooled == 0;
        machine.candidate().is_none()
            && machine.active().map(|(_, artifact)| artifact) == phase.end.0
            && machine.record().generation.0 == phase.end.1
            && (known[0], known[3]) == phase.versions
            && acknowledged
    }
}
