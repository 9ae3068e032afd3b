//! Envelopes of every kind, and the arithmetic over what they hold.

use tidegate_drift::{LatencySummary, NumericTotal, OutputSummary};
use tidegate_trust::{Root, Snapshot, Targets, Timestamp};
use tidegate_wire::directive::{Directive, Rule};
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::envelope::{Message, open, seal};
use tidegate_wire::humility::{Action, Condition, HumilityRule};
use tidegate_wire::invitation::{Invitation, Pass};
use tidegate_wire::manifest::{DriftReference, FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::report::{Ack, Body, Feedback, ModelStatus, Report, Status, Transition, Window};
use tidegate_wire::tensor::{Datatype, GoldenSet, TensorData, TensorSpec};
use tidegate_wire::{ArtifactRef, Digest, Generation, Labels, Reason, State};

/// Any message, as it stands in its envelope.
pub fn messages(bytes: &[u8]) {
    as_it_is::<Directive>(bytes);
    as_it_is::<EnrolRequest>(bytes);
    one_encoding::<EnrolResponse>(bytes);
    one_encoding::<Invitation>(bytes);
    one_encoding::<Pass>(bytes);
    as_it_is::<GoldenSet>(bytes);
    as_it_is::<Status>(bytes);
    one_encoding::<Ack>(bytes);
    as_it_is::<DriftReference>(bytes);
    as_it_is::<Root>(bytes);
    as_it_is::<Timestamp>(bytes);
    as_it_is::<Snapshot>(bytes);
    as_it_is::<Targets>(bytes);
    if let Some(manifest) = as_it_is::<Manifest>(bytes) {
        measure(&manifest);
    }
    if let Some(Report { body: Body::Window(window), .. }) = as_it_is::<Report>(bytes) {
        add_up(&window);
    }
}

/// What decodes is within its limit, and is encoded in one way only.
pub(crate) fn as_it_is<M: Message>(bytes: &[u8]) -> Option<M> {
    let message = match open::<M>(bytes) {
        Ok(message) => message,
        Err(error) => {
            // Texts of errors are read by people and travel in reports.
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    assert!(bytes.len() <= M::SIZE_MAX, "{}: {} bytes", M::KIND, bytes.len());
    let sealed = seal(&message);
    if sealed.len() <= M::SIZE_MAX {
        let again = open::<M>(&sealed).unwrap_or_else(|error| {
            panic!("{}: what was read cannot be read again: {error}", M::KIND)
        });
        assert_eq!(seal(&again), sealed, "{}: two encodings of one message", M::KIND);
    }
    Some(message)
}

/// Of a message without floats and fields that may be left out: only fields that this build does not
/// know make it longer than it need be.
fn one_encoding<M: Message>(bytes: &[u8]) {
    if let Some(message) = as_it_is::<M>(bytes) {
        let sealed = seal(&message);
        assert!(sealed == bytes || sealed.len() < bytes.len(), "{}: another encoding", M::KIND);
        assert!(sealed == bytes || !bytes.starts_with(&sealed), "{}: something follows", M::KIND);
    }
}

fn measure(manifest: &Manifest) {
    let length = manifest.length();
    assert!(manifest.files.iter().all(|file| file.length <= length));
    for spec in manifest.inputs.iter().chain(&manifest.outputs) {
        let _ = spec.row_len();
    }
    let _ = manifest.file(FileRole::Model);
}

/// As the controller does with every window that it hears of.
fn add_up(window: &Window) {
    for feature in &window.features {
        let mut total = NumericTotal::default();
        let _ = total.add(feature);
        let _ = total.add(feature);
        let _ = (total.n(), total.rows(), feature.n());
        let mut sum = *feature;
        let _ = sum.merge(feature);
    }
    if let Some(outputs) = &window.outputs {
        let classes = outputs.classes().categories();
        let mut total = OutputSummary::<u64>::total(classes);
        let _ = total.merge(outputs);
        let _ = total.merge(outputs);
        let _ = (total.n(), total.invalid());
    }
    let mut total = LatencySummary::<u64>::total(window.latency.floor_log2_us());
    let _ = total.merge(&window.latency);
    for p in [0.0, 0.5, 0.99, 1.0] {
        let quantile = total.quantile_us(p);
        assert!(quantile.is_none_or(|value| value >= 0.0), "{quantile:?}");
    }
}

pub(crate) fn artifact() -> ArtifactRef {
    ArtifactRef { digest: Digest::of(b"manifest"), version: parsed("1.2.0") }
}

/// A name that is one.
pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("seeds are well formed")
}

pub(crate) fn directive() -> Directive {
    let rule = |limit| Rule {
        selector: Labels::from([("site".to_string(), "oslo".to_string())]),
        include: vec![parsed("pi4.0001")],
        exclude: vec![parsed("pi4.0002")],
        salt: *b"0123456789abcdef",
        limit,
        artifact: artifact(),
        since: Generation(3),
    };
    Directive {
        fleet: parsed("oslo"),
        model: parsed("digits"),
        generation: Generation(7),
        issued: 1_000,
        expires: 2_000,
        rules: vec![rule(1 << 60), rule(u64::MAX)],
        reason: Some(Reason::CrashLoop),
    }
}

pub(crate) fn manifest() -> Manifest {
    let file = |role, length| FileEntry { role, length, digest: Digest::of(&[length as u8]) };
    let tensor = |name: &str, shape: &[i64]| TensorSpec {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape: shape.to_vec(),
        labels: vec!["zero".to_string(), "one".to_string()],
        limits: None,
    };
    Manifest {
        model: parsed("digits"),
        version: parsed("1.2.0"),
        engine: "tract-onnx".to_string(),
        task: Task::Classification,
        files: vec![file(FileRole::Model, 70_000), file(FileRole::Golden, 900)],
        inputs: vec![tensor("image", &[-1, 64])],
        outputs: vec![tensor("probabilities", &[-1, 2])],
        gates: Gates::default(),
        window_rows: 100,
        humility: vec![
            rule_of("unsure", Condition::Uncertain { confidence_min: 0.5 }, Action::Flag),
            rule_of(
                "odd",
                Condition::OutlyingInput { feature: Some(1), range: Some([0.0, 16.0]) },
                Action::Override(vec![0.0, 1.0]),
            ),
        ],
    }
}

fn rule_of(name: &str, when: Condition, action: Action) -> HumilityRule {
    HumilityRule { name: name.to_string(), when, action }
}

/// A window and a transition.
pub(crate) fn reports() -> [Report; 2] {
    [report(Body::Window(window())), report(Body::Transition(transition()))]
}

fn report(body: Body) -> Report {
    Report {
        fleet: parsed("oslo"),
        device: parsed("pi4.0001"),
        spool: 77,
        seq: 5,
        oldest: 2,
        dropped: 1,
        at: 1_000,
        body,
    }
}

fn window() -> Window {
    let mut outputs = OutputSummary::new(2);
    outputs.observe(&[0.25, 0.75]);
    let mut latency = LatencySummary::with_floor(4);
    latency.observe(900);
    let mut feedback = Feedback::default();
    feedback.count_class(1, 1, 2);
    Window {
        model: parsed("digits"),
        artifact: artifact(),
        boot: 3,
        window: 1,
        opened: 900,
        closed: 1_000,
        rows: 1,
        errors: 0,
        reference: Some(Digest::of(b"reference")),
        features: vec![Default::default(), Default::default()],
        outputs: Some(outputs),
        latency,
        bad_inputs: 2,
        humility: [("unsure".to_string(), 1)].into(),
        feedback: Some(feedback),
    }
}

fn transition() -> Transition {
    Transition {
        model: parsed("digits"),
        generation: Generation(7),
        artifact: Some(artifact()),
        state: State::Reverted,
        active: Some(artifact()),
        reason: Some(Reason::CrashLoop),
        detail: "3 starts".to_string(),
    }
}

pub(crate) fn status() -> Status {
    Status {
        device: parsed("pi4.0001"),
        agent: "0.1.0".to_string(),
        online: true,
        instance: 9,
        labels: Labels::from([("site".to_string(), "oslo".to_string())]),
        models: vec![ModelStatus {
            model: parsed("digits"),
            generation: Generation(7),
            state: State::Trial,
            active: Some(artifact()),
            candidate: None,
            reason: None,
        }],
        api: "127.0.0.1:8000".to_string(),
        spooled: 3,
        dropped: 0,
        refused: vec![],
    }
}

/// The same message with 77 in three bytes instead of two.
fn longer_number(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.windows(2).position(|two| two == [0x18, 77]).expect("it is in there");
    bytes.splice(at..at + 2, [0x19, 0, 77]);
    bytes
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let tensor = TensorData {
        name: "image".to_string(),
        datatype: Datatype::Uint8,
        shape: vec![1, 4],
        bytes: vec![1, 2, 3, 4],
    };
    let golden = GoldenSet { inputs: vec![tensor.clone()], outputs: vec![tensor] };
    let mut seeds = vec![
        seal(&directive()),
        seal(&manifest()),
        seal(&reports()[0]),
        seal(&reports()[1]),
        seal(&status()),
        seal(&Ack { spool: 77, seqs: vec![(0, 3), (5, 5)] }),
        longer_number(seal(&Ack { spool: 77, seqs: vec![] })),
        [seal(&Ack { spool: 1, seqs: vec![] }), vec![0]].concat(),
        b"\x83\x01\x63ack\xa2\x65spool\x18\x4d\x64seqs\x80".to_vec(),
        seal(&golden),
        seal(&crate::texts::invitation()),
        seal(&crate::texts::pass()),
        seal(&crate::texts::enrol_request()),
    ];
    seeds.extend(crate::metadata::payloads());
    seeds
}
