use alloc::boxed::Box;
use alloc::collections::BTreeMap as Store;
use alloc::string::{String, ToString};
use alloc::vec;

use tidegate_drift::{LatencySummary, OutputSummary};
use tidegate_rollout::{
    ArtifactFacts, Inputs, Known as Signed, Policy, RolloutId, Start, WaveRecord, WaveSize, start,
};
use tidegate_wire::directive::position;
use tidegate_wire::report::{Body, Feedback, Window};
use tidegate_wire::{ArtifactRef, Digest, Generation};

use super::*;
use crate::Entry;
use crate::certificate::IssuedCertificate;
use crate::state::Record;

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
        fleet: "plant".parse().unwrap(),
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
        certificate: IssuedCertificate::new([1; 16], 0, 1),
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
        bad_inputs: 0,
        humility: Default::default(),
        feedback: None,
    };
    Report {
        fleet: "plant".parse().unwrap(),
        device: device.clone(),
        spool: 1,
        seq,
        oldest: 0,
        dropped: 0,
        at: 1_800_000_000,
        body: Body::Window(window),
    }
}

#[test]
fn doubts_refusals_and_labels_add_up_and_what_no_device_can_mean_is_left_out() {
    let mut served = device::Served::default();
    let Body::Window(plain) = window(&"d0".parse().unwrap(), 0, "1", 100).body else { panic!() };
    let mut feedback = Feedback::default();
    feedback.count_class(1, 0, 2);
    feedback.count_class(1, 1, 2);
    let humility = [("unsure".to_string(), 3), ("x".repeat(99), 1)].into();
    let told = Window { bad_inputs: 2, humility, feedback: Some(feedback), ..plain.clone() };
    (0..2).for_each(|_| served.add(&told));
    let many = (0..99).map(|rule| (rule.to_string(), 1)).collect();
    served.add(&Window { humility: many, ..plain });
    let [entry] = served.artifacts.as_slice() else { panic!() };
    assert_eq!((entry.rows, entry.bad_inputs, entry.humility["unsure"]), (30, 4, 6));
    assert_eq!(entry.humility.len(), tidegate_wire::humility::RULES_MAX);
    assert_eq!((entry.feedback.matched, &entry.feedback.confusion), (4, &vec![0, 0, 2, 2]));
    let mut books = Books::default();
    for device in ["d0", "d1"] {
        books.devices.entry(device.parse().unwrap()).or_default().served = served.clone();
    }
    let fleet = books.served(&"digits".parse().unwrap());
    let sum = &fleet[&artifact("1").digest];
    assert_eq!((sum.rows, sum.bad_inputs, sum.humility["unsure"]), (60, 8, 12));
    assert_eq!((sum.feedback.matched, sum.feedback.correct), (8, 4));
}

/// What a store keeps of the books.
#[derive(Default)]
struct Stored(Store<String, Vec<u8>>);

impl Stored {
    fn commit(&mut self, books: &mut Books) {
        for Document { name, bytes } in books.changes().documents {
            match bytes {
                Some(bytes) => self.0.insert(name, bytes),
                None => self.0.remove(&name),
            };
        }
    }

    fn read(&self) -> Books {
        Books::read(&self.0)
    }
}

#[test]
fn windows_count_on_the_side_that_they_belong_to_once() {
    let (mut books, mut stored) = (Books::default(), Stored::default());
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
    books.absorb(reports, &state);
    stored.commit(&mut books);
    let rollout = &state.rollouts[&RolloutId(1)].rollout;
    let evidence = books.evidence(rollout, None);
    assert_eq!((evidence.new.rows, evidence.new.errors), (10, 1));
    assert_eq!((evidence.control.rows, evidence.control.classes[0]), (20, 2));
    assert_eq!(evidence.inputs, Inputs::Unknown);
    assert!(books.device(&canary).unwrap().served.ever(&artifact("2").digest));
    assert!(!books.device(&control).unwrap().served.ever(&artifact("2").digest));

    let totals = books.totals();
    assert_eq!((totals.received, totals.duplicates, totals.rows), (6, 1, 60));
    let mut again = stored.read();
    assert_eq!(again.totals(), totals);
    assert_eq!(again.evidence(rollout, None), evidence);
    again.absorb(vec![window(&canary, 0, "2", 200)], &state);
    assert_eq!(again.totals().duplicates, 2, "also after a restart");
}

#[test]
fn what_was_said_about_rollouts_that_are_over_is_forgotten() {
    let (mut books, mut stored) = (Books::default(), Stored::default());
    let (state, [canary, _]) = state();
    books.absorb(vec![window(&canary, 0, "2", 200)], &state);
    stored.commit(&mut books);
    let rows =
        |books: &Books| books.evidence(&state.rollouts[&RolloutId(1)].rollout, None).new.rows;
    books.keep_evidence(&[RolloutId(1)]);
    assert_eq!(rows(&books), 10);
    books.keep_evidence(&[RolloutId(2)]);
    stored.commit(&mut books);
    assert_eq!(rows(&books), 0);
    assert_eq!(rows(&stored.read()), 0, "also on the disk");
}

#[test]
fn what_a_device_that_was_removed_meanwhile_said_brings_nothing_back() {
    let (mut books, mut stored) = (Books::default(), Stored::default());
    let (mut state, [canary, _]) = state();
    books.absorb(vec![window(&canary, 0, "2", 200)], &state);
    books.hear(status(&canary), 1_000, &state);
    stored.commit(&mut books);
    state.devices.remove(&canary);
    books.forget(&canary);
    books.absorb(vec![window(&canary, 1, "2", 200)], &state);
    books.hear(status(&canary), 2_000, &state);
    stored.commit(&mut books);
    assert_eq!(books.online(), 0);
    assert_eq!(stored.read().device(&canary), None);
}

#[test]
fn a_document_that_cannot_be_read_is_left_out() {
    let (mut books, mut stored) = (Books::default(), Stored::default());
    let (state, [canary, control]) = state();
    let reports = [&canary, &control].map(|device| window(device, 0, "1", 200));
    books.absorb(reports.into(), &state);
    stored.commit(&mut books);
    let name = alloc::format!("spools/{canary}");
    stored.0.insert(name, vec![0xff; 9]);
    stored.0.insert("nonsense".into(), vec![]);
    let again = stored.read();
    assert_eq!(again.device(&canary).unwrap().spools, Spools::default());
    assert_eq!(again.device(&control), books.device(&control));
    assert_eq!(again.totals().received, 2);
}

fn status(device: &DeviceId) -> Status {
    Status {
        device: device.clone(),
        agent: "0.1.0".into(),
        online: true,
        instance: 1,
        labels: Default::default(),
        models: vec![],
        api: String::new(),
        spooled: 0,
        dropped: 0,
        refused: vec![],
    }
}
