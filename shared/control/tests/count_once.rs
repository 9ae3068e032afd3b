//! Each report counts once, whatever becomes of the store's commits and of the acknowledgements.
//!
//! Devices send everything that was not acknowledged again and again. A commit is all or nothing; the
//! controller acknowledges after it. Every sequence of five outcomes over five rounds is tried.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_control::Entry;
use tidegate_control::books::{Books, Document};
use tidegate_control::certificate::IssuedCertificate;
use tidegate_control::ingest::Acks;
use tidegate_control::state::{Record, State};
use tidegate_drift::LatencySummary;
use tidegate_wire::report::{Body, Report, Window};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, DeviceId, Digest};

/// Rows of each window.
const ROWS: u64 = 10;

const ROUNDS: u32 = 5;

/// What becomes of a batch of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is stored, and the devices hear of it.
    Heard,
    /// It is stored, and the acknowledgements are lost.
    Unheard,
    /// It cannot be stored, and the controller goes on.
    Failed,
    /// The controller dies before it is stored.
    DiedBefore,
    /// The controller dies after it is stored and before it acknowledges.
    DiedAfter,
}

const OUTCOMES: [Outcome; 5] =
    [Outcome::Heard, Outcome::Unheard, Outcome::Failed, Outcome::DiedBefore, Outcome::DiedAfter];

/// Two devices, a controller and its store.
struct World {
    state: State,
    books: Books,
    stored: BTreeMap<String, Vec<u8>>,
    /// What each device has not heard of yet, by number.
    spools: BTreeMap<DeviceId, BTreeSet<u64>>,
    /// What each device was told is stored.
    acknowledged: BTreeMap<DeviceId, BTreeSet<u64>>,
    made: u64,
}

impl World {
    fn new() -> Self {
        let devices: [DeviceId; 2] = ["a", "b"].map(|device| device.parse().unwrap());
        let mut state = State::default();
        for device in &devices {
            let what = Record::DeviceEnrolled {
                device: device.clone(),
                labels: Default::default(),
                public_key: vec![],
                certificate: IssuedCertificate::new([1; 16], 0, 1),
                agent: "0.1.0".into(),
                token: Digest::of(b"token"),
            };
            let (who, why, previous) = ("anna".into(), String::new(), Digest([0; 32]));
            state.apply(&Entry { seq: 1, at_ms: 1, who, why, previous, what });
        }
        let spools = devices.iter().map(|device| (device.clone(), BTreeSet::new())).collect();
        let (books, stored, acknowledged) = Default::default();
        Self { state, books, stored, spools, acknowledged, made: 0 }
    }

    /// Every device makes three reports more. In every other round one of them is lost when it is sent
    /// for the first time.
    fn make(&mut self) -> Vec<Report> {
        let made = self.made;
        self.spools.values_mut().for_each(|spool| spool.extend(made..made + 3));
        self.made += 3;
        self.sent(|seq| made.is_multiple_of(2) || seq != made + 1)
    }

    /// What the devices send of all that they have.
    fn sent(&self, arrives: impl Fn(u64) -> bool) -> Vec<Report> {
        let mut sent = Vec::new();
        for (device, spool) in &self.spools {
            let oldest = spool.first().copied().unwrap_or(self.made);
            // The newest first: nothing promises an order.
            let seqs = spool.iter().rev().filter(|seq| arrives(**seq));
            sent.extend(seqs.map(|seq| report(device, *seq, oldest)));
        }
        sent
    }

    fn round(&mut self, reports: Vec<Report>, outcome: Outcome) {
        let mut acks = Acks::default();
        reports.iter().for_each(|report| acks.add(report));
        self.books.absorb(reports, &self.state);
        let changes = self.books.changes();
        match outcome {
            Outcome::Failed => return self.books.unstored(changes),
            Outcome::DiedBefore => return self.books = Books::read(&self.stored),
            Outcome::Heard | Outcome::Unheard | Outcome::DiedAfter => {}
        }
        for Document { name, bytes } in changes.documents {
            match bytes {
                Some(bytes) => self.stored.insert(name, bytes),
                None => self.stored.remove(&name),
            };
        }
        match outcome {
            Outcome::DiedAfter => self.books = Books::read(&self.stored),
            Outcome::Heard => acks.messages().for_each(|(topic, ack)| {
                let Topic::Ack(device) = topic else { panic!("{topic:?}") };
                let told = ack.seqs.into_iter().flat_map(|(first, last)| first..=last);
                for seq in told {
                    self.spools.get_mut(&device).unwrap().remove(&seq);
                    self.acknowledged.entry(device.clone()).or_default().insert(seq);
                }
            }),
            _ => {}
        }
    }

    /// What was acknowledged is stored, whatever the controller has in memory.
    fn check(&self) {
        let mut stored = Books::read(&self.stored);
        let told = self.acknowledged.iter();
        let told = told.flat_map(|(device, seqs)| seqs.iter().map(move |seq| (device, *seq)));
        let again: Vec<Report> = told.map(|(device, seq)| report(device, seq, 0)).collect();
        let (before, count) = (stored.totals(), again.len() as u64);
        stored.absorb(again, &self.state);
        let after = stored.totals();
        assert_eq!(after.received, before.received, "something was acknowledged but not stored");
        assert_eq!(after.duplicates, before.duplicates + count);
    }
}

fn report(device: &DeviceId, seq: u64, oldest: u64) -> Report {
    let version = "1.0.0".parse().unwrap();
    let window = Window {
        model: "digits".parse().unwrap(),
        artifact: ArtifactRef { digest: Digest::of(b"1"), version },
        boot: 1,
        window: seq,
        opened: seq,
        closed: seq + 1,
        rows: ROWS,
        errors: 0,
        reference: None,
        features: vec![],
        outputs: None,
        latency: LatencySummary::with_floor(0),
        bad_inputs: 0,
        humility: Default::default(),
        feedback: None,
    };
    Report {
        fleet: "plant".parse().unwrap(),
        device: device.clone(),
        spool: 7,
        seq,
        oldest,
        dropped: 0,
        at: seq,
        body: Body::Window(window),
    }
}

#[test]
fn every_report_counts_once_whatever_becomes_of_commits_and_acknowledgements() {
    let sequences = OUTCOMES.len().pow(ROUNDS);
    for number in 0..sequences {
        let chosen = (0..ROUNDS).map(|round| number / OUTCOMES.len().pow(round) % OUTCOMES.len());
        let chosen: Vec<Outcome> = chosen.map(|index| OUTCOMES[index]).collect();
        let mut world = World::new();
        for outcome in &chosen {
            let reports = world.make();
            world.round(reports, *outcome);
            world.check();
        }
        let rest = world.sent(|_| true);
        world.round(rest, Outcome::Heard);
        world.check();
        let made = 2 * world.made;
        for books in [&world.books, &Books::read(&world.stored)] {
            let totals = books.totals();
            assert_eq!((totals.received, totals.rows), (made, made * ROWS), "{chosen:?}");
            for device in world.spools.keys() {
                let known = books.device(device).unwrap();
                let rows: u64 = known.served.artifacts.iter().map(|one| one.rows).sum();
                assert_eq!(rows, world.made * ROWS, "{chosen:?}");
            }
        }
        assert!(world.spools.values().all(BTreeSet::is_empty), "{chosen:?}");
    }
}
