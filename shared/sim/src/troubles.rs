//! What is wrong at a moment: all faults that have begun and not ended, taken together.

use crate::mirror::Wrong;
use crate::scenario::{Fault, FaultKind};

/// What is wrong with one device and its way to the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTroubles {
    /// Nothing gets through.
    pub offline: bool,
    /// It is switched off, or not there yet.
    pub gone: bool,
    /// Milliseconds by which everything is late, at most.
    pub slow_ms: u64,
    /// The connection breaks about every so many seconds; 0 is never.
    pub cut_every_s: u64,
    /// Of a thousand messages, lost.
    pub loss: u64,
    /// Of a thousand messages, doubled.
    pub duplicates: u64,
    /// Of a thousand messages, late.
    pub reorders: u64,
    /// Milliseconds by which those are late, at most.
    pub late_ms: u64,
    /// The disk takes nothing.
    pub full: bool,
    /// Of a thousand files on the disk, bad.
    pub bad: u64,
    /// Seconds by which the clock is ahead.
    pub clock_s: i64,
    /// There is no clock.
    pub no_clock: bool,
    /// The agent dies about every so many seconds; 0 is never.
    pub crash_every_s: u64,
}

impl DeviceTroubles {
    /// Takes the faults that befall a device.
    pub fn of<'a>(faults: impl Iterator<Item = &'a Fault>) -> Self {
        let mut all = Self::default();
        faults.for_each(|fault| all.add(&fault.kind));
        all
    }

    fn add(&mut self, kind: &FaultKind) {
        let sooner = |known: u64, new: u64| if known == 0 { new } else { known.min(new) };
        match *kind {
            FaultKind::Offline | FaultKind::Partition => self.offline = true,
            FaultKind::JoinsLate | FaultKind::Leaves => self.gone = true,
            FaultKind::SlowLink { delay_ms } => self.slow_ms = self.slow_ms.max(delay_ms),
            FaultKind::CutLink { every_s } => self.cut_every_s = sooner(self.cut_every_s, every_s),
            FaultKind::Loss { permille } => self.loss = self.loss.max(permille),
            FaultKind::Duplicates { permille } => self.duplicates = self.duplicates.max(permille),
            FaultKind::Reorders { permille, delay_ms } => {
                self.reorders = self.reorders.max(permille);
                self.late_ms = self.late_ms.max(delay_ms);
            }
            FaultKind::DiskFull => self.full = true,
            FaultKind::BadBlocks { permille } => self.bad = self.bad.max(permille),
            FaultKind::ClockJump { seconds } => self.clock_s += seconds,
            FaultKind::NoClock => self.no_clock = true,
            FaultKind::Crashes { every_s } => {
                self.crash_every_s = sooner(self.crash_every_s, every_s);
            }
            _ => {}
        }
    }
}

/// What is wrong with the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerTroubles {
    /// The broker cannot be reached.
    pub broker_away: bool,
    /// How many messages a session holds, if that is few.
    pub broker_room: Option<u64>,
    /// The mirror cannot be reached.
    pub mirror_away: bool,
    /// Milliseconds that the mirror takes, at most.
    pub mirror_ms: u64,
    /// What it serves that it should not.
    pub mirror: Wrong,
    /// It serves what was newest once.
    pub mirror_stale: bool,
    /// The controller's machine is away.
    pub controller_away: bool,
    /// The controller's disk takes nothing.
    pub controller_full: bool,
}

impl ServerTroubles {
    /// Takes all faults.
    pub fn of<'a>(faults: impl Iterator<Item = &'a Fault>) -> Self {
        let mut all = Self::default();
        faults.for_each(|fault| all.add(&fault.kind));
        all
    }

    fn add(&mut self, kind: &FaultKind) {
        match *kind {
            FaultKind::BrokerAway => self.broker_away = true,
            FaultKind::BrokerDrops { room } => {
                self.broker_room = Some(self.broker_room.map_or(room, |known| known.min(room)));
            }
            FaultKind::MirrorAway => self.mirror_away = true,
            FaultKind::MirrorSlow { delay_ms } => self.mirror_ms = self.mirror_ms.max(delay_ms),
            FaultKind::MirrorStale => self.mirror_stale = true,
            FaultKind::MirrorTruncates { permille } => {
                self.mirror.truncated = self.mirror.truncated.max(permille);
            }
            FaultKind::MirrorFlips { permille } => {
                self.mirror.flipped = self.mirror.flipped.max(permille);
            }
            FaultKind::MirrorEndless { permille } => {
                self.mirror.endless = self.mirror.endless.max(permille);
            }
            FaultKind::MirrorLoses { permille } => {
                self.mirror.lost = self.mirror.lost.max(permille);
            }
            FaultKind::ControllerMoves => self.controller_away = true,
            FaultKind::ControllerDiskFull => self.controller_full = true,
            _ => {}
        }
    }
}
