//! What devices say, as the controller takes it in: each report once, whatever it says, and nobody
//! for another device.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_control::Entry;
use tidegate_control::books::{Books, Document};
use tidegate_control::certificate::IssuedCertificate;
use tidegate_control::ingest::{self, Acks, Said};
use tidegate_control::state::{Record, State};
use tidegate_rollout::{
    ArtifactFacts, Known, Policy, Rollout, RolloutId, Start, WaveRecord, WaveSize, start,
};
use tidegate_wire::directive::LIMIT_ALL;
use tidegate_wire::envelope::{open, seal};
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::report::{Report, Status};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Digest, Generation};

use crate::messages::{artifact, parsed, reports, status};
use crate::script::{Piece, pieces, write};

pub(crate) const DEVICES: [&str; 2] = ["pi4.0001", "pi4.0002"];
/// Fewer than a device's books remember, so that none is forgotten.
const SPOOLS: u64 = 4;

/// A device's report; the other device's with [`OTHER`].
const REPORT: u8 = 0;
const STATUS: u8 = 1;
/// By which inputs were binned.
const REFERENCE: u8 = 2;
/// A message as it is, on the topic of the device, or of a stranger with [`OTHER`].
const RAW: u8 = 3;
const OTHER: u8 = 4;
/// Store what changed, and go on from what was stored.
const RESTART: u8 = 8;

/// What is known of one spool.
#[derive(Default)]
struct Spool {
    taken: BTreeSet<u64>,
    floor: u64,
}

/// The plain way to count once.
#[derive(Default)]
struct Model {
    spools: BTreeMap<(String, u64), Spool>,
    received: u64,
    duplicates: u64,
}

impl Model {
    fn take(&mut self, report: &Report) {
        let key = (report.device.to_string(), report.spool);
        let spool = self.spools.entry(key).or_default();
        if report.seq >= spool.floor && spool.taken.insert(report.seq) {
            self.received += 1;
        } else {
            self.duplicates += 1;
        }
        spool.floor = spool.floor.max(report.oldest);
    }
}

/// Any messages of two enrolled devices and a stranger.
pub fn books(bytes: &[u8]) {
    let state = state();
    let (mut books, mut model) = (Books::default(), Model::default());
    let mut stored = BTreeMap::new();
    let mut reference = None;
    for piece in pieces(bytes, 32) {
        if piece.tag & RESTART != 0 {
            store(&mut books, &mut stored);
            books = Books::read(&stored);
        }
        match piece.tag % 4 {
            REPORT => {
                let Some(report) = report_of(&state, &piece) else { continue };
                acknowledged(&report);
                model.take(&report);
                books.absorb(vec![report], &state);
            }
            STATUS => {
                if let Ok(status) = open::<Status>(piece.bytes) {
                    let device = parsed(DEVICES[usize::from(piece.tag & OTHER != 0)]);
                    books.hear(Status { device, ..status }, 1_000, &state);
                }
            }
            REFERENCE => reference = open::<DriftReference>(piece.bytes).ok(),
            RAW => raw(&state, &piece),
            _ => {}
        }
        let totals = books.totals();
        assert_eq!((totals.received, totals.duplicates), (model.received, model.duplicates));
    }
    look(&books, &state, reference.as_ref());
    store(&mut books, &mut stored);
    let again = Books::read(&stored);
    assert_eq!(again.totals(), books.totals(), "what was counted was not stored");
    look(&again, &state, reference.as_ref());
}

/// A report of an enrolled device that is let in, from few enough spools.
fn report_of(state: &State, piece: &Piece<'_>) -> Option<Report> {
    let mut report = open::<Report>(piece.bytes).ok()?;
    report.device = parsed(DEVICES[usize::from(piece.tag & OTHER != 0)]);
    report.spool %= SPOOLS;
    let topic = Topic::Report(report.device.clone()).name(&parsed("oslo"));
    match ingest::read(&parsed("oslo"), state, topic.as_bytes(), &seal(&report)) {
        Ok(Said::Report(report)) => {
            assert!(report.oldest <= report.seq);
            Some(report)
        }
        Ok(said) => panic!("a report was taken for {said:?}"),
        Err(refused) => {
            assert_eq!(refused.by, Some(report.device));
            None
        }
    }
}

/// What is acknowledged is what was stored.
fn acknowledged(report: &Report) {
    let mut acks = Acks::default();
    acks.add(report);
    acks.add(&Report { seq: report.seq.saturating_add(2), ..report.clone() });
    let numbers = BTreeSet::from([report.seq, report.seq.saturating_add(2)]);
    let acked = acks.messages().flat_map(|(topic, ack)| {
        assert_eq!(topic, Topic::Ack(report.device.clone()));
        assert_eq!(ack.spool, report.spool);
        ack.seqs
    });
    let acked: Vec<u64> = acked.flat_map(|(first, last)| first..=last).collect();
    assert!(acked.iter().all(|seq| numbers.contains(seq)) && acked.len() == numbers.len());
}

