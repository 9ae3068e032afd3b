//! What a seed makes of a scenario.
//!
//! Not everything goes wrong in every run: a run in which little goes wrong gets further, and finds
//! what a run full of faults never reaches. So each seed first draws which kinds it has.

use std::collections::BTreeSet;

use super::{Act, ActKind, Fault, FaultKind, FaultName, Scenario, Settings, Who, Wreck};
use crate::model::Behaviour;
use crate::rng::{Purpose, Stream};

/// The most devices of a run: a fleet of one controller.
pub const DEVICES_MAX: u32 = 100_000;

/// The most hours of a run: ten years.
pub const HOURS_MAX: u64 = 10 * 365 * 24;

/// Which faults a run may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All that there are.
    All,
    /// None: the fleet as it should be.
    None,
    /// These.
    Only(BTreeSet<FaultName>),
}

impl Wanted {
    fn has(&self, name: FaultName) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => names.contains(&name),
        }
    }
}

/// Of a thousand seeds, so many have a kind of fault.
const KIND_PERMILLE: u64 = 280;

/// Hours between two releases, about.
const RELEASE_EVERY_HOURS: u64 = 36;

impl Scenario {
    /// The scenario of a seed.
    pub fn from_seed(seed: u64, devices: u32, hours: u64, wanted: &Wanted) -> Self {
        let settings = settings(seed);
        let (acts, faults) = (acts(seed, hours), faults(seed, devices, hours, wanted));
        let (note, broke) = Default::default();
        Self { seed, devices, hours, note, broke, settings, acts, faults }
    }
}

fn settings(seed: u64) -> Settings {
    let mut stream = Stream::new(seed, Purpose::Settings, 0);
    Settings {
        rows_per_hour: *stream.pick(&[20, 30, 60]),
        timestamp_hours: *stream.pick(&[48, 7 * 24, 14 * 24]),
        ..Settings::default()
    }
}

/// A first version goes everywhere; others follow, good and bad ones, and operators interfere.
fn acts(seed: u64, hours: u64) -> Vec<Act> {
    let mut stream = Stream::new(seed, Purpose::Acts, 0);
    let mut acts = vec![
        Act { at_s: 60, kind: ActKind::Release { version: 1, behaviour: Behaviour::Good } },
        Act { at_s: 120, kind: ActKind::Start { version: 1, policy: at_once() } },
    ];
    let end_s = hours * 3600;
    let (mut at_s, mut version) = (stream.between(2, 8) * 3600, 1);
    while at_s < end_s {
        version += 1;
        let kind = ActKind::Release { version, behaviour: behaviour(&mut stream) };
        acts.push(Act { at_s, kind });
        let start = ActKind::Start { version, policy: policy(&mut stream) };
        acts.push(Act { at_s: at_s + stream.between(10, 600), kind: start });
        let gap_s = stream.between(RELEASE_EVERY_HOURS / 3, RELEASE_EVERY_HOURS * 2) * 3600;
        for _ in 0..stream.below(3) {
            let when = at_s + stream.below(gap_s);
            acts.push(Act { at_s: when, kind: interference(&mut stream, version) });
        }
        at_s += gap_s + stream.below(3600);
    }
    acts.retain(|act| act.at_s < end_s);
    acts.sort_by_key(|act| act.at_s);
    acts
}

fn behaviour(stream: &mut Stream) -> Behaviour {
    if stream.chance(550) {
        return Behaviour::Good;
    }
    *stream.pick(&[
        Behaviour::DoesNotLoad,
        Behaviour::FailsGolden,
        Behaviour::Lies,
        Behaviour::NotNumbers,
        Behaviour::Errors { permille: 900 },
        Behaviour::Slow { percent: 2_000 },
        Behaviour::Crashes,
        Behaviour::WrongRange,
        Behaviour::Sours { after_hours: 3 },
    ])
}

fn interference(stream: &mut Stream, version: u32) -> ActKind {
    match stream.below(12) {
        0 => ActKind::Pause,
        1 | 2 => ActKind::Resume,
        3 => ActKind::Promote,
        4 => ActKind::Revert,
        5 => ActKind::Cancel,
        6 | 7 => ActKind::Revoke { version: stream.between(1, u64::from(version)) as u32 },
        8 => ActKind::RaiseFloor { version: stream.between(1, u64::from(version)) as u32 },
        9 => ActKind::RotateDirector,
        10 => ActKind::RenewRoot,
        // A version that was there before comes again.
        _ => {
            let version = stream.between(1, u64::from(version)) as u32;
            ActKind::Start { version, policy: policy(stream) }
        }
    }
}

