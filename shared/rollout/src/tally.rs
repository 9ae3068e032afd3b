//! How the devices of a wave are doing: what gates judge and progress bars show.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tidegate_wire::directive::position;
use tidegate_wire::{DeviceId, Reason, State};

use crate::cohort::Cohort;
use crate::policy::{Unreached, WaveSize};
use crate::text::Devices;
use crate::{DeviceView, FleetView, Presence, Progress, Rollout};

/// Where one device of a wave is, its timeout included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It runs the new artifact and has committed it.
    Committed,
    /// It turned the new artifact down.
    Failed(Reason),
    /// It took longer than the policy allows.
    TimedOut,
    /// It was offline and had not begun when its time was up; it does not count.
    SetAside,
    /// It is on its way.
    Working(State),
    /// It is offline; it counts when it is back, or when its time is up.
    Offline,
    /// It is online and has not begun.
    NotStarted,
}

/// The devices that a limit takes, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub members: u32,
    /// Devices that the policy selects and the limit does not take.
    pub others: u32,
    /// Those with the new artifact, committed.
    pub committed: u32,
    /// Those that turned it down.
    pub failed: Devices,
    /// Why they turned it down, and how many for each reason.
    pub reasons: BTreeMap<Reason, u32>,
    /// Those that took too long.
    pub timed_out: Devices,
    /// Those that do not count.
    pub set_aside: Devices,
    /// Those on their way, by state, in the order of the way.
    pub working: Vec<(State, Devices)>,
    /// Those that are offline.
    pub offline: Devices,
    /// Those that are online and have not begun.
    pub not_started: Devices,
    /// Since when the controller hears them ([`FleetView::heard_since`]).
    pub heard_since_ms: u64,
}

/// States of the way, in order.
const WAY: [State; 5] =
    [State::Fetching, State::Verifying, State::SelfTest, State::Shadow, State::Trial];

impl Tally {
    /// Counts the devices of `fleet` that `limit` takes.
    pub fn of(rollout: &Rollout, fleet: &FleetView, limit: u64, now_ms: u64) -> Self {
        let mut tally = Self { heard_since_ms: fleet.heard_since_ms(), ..Self::default() };
        for device in fleet.matching(&rollout.policy.selector) {
            if position(&rollout.salt, &device.id) < limit {
                tally.add(&device.id, member_state(rollout, fleet, device, now_ms));
            } else {
                tally.others += 1;
            }
        }
        tally.working.sort_by_key(|(state, _)| WAY.iter().position(|way| way == state));
        tally
    }

    fn add(&mut self, device: &DeviceId, state: MemberState) {
        self.members += 1;
        match state {
            MemberState::Committed => self.committed += 1,
            MemberState::Failed(reason) => {
                self.failed.add(device);
                *self.reasons.entry(reason).or_default() += 1;
            }
            MemberState::TimedOut => self.timed_out.add(device),
            MemberState::SetAside => self.set_aside.add(device),
            MemberState::Offline => self.offline.add(device),
            MemberState::NotStarted => self.not_started.add(device),
            MemberState::Working(state) => {
                let found = self.working.iter().position(|(known, _)| *known == state);
                let index = found.unwrap_or_else(|| {
                    self.working.push((state, Devices::default()));
                    self.working.len() - 1
                });
                self.working[index].1.add(device);
            }
        }
    }

    /// Failed and timed out.
    pub fn failures(&self) -> u32 {
        (self.failed.count + self.timed_out.count) as u32
    }

    /// Committed, failed and timed out.
    pub fn reported(&self) -> u32 {
        self.committed + self.failures()
    }

    /// Members that count: all but those set aside.
    pub fn counted(&self) -> u32 {
        self.members - self.set_aside.count as u32
    }
}