/// Nobody speaks for another device.
fn raw(state: &State, piece: &Piece<'_>) {
    let stranger = piece.tag & OTHER != 0;
    let device = parsed(if stranger { "nobody" } else { DEVICES[0] });
    let fleet = parsed("oslo");
    for topic in [Topic::Report(device), Topic::Status(parsed(DEVICES[0])), Topic::Timestamp] {
        match ingest::read(&fleet, state, topic.name(&fleet).as_bytes(), piece.bytes) {
            Ok(Said::Report(report)) => assert_eq!(topic, Topic::Report(report.device)),
            Ok(Said::Status(status)) => assert_eq!(topic, Topic::Status(status.device)),
            Ok(Said::Nothing) => assert!(piece.bytes.is_empty()),
            Err(refused) => assert!(!refused.rejection.reason().is_empty()),
        }
    }
    let _ = ingest::read(&fleet, state, piece.bytes, b"");
}

fn store(books: &mut Books, stored: &mut BTreeMap<String, Vec<u8>>) {
    for Document { name, bytes } in books.changes().documents {
        match bytes {
            Some(bytes) => drop(stored.insert(name, bytes)),
            None => drop(stored.remove(&name)),
        }
    }
}

fn look(books: &Books, state: &State, reference: Option<&DriftReference>) {
    let rollout = &state.rollouts[&RolloutId(1)].rollout;
    let view = books.fleet_view(state, rollout);
    assert_eq!(view.devices().len(), DEVICES.len());
    let _ = books.evidence(rollout, reference);
    let _ = (books.answering(&rollout.model), books.online());
    for device in state.devices.keys() {
        let heard = books.device(device).and_then(|known| known.heard.as_ref());
        let _ = heard.map(|heard| heard.warnings());
    }
}

pub(crate) fn enrolled(device: &str) -> Record {
    Record::DeviceEnrolled {
        device: parsed(device),
        labels: Default::default(),
        public_key: device.as_bytes().to_vec(),
        certificate: IssuedCertificate::new([1; 16], 0, 1),
        agent: "0.1.0".to_string(),
        token: Digest::of(b"token"),
    }
}

/// From 1.0.0 to 1.2.0, which its first wave brought to all devices.
pub(crate) fn rollout() -> Rollout {
    let from = ArtifactRef { digest: Digest::of(b"old"), version: parsed("1.0.0") };
    let facts = ArtifactFacts::default().with(&from, Known::Signed);
    let facts = facts.with(&artifact(), Known::Signed);
    let request = Start {
        id: RolloutId(1),
        fleet: parsed("oslo"),
        model: parsed("digits"),
        from: Some(from),
        to: artifact(),
        policy: Policy::default(),
        salt: [3; 16],
        standing: vec![],
        last: Generation(0),
    };
    let mut rollout = start(request, None, &facts, 0).expect("both are signed");
    rollout.history.push(WaveRecord {
        size: WaveSize::Devices(2),
        limit: LIMIT_ALL,
        generation: Generation(1),
        opened_ms: 0,
        committed_ms: None,
        members: 2,
        added: 2,
    });
    rollout
}

fn state() -> State {
    let mut state = State::default();
    let started = Record::RolloutStarted { rollout: Box::new(rollout()) };
    for (index, what) in DEVICES.map(enrolled).into_iter().chain([started]).enumerate() {
        let (who, why) = ("anna".to_string(), String::new());
        let previous = Digest([0; 32]);
        state.apply(&Entry { seq: index as u64 + 1, at_ms: 1, who, why, previous, what });
    }
    state
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let [window, transition] = reports().map(|report| seal(&report));
    let (status, reference) = (seal(&status()), seal(&reference()));
    vec![
        write([(REPORT, window.as_slice()), (REPORT | OTHER, &window), (REPORT, &window)]),
        write([(STATUS, status.as_slice()), (REPORT, &transition), (REPORT | RESTART, &window)]),
        write([(REFERENCE, reference.as_slice()), (REPORT, &window), (RAW, &window)]),
    ]
}

/// Of two features and two classes.
fn reference() -> DriftReference {
    use tidegate_drift::{DriftConfig, NumericReference, OutputSummary};

    let mut values: Vec<f32> = (0..100_u8).map(f32::from).collect();
    let range = Some((0.0, 100.0));
    let feature = NumericReference::from_sample(&mut values, range, 2, &DriftConfig::default());
    let feature = feature.expect("enough values");
    let mut outputs = OutputSummary::new(2);
    (0..50).for_each(|_| outputs.observe(&[0.25, 0.75]));
    DriftReference { features: vec![feature, feature], outputs: Some(outputs) }
}
