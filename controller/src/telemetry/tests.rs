use super::*;
use crate::authority;
use crate::state::Record;
use crate::testing::report;
use tidegate_control::Entry;
use tidegate_wire::Digest;

/// A fleet of one device.
fn state() -> State {
    let mut state = State::default();
    let what = Record::DeviceEnrolled {
        device: "pi".parse().unwrap(),
        labels: Default::default(),
        public_key: vec![],
        certificate: authority::issue(0, 1),
        agent: "0.1.0".into(),
        token: Digest::of(b"token"),
    };
    let (who, why, previous) = ("pi".into(), String::new(), Digest([0; 32]));
    state.apply(&Entry { seq: 1, at_ms: 1, who, why, previous, what });
    state
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::open(dir.path()).unwrap();
    let (state, pi) = (state(), "pi".parse().unwrap());
    telemetry.absorb((0..5).map(|seq| report("pi", 1, seq)).collect(), &state);
    telemetry.commit().unwrap();
    telemetry.absorb(vec![report("pi", 1, 5)], &state);
    drop(telemetry);
    let again = Telemetry::open(dir.path()).unwrap();
    again.absorb((3..7).map(|seq| report("pi", 1, seq)).collect(), &state);
    let totals = again.totals();
    assert_eq!((totals.received, totals.duplicates), (7, 2), "report 5 was not committed");
    again.forget(&pi);
    again.commit().unwrap();
    drop(again);
    let after = Telemetry::open(dir.path()).unwrap();
    assert_eq!(after.device(&pi).spools.received, 0);
    assert_eq!(after.totals().received, 7);
}

#[test]
fn a_full_disk_keeps_nothing_from_being_stored_later() {
    let Some(disk) = crate::disk::SmallDisk::mount(4) else { return };
    let folder = disk.path().join("telemetry");
    let telemetry = Telemetry::open(&folder).unwrap();
    disk.fill();
    telemetry.absorb(vec![report("pi", 1, 0)], &state());
    for _ in 0..2 {
        assert!(telemetry.commit().is_err());
    }
    disk.free();
    // Sled may hold its own lock a little longer; the next batch of reports tries again.
    let begun = std::time::Instant::now();
    while let Err(error) = telemetry.commit() {
        assert!(begun.elapsed() < crate::testing::PATIENCE, "{error}");
        std::thread::yield_now();
    }
    assert_eq!(telemetry.totals().received, 1);
    assert!(!disk.path().join("telemetry.damaged-1").exists());
}