fn at_once() -> String {
    "[[waves]]\npercent = 100\nsoak_seconds = 600\n[gate]\nmin_committed_percent = 50\n\
     max_failures = 1000000\nmax_failed_percent = 90\ndevice_timeout_seconds = 28800\n"
        .to_owned()
}

fn policy(stream: &mut Stream) -> String {
    let control = stream.pick(&["0", "5", "20"]);
    let soak_s = stream.pick(&["600", "7200", "21600"]);
    let waves = *stream.pick(&[
        "[[waves]]\ndevices = 1\n[[waves]]\npercent = 100\n",
        "[[waves]]\ndevices = 2\n[[waves]]\npercent = 30\n[[waves]]\npercent = 100\n",
        "[[waves]]\npercent = 10\n[[waves]]\npercent = 50\n[[waves]]\npercent = 100\n",
        "[[waves]]\npercent = 100\n",
    ]);
    let committed = stream.pick(&["100", "90", "60"]);
    let failures = stream.pick(&["1", "2", "5"]);
    let timeout_s = stream.pick(&["14400", "43200", "86400"]);
    let unreached = stream.pick(&["set-aside", "set-aside", "fail"]);
    let ttl_s = stream.pick(&["172800", "2592000"]);
    let selector = match stream.below(6) {
        0 => "[selector]\nsite = \"north\"\n",
        _ => "",
    };
    format!(
        "control_percent = {control}\ndirective_ttl_seconds = {ttl_s}\n{selector}\
         [defaults]\nsoak_seconds = {soak_s}\n{waves}[gate]\n\
         min_committed_percent = {committed}\nmax_failures = {failures}\n\
         device_timeout_seconds = {timeout_s}\nunreached = \"{unreached}\"\n"
    )
}

fn faults(seed: u64, devices: u32, hours: u64, wanted: &Wanted) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, name) in FaultName::ALL.iter().enumerate() {
        // A stream for each kind: which others there are does not matter.
        let mut stream = Stream::new(seed, Purpose::Faults, index as u64);
        if stream.chance(KIND_PERMILLE) && wanted.has(*name) {
            let most = 1 + hours / 24 + u64::from(devices.min(2_000)) / 8;
            for _ in 0..stream.between(1, most.min(40)) {
                faults.push(one(*name, devices, hours, &mut stream));
            }
        }
    }
    faults.sort_by_key(|fault| (fault.from_s, fault.until_s));
    faults
}

/// How long a fault lasts: mostly minutes, sometimes days; it ends before the quiet time.
fn span(name: FaultName, hours: u64, stream: &mut Stream) -> (u64, u64) {
    let end_s = hours * 3600;
    let from_s = match name {
        FaultName::JoinsLate => 0,
        _ => stream.below(end_s),
    };
    let longest = match stream.below(10) {
        0..=5 => 1_800,
        6..=8 => 6 * 3600,
        _ => 8 * 24 * 3600,
    };
    let longest = match name {
        FaultName::Leaves | FaultName::JoinsLate => 21 * 24 * 3600,
        // At a death or a take-over every minute an hour is a long time.
        FaultName::Crashes | FaultName::CutLink | FaultName::SharedId => longest.min(3 * 3600),
        FaultName::Loss | FaultName::DiskFull | FaultName::BadBlocks => longest.min(12 * 3600),
        _ => longest,
    };
    (from_s, (from_s + stream.between(30, longest)).min(end_s))
}

