use tidegate_drift::{LatencySummary, OutputSummary};
use tidegate_rollout::{
    ArtifactFacts, Inputs, Known as Signed, Policy, RolloutId, Start, WaveRecord, WaveSize, start,
};
use tidegate_wire::directive::position;
use tidegate_wire::report::Window;
use tidegate_wire::{ArtifactRef, Digest, Generation};

use super::*;
use crate::authority::IssuedCertificate;
use crate::journal::Entry;
use crate::state::Record;
use crate::testing::{fleet_id, report};

fn artifact(version: &str) -> ArtifactRef {
    ArtifactRef { digest: Digest::of(version.as_bytes()), version: version.parse().unwrap() }
}

/// Two devices, and a rollout from 1 to 2 whose first wave took the one with the lower position.
fn state() -> (State, [DeviceId; 2]) {
    let mut state = State::default();
    let mut devices: [DeviceId; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
    let salt = [3; 16];
    devices.sort_by_key(|device| position(&salt, device));
    let (from, to) = (artifact("1"), artifact("2"));
    let facts = ArtifactFacts::default().with(&from, Signed::Signed).with(&to, Signed::Signed);
    let request = Start {
        id: RolloutId(1),
        fleet: fleet_id(),
        model: "digits".parse().unwrap(),
        from: Some(from),
        to,
        policy: Policy::default(),
        salt,
        standing: vec![],
        last: Generation(0),
    };
    let mut rollout = start(request, None, &facts, 1_000).unwrap();
    let limit = position(&salt, &devices[0]) + 1;
    rollout.history.push(WaveRecord {
        size: WaveSize::Devices(1),
        limit,
        generation: Generation(1),
        opened_ms: 100_000,
        committed_ms: None,
        members: 1,
        added: 1,
    });
    let enrolled = devices.iter().map(|device| Record::DeviceEnrolled {
        device: device.clone(),
        labels: Default::default(),
        public_key: vec![],
        certificate: IssuedCertificate::new(0, 1),
        agent: "0.1.0".into(),
        token: Digest::of(b"token"),
    });
    let started = Record::RolloutStarted { rollout: Box::new(rollout) };
    for (index, what) in enrolled.chain([started]).enumerate() {
        let (who, why) = ("anna".into(), String::new());
        let previous = Digest([0; 32]);
        state.apply(&Entry { seq: index as u64 + 1, at_ms: 1, who, why, previous, what });
    }
    (state, devices)
}

fn window(device: &DeviceId, seq: u64, version: &str, closed: u64) -> Report {
    let mut outputs = OutputSummary::new(2);
    outputs.observe(&[0.9, 0.1]);
    let window = Window {
        model: "digits".parse().unwrap(),
        artifact: artifact(version),
        boot: 1,
        window: seq,
        opened: closed - 1,
        closed,
        rows: 10,
        errors: 1,
        reference: None,
        features: vec![],
        outputs: Some(outputs),
        latency: LatencySummary::with_floor(0),
    };
    Report { body: Body::Window(window), ..report(device.as_str(), 1, seq) }
}

#[test]
fn windows_count_on_the_side_that_they_belong_to_once() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::open(dir.path()).unwrap();
    let (state, [canary, control]) = state();
    let reports = vec![
        window(&canary, 0, "2", 200),
        window(&canary, 0, "2", 200), // again
        window(&canary, 1, "1", 201), // the old artifact on a device that was told to leave it
        window(&control, 0, "1", 200),
        window(&control, 1, "1", 201),
        window(&control, 2, "1", 99),  // before the first wave
        window(&control, 3, "0", 200), // an artifact that nobody asks about
    ];
    telemetry.absorb(reports, &state);
    telemetry.commit().unwrap();
    let rollout = &state.rollouts[&RolloutId(1)].rollout;
    let evidence = telemetry.evidence(rollout, None);
    assert_eq!((evidence.new.rows, evidence.new.errors), (10, 1));
    assert_eq!((evidence.control.rows, evidence.control.classes[0]), (20, 2));
    assert_eq!(evidence.inputs, Inputs::Unknown);
    assert!(telemetry.device(&canary).served.ever(&artifact("2").digest));
    assert!(!telemetry.device(&control).served.ever(&artifact("2").digest));

    let totals = telemetry.totals();
    assert_eq!((totals.received, totals.duplicates, totals.rows), (6, 1, 60));
    drop(telemetry);
    let again = Telemetry::open(dir.path()).unwrap();
    assert_eq!(again.totals(), totals);
    assert_eq!(again.evidence(rollout, None), evidence);
    again.absorb(vec![window(&canary, 0, "2", 200)], &state);
    assert_eq!(again.totals().duplicates, 2, "also after a restart");
}

#[test]
fn a_full_disk_keeps_nothing_from_being_stored_later() {
    let Some(disk) = crate::disk::SmallDisk::mount(4) else { return };
    let folder = disk.path().join("telemetry");
    let telemetry = Telemetry::open(&folder).unwrap();
    let (state, [device, _]) = state();
    disk.fill();
    telemetry.absorb(vec![window(&device, 0, "2", 200)], &state);
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

#[test]
fn what_was_said_about_rollouts_that_are_over_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::open(dir.path()).unwrap();
    let (state, [canary, _]) = state();
    telemetry.absorb(vec![window(&canary, 0, "2", 200)], &state);
    telemetry.commit().unwrap();
    let rows = |telemetry: &Telemetry| {
        telemetry.evidence(&state.rollouts[&RolloutId(1)].rollout, None).new.rows
    };
    telemetry.keep_evidence(&[RolloutId(1)]);
    assert_eq!(rows(&telemetry), 10);
    telemetry.keep_evidence(&[RolloutId(2)]);
    telemetry.commit().unwrap();
    assert_eq!(rows(&telemetry), 0);
    drop(telemetry);
    assert_eq!(rows(&Telemetry::open(dir.path()).unwrap()), 0, "also on the disk");
}

#[test]
fn a_report_of_a_device_that_was_removed_meanwhile_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::open(dir.path()).unwrap();
    let (mut state, [canary, _]) = state();
    telemetry.absorb(vec![window(&canary, 0, "2", 200)], &state);
    state.devices.remove(&canary);
    telemetry.forget(&canary);
    telemetry.absorb(vec![window(&canary, 1, "2", 200)], &state);
    telemetry.commit().unwrap();
    drop(telemetry);
    let again = Telemetry::open(dir.path()).unwrap();
    assert!(again.device(&canary).served.artifacts.is_empty());
}