/// Where a device of the fleet is that a wave takes. For any other it says what it would be if it
/// were taken now.
pub fn member_state(
    rollout: &Rollout,
    fleet: &FleetView,
    device: &DeviceView,
    now_ms: u64,
) -> MemberState {
    let gate = &rollout.policy.gate;
    let directed_ms = rollout.directed_ms(&device.id, device.joined_ms).unwrap_or(now_ms);
    let waited_ms = now_ms.saturating_sub(directed_ms.max(fleet.heard_since_ms()));
    let overdue = waited_ms >= gate.device_timeout_ms;
    match (device.progress, device.presence, gate.unreached) {
        (Progress::Committed, ..) => MemberState::Committed,
        (Progress::Failed(reason), ..) => MemberState::Failed(reason),
        (Progress::Untouched, Presence::Offline, Unreached::SetAside) if overdue => {
            MemberState::SetAside
        }
        _ if overdue => MemberState::TimedOut,
        (_, Presence::Offline, _) => MemberState::Offline,
        (Progress::Working(state), ..) => MemberState::Working(state),
        (Progress::Untouched, ..) => MemberState::NotStarted,
    }
}

/// One wave for a progress bar. Counts include the devices of earlier waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveProgress {
    /// From 0.
    pub wave: usize,
    /// As the policy has it.
    pub size: WaveSize,
    /// How far the wave itself is.
    pub stage: WaveStage,
    /// How its devices are doing; of a planned wave those that it would take now.
    pub tally: Tally,
}

/// How far a wave is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveStage {
    /// Not opened yet.
    Planned,
    /// Its devices are on their way.
    Open,
    /// Enough have committed; it must stay healthy for this many more milliseconds.
    Soaking(u64),
    /// It is committed and soaked and waits for comparisons or an operator.
    Soaked,
    /// The next wave is open, or the rollout is completed.
    Done,
    /// The rollout was taken back or cancelled before the wave was done.
    Stopped,
}

/// Every wave of a rollout, planned ones included.
pub fn progress(rollout: &Rollout, fleet: &FleetView, now_ms: u64) -> Vec<WaveProgress> {
    let cohort = Cohort::new(fleet, &rollout.policy, &rollout.salt);
    let mut limit = 0;
    let waves = rollout.policy.waves.iter().enumerate().map(|(index, wave)| {
        limit = match rollout.history.get(index) {
            Some(record) => record.limit,
            None => cohort.wave_limit(&rollout.policy, index, limit),
        };
        let tally = Tally::of(rollout, fleet, limit, now_ms);
        WaveProgress {
            wave: index,
            size: wave.size,
            stage: stage(rollout, index, fleet, now_ms),
            tally,
        }
    });
    waves.collect()
}

fn stage(rollout: &Rollout, wave: usize, fleet: &FleetView, now_ms: u64) -> WaveStage {
    use crate::Status::{Cancelled, Completed, Reverted};
    let present = rollout.wave();
    match (&rollout.status, rollout.history.get(wave)) {
        (Completed, _) => WaveStage::Done,
        (_, Some(_)) if present > Some(wave) => WaveStage::Done,
        (Reverted { .. } | Cancelled(_), _) => WaveStage::Stopped,
        (_, None) => WaveStage::Planned,
        (_, Some(_)) => match soak_left_ms(rollout, fleet.heard_since_ms(), now_ms) {
            None => WaveStage::Open,
            Some(0) => WaveStage::Soaked,
            Some(left_ms) => WaveStage::Soaking(left_ms),
        },
    }
}

/// Milliseconds that the present wave must still stay healthy; none before enough have committed.
/// A wave that took no further device has been soaked as the one before.
pub(crate) fn soak_left_ms(rollout: &Rollout, heard_since_ms: u64, now_ms: u64) -> Option<u64> {
    let wave = rollout.wave()?;
    let record = &rollout.history[wave];
    let soaked_ms = now_ms.saturating_sub(record.committed_ms?.max(heard_since_ms));
    let soak_ms = match (wave, record.added) {
        (1.., 0) => 0,
        _ => rollout.policy.waves[wave].soak_ms,
    };
    Some(soak_ms.saturating_sub(soaked_ms))
}