fn one(name: FaultName, devices: u32, hours: u64, stream: &mut Stream) -> Fault {
    let (from_s, until_s) = span(name, hours, stream);
    let wreck = *stream.pick(&[Wreck::Whole, Wreck::Missing, Wreck::Torn]);
    let permille = *stream.pick(&[5, 50, 300]);
    let kind = match name {
        FaultName::Offline => FaultKind::Offline,
        FaultName::SlowLink => FaultKind::SlowLink { delay_ms: stream.between(500, 30_000) },
        FaultName::CutLink => FaultKind::CutLink { every_s: stream.between(20, 1_800) },
        FaultName::Loss => FaultKind::Loss { permille },
        FaultName::Duplicates => FaultKind::Duplicates { permille },
        FaultName::Reorders => {
            FaultKind::Reorders { permille, delay_ms: stream.between(50, 60_000) }
        }
        FaultName::Partition => FaultKind::Partition,
        FaultName::BrokerAway => FaultKind::BrokerAway,
        FaultName::BrokerForgetsSessions => FaultKind::BrokerForgetsSessions,
        FaultName::BrokerForgetsRetained => FaultKind::BrokerForgetsRetained,
        FaultName::BrokerRestored => FaultKind::BrokerRestored,
        FaultName::BrokerDrops => FaultKind::BrokerDrops { room: stream.below(4) },
        FaultName::MirrorStale => FaultKind::MirrorStale,
        FaultName::MirrorTruncates => FaultKind::MirrorTruncates { permille },
        FaultName::MirrorFlips => FaultKind::MirrorFlips { permille },
        FaultName::MirrorEndless => FaultKind::MirrorEndless { permille },
        FaultName::MirrorLoses => FaultKind::MirrorLoses { permille },
        FaultName::MirrorSlow => FaultKind::MirrorSlow { delay_ms: stream.between(500, 60_000) },
        FaultName::MirrorAway => FaultKind::MirrorAway,
        FaultName::PowerCut => FaultKind::PowerCut { operation: stream.below(60), wreck },
        FaultName::DiskFull => FaultKind::DiskFull,
        FaultName::BadBlocks => FaultKind::BadBlocks { permille },
        FaultName::Rot => FaultKind::Rot,
        FaultName::ClockJump => {
            let days = stream.between(1, 800) as i64 - 400;
            FaultKind::ClockJump { seconds: days * 24 * 3600 }
        }
        FaultName::NoClock => FaultKind::NoClock,
        FaultName::Crashes => FaultKind::Crashes { every_s: stream.between(30, 1_200) },
        FaultName::JoinsLate => FaultKind::JoinsLate,
        FaultName::Leaves => FaultKind::Leaves,
        FaultName::RestoresImage => FaultKind::RestoresImage,
        FaultName::SharedId => FaultKind::SharedId,
        FaultName::ControllerDies => {
            FaultKind::ControllerDies { operation: stream.below(40), wreck }
        }
        FaultName::ControllerMoves => FaultKind::ControllerMoves,
        FaultName::ControllerDiskFull => FaultKind::ControllerDiskFull,
    };
    Fault { from_s, until_s, who: whom(name, devices, stream), kind }
}

fn whom(name: FaultName, devices: u32, stream: &mut Stream) -> Who {
    let text = name.text();
    if ["broker-", "mirror-", "controller-"].iter().any(|server| text.starts_with(server)) {
        return Who::Servers;
    }
    let one = Who::Device(stream.below(u64::from(devices)) as u32);
    let share = Who::Share(stream.between(50, 600) as u16);
    match (name, stream.below(8)) {
        (FaultName::Partition, _) => share,
        // One machine at a time: that a fleet restores its images together is another product.
        (FaultName::RestoresImage | FaultName::SharedId | FaultName::PowerCut, _) => one,
        (_, 0) => Who::All,
        (_, 1 | 2) => share,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_scenario_which_its_text_brings_back() {
        for seed in 0..50 {
            let scenario = Scenario::from_seed(seed, 20, 72, &Wanted::All);
            assert_eq!(scenario, Scenario::from_seed(seed, 20, 72, &Wanted::All));
            assert_eq!(Scenario::parse(&scenario.text()).unwrap(), scenario);
            assert!(scenario.validate().is_ok());
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_there_and_changes_nothing_else() {
        let only = Wanted::Only([FaultName::Loss].into());
        for seed in 0..50 {
            let all = Scenario::from_seed(seed, 20, 72, &Wanted::All);
            let some = Scenario::from_seed(seed, 20, 72, &only);
            let of_all = all.faults.iter().filter(|fault| fault.kind.name() == FaultName::Loss);
            assert!(of_all.eq(&some.faults));
            assert_eq!(Scenario::from_seed(seed, 20, 72, &Wanted::None).faults, []);
            assert_eq!(all.acts, some.acts);
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn_and_ends_in_time() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            for fault in Scenario::from_seed(seed, 20, 72, &Wanted::All).faults {
                assert!(fault.from_s <= fault.until_s && fault.until_s <= 72 * 3600);
                seen.insert(fault.kind.name());
            }
        }
        assert_eq!(seen.len(), FaultName::ALL.len());
    }
}
