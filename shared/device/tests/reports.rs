//! Reports and statuses on their way: kept first, sent then, and sent again until they are known to
//! have arrived.
#![allow(missing_docs)]

mod world;

use tidegate_device::{Effect, Input, Publication};
use tidegate_disk::Fault as DiskFault;
use tidegate_wire::report::{Ack, Body, Report, Status, Window};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Digest, State, envelope};
use world::{Fleet, World, model};

/// A device whose model has gone all the way; its reports are in the spool.
fn with_reports() -> World {
    let mut fleet = Fleet::new();
    let artifact = fleet.release("1.0.0");
    let mut world = World::new(fleet);
    world.commit(1, &artifact);
    world.done();
    world
}

fn reports(effects: &[Effect]) -> Vec<Report> {
    let payload = |effect: &Effect| match effect {
        Effect::Publish { publication: Publication::Report(_), payload } => {
            Some(envelope::open(payload).unwrap())
        }
        _ => None,
    };
    effects.iter().filter_map(payload).collect()
}

fn numbers(effects: &[Effect]) -> Vec<u64> {
    reports(effects).iter().map(|report| report.seq).collect()
}

fn statuses(effects: &[Effect]) -> Vec<Status> {
    let payload = |effect: &Effect| match effect {
        Effect::Publish { publication: Publication::Status, payload } => {
            Some(envelope::open(payload).unwrap())
        }
        _ => None,
    };
    effects.iter().filter_map(payload).collect()
}

fn ack(world: &mut World, spool: u64, first: u64, last: u64) {
    let payload = envelope::seal(&Ack { spool, seqs: vec![(first, last)] });
    world.step(Input::Message { topic: Topic::Ack("pi-1".parse().unwrap()), payload });
}

fn window(number: u64) -> Window {
    Window {
        model: model(),
        artifact: ArtifactRef { digest: Digest::of(b"m"), version: "1.0.0".parse().unwrap() },
        boot: 1,
        window: number,
        opened: 0,
        closed: 1,
        rows: 10,
        errors: 0,
        reference: None,
        features: vec![],
        outputs: None,
        latency: tidegate_drift::LatencySummary::default(),
        bad_inputs: 0,
        humility: Default::default(),
        feedback: None,
    }
}

#[test]
fn reports_are_sent_until_they_are_acknowledged() {
    let mut world = with_reports();
    assert_eq!(world.device.figures().spooled, 3);
    world.step(Input::LinkUp);
    let done = world.done();
    let sent = reports(&done);
    let steps: Vec<State> = sent
        .iter()
        .map(|report| match &report.body {
            Body::Transition(transition) => transition.state,
            Body::Window(_) => panic!("no window was closed"),
        })
        .collect();
    assert_eq!(steps, [State::Fetching, State::Trial, State::Committed]);
    let spool = sent[0].spool;
    ack(&mut world, spool ^ 1, 0, 9);
    ack(&mut world, spool, 1, 1);
    // On their way: nothing is sent twice for now.
    world.pass(9_999);
    assert_eq!(numbers(&world.done()), []);
    world.pass(1);
    assert_eq!(numbers(&world.done()), [0, 2]);
    // After a lost link too, and after a restart.
    world.step(Input::LinkDown);
    world.pass(60_000);
    assert_eq!(numbers(&world.done()), []);
    world.step(Input::LinkUp);
    assert_eq!(numbers(&world.done()), [0, 2]);
    let mut world = world.restart();
    world.step(Input::LinkUp);
    assert_eq!(numbers(&world.done()), [0, 2]);
    ack(&mut world, spool, 0, 9);
    world.pass(600_000);
    assert_eq!(numbers(&world.done()), []);
    assert_eq!(world.device.figures().spooled, 0);
}

#[test]
fn a_link_without_room_is_tried_again() {
    let mut world = with_reports();
    world.step(Input::LinkUp);
    world.done();
    world.step(Input::NotTaken(Publication::Report(1)));
    world.step(Input::NotTaken(Publication::Report(2)));
    world.step(Input::NotTaken(Publication::Status));
    let done = world.done();
    assert!((numbers(&done).is_empty()) && statuses(&done).is_empty(), "{done:?}");
    world.pass(499);
    assert_eq!(numbers(&world.done()), []);
    world.pass(1);
    let done = world.done();
    assert_eq!((numbers(&done), statuses(&done).len()), (vec![1, 2], 1));
    // What is acknowledged has left the link: there is room.
    world.step(Input::NotTaken(Publication::Report(2)));
    let spool = reports(&done)[0].spool;
    ack(&mut world, spool, 0, 0);
    assert_eq!(numbers(&world.done()), [2]);
}

#[test]
fn a_status_comes_when_there_is_news_and_once_in_a_while() {
    let mut world = with_reports();
    world.pass(600_000);
    assert_eq!(statuses(&world.done()), []);
    world.step(Input::LinkUp);
    let done = world.done();
    let [status] = &statuses(&done)[..] else { panic!("{done:?}") };
    assert!(status.online && status.models[0].state == State::Committed, "{status:?}");
    assert_eq!(status.spooled, 3);
    world.pass(59_999);
    assert_eq!(statuses(&world.done()), []);
    world.pass(1);
    assert_eq!(statuses(&world.done()).len(), 1);
    world.pass(600_000);
    assert_eq!(statuses(&world.done()).len(), 10);
    let artifact = world.fleet.release("1.1.0");
    let directive = world.fleet.directive(2, &artifact);
    world.direct(directive);
    assert!(!statuses(&world.done()).is_empty());
}

#[test]
fn a_full_disk_loses_no_report_and_lets_windows_wait() {
    let mut world = with_reports();
    world.disk.set_refusal(Some(DiskFault::Full));
    let mut number = 0;
    while world.device.takes_windows() {
        world.step(Input::Window(window(number)));
        number += 1;
        assert!(number < 1_000, "it never says no");
    }
    world.pass(100_000);
    assert!(!world.device.takes_windows());
    assert_eq!(world.device.figures().spooled, 3 + number);
    world.disk.set_refusal(None);
    world.pass(30_000);
    assert!(world.device.takes_windows());
    let figures = world.device.figures();
    assert_eq!((figures.made, figures.spooled, figures.dropped), (3 + number, 3 + number, 0));
    // No more than a window are on their way.
    world.step(Input::LinkUp);
    assert_eq!(numbers(&world.done()), (0..32).collect::<Vec<u64>>());
}

#[test]
fn the_last_words_are_the_last_windows_and_a_status() {
    let mut world = with_reports();
    world.step(Input::LinkUp);
    world.done();
    world.step(Input::Stopping);
    world.step(Input::Window(window(0)));
    world.step(Input::Stopped);
    let done = world.done();
    assert_eq!(numbers(&done), [3]);
    assert!(statuses(&done).iter().all(|status| !status.online));
    assert!(matches!(done.last(), Some(Effect::Publish { publication: Publication::Status, .. })));
    let mut world = world.restart();
    world.step(Input::LinkUp);
    assert_eq!(numbers(&world.done()), [0, 1, 2, 3]);
}
