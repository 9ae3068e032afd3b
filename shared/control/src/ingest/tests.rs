use alloc::vec;

use tidegate_wire::report::{Body, Transition};
use tidegate_wire::{Digest, Generation, State as DeviceState};

use super::*;
use crate::Entry;
use crate::certificate::IssuedCertificate;
use crate::state::Record;

#[test]
fn acknowledged_numbers_are_runs() {
    assert_eq!(runs(vec![5, 1, 2, 2, 3, 9]), [(1, 3), (5, 5), (9, 9)]);
    assert_eq!(runs(vec![u64::MAX, u64::MAX - 1]), [(u64::MAX - 1, u64::MAX)]);
    assert_eq!(runs(vec![]), []);
}

#[test]
fn each_spool_is_acknowledged_to_its_device_in_messages_of_limited_size() {
    let mut acks = Acks::default();
    for seq in 0..=2 * RUNS_MAX as u64 {
        acks.add(&Report { seq: seq * 2, ..said("a") });
    }
    acks.add(&Report { spool: 8, ..said("a") });
    acks.add(&Report { spool: 7, ..said("b") });
    let messages: Vec<_> = acks.messages().collect();
    let of = |device: &str, spool| {
        let topic = Topic::Ack(device.parse().unwrap());
        let acks = messages.iter().filter(|(to, ack)| *to == topic && ack.spool == spool);
        acks.map(|(_, ack)| ack.seqs.len()).collect::<Vec<_>>()
    };
    assert_eq!((of("a", 7), of("a", 8)), (vec![RUNS_MAX, RUNS_MAX, 1], vec![1]));
    assert_eq!(of("b", 7), [1]);
    assert!(messages.iter().all(|(_, ack)| envelope::seal(ack).len() <= Ack::SIZE_MAX));
}

fn plant() -> FleetId {
    "plant".parse().unwrap()
}

fn said(device: &str) -> Report {
    let transition = Transition {
        model: "digits".parse().unwrap(),
        generation: Generation(1),
        artifact: None,
        state: DeviceState::Idle,
        active: None,
        reason: None,
        detail: Default::default(),
    };
    Report {
        fleet: plant(),
        device: device.parse().unwrap(),
        spool: 7,
        seq: 3,
        oldest: 0,
        dropped: 0,
        at: 1_800_000_000,
        body: Body::Transition(transition),
    }
}

fn status_of(device: &str) -> Status {
    Status {
        device: device.parse().unwrap(),
        agent: "0.1.0".into(),
        online: true,
        instance: 1,
        labels: Default::default(),
        models: vec![],
        api: Default::default(),
        spooled: 0,
        dropped: 0,
        refused: vec![],
    }
}

/// What becomes of a message in a fleet whose only device is `a`.
fn arrived(topic: Topic, bytes: &[u8]) -> Result<Said, Refused> {
    let mut state = State::default();
    let what = Record::DeviceEnrolled {
        device: "a".parse().unwrap(),
        labels: Default::default(),
        public_key: vec![],
        certificate: IssuedCertificate::new([1; 16], 0, 1),
        agent: "0.1.0".into(),
        token: Digest::of(b"token"),
    };
    let (who, why, previous) = (Default::default(), Default::default(), Digest([0; 32]));
    state.apply(&Entry { seq: 1, at_ms: 1, who, why, previous, what });
    read(&plant(), &state, topic.name(&plant()).as_bytes(), bytes)
}

#[test]
fn what_a_device_says_of_itself_is_taken_in() {
    let a: DeviceId = "a".parse().unwrap();
    let report = arrived(Topic::Report(a.clone()), &envelope::seal(&said("a")));
    assert_eq!(report, Ok(Said::Report(said("a"))));
    let status = arrived(Topic::Status(a), &envelope::seal(&status_of("a")));
    assert_eq!(status, Ok(Said::Status(status_of("a"))));
    let gone = Topic::Status("gone".parse().unwrap());
    assert_eq!(arrived(gone, b""), Ok(Said::Nothing));
}

#[test]
fn everything_else_is_turned_away_with_a_reason_and_for_its_device() {
    let a: DeviceId = "a".parse().unwrap();
    let b: DeviceId = "b".parse().unwrap();
    let report = |report: &Report| envelope::seal(report);
    let of_other_fleet = Report { fleet: "other".parse().unwrap(), ..said("a") };
    let impossible = Report { oldest: 4, ..said("a") };
    let (on_report, on_status) = (Topic::Report(a.clone()), Topic::Status(a.clone()));
    let whose = Some(a.clone());
    for (topic, bytes, rejection, by) in [
        (on_report.clone(), b"".to_vec(), Rejection::Malformed, whose.clone()),
        (on_report.clone(), vec![0; Report::SIZE_MAX + 1], Rejection::TooLarge, whose.clone()),
        (on_report.clone(), report(&of_other_fleet), Rejection::WrongFleet, whose.clone()),
        (on_report.clone(), report(&said("b")), Rejection::WrongDevice, whose.clone()),
        (on_report.clone(), report(&impossible), Rejection::ImpossibleNumbers, whose.clone()),
        (on_report, envelope::seal(&status_of("a")), Rejection::WrongKind, whose.clone()),
        (on_status.clone(), envelope::seal(&status_of("b")), Rejection::WrongDevice, whose.clone()),
        (on_status, report(&said("a")), Rejection::WrongKind, whose),
        (Topic::Report(b.clone()), report(&said("b")), Rejection::UnknownDevice, None),
        (Topic::Status(b), envelope::seal(&status_of("b")), Rejection::UnknownDevice, None),
        (Topic::Ack(a), report(&said("a")), Rejection::WrongTopic, None),
        (Topic::Timestamp, vec![], Rejection::WrongTopic, None),
    ] {
        assert_eq!(arrived(topic, &bytes), Err(Refused { rejection, by }));
    }
}
