//! What a full disk does to reports, to a model on its way, and to a start.
//!
//! These tests fill a small disk of their own, which only root may mount; elsewhere they say so and
//! end.
#![allow(missing_docs)]

mod authority;
mod device;
mod digits;
mod disk;
mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use device::{Application, Device, Heard, gates};
use digits::slot;
use disk::SmallDisk;
use fleet::Fleet;
use tidegate_agent::store::Backlog;
use tidegate_agent::store::spool::SledSpool;
use tidegate_device::spool::{Sender, SpoolLimits};
use tidegate_wire::report::{Body, Report, Transition};
use tidegate_wire::{Generation, Reason, State, envelope};

fn transition(number: u64) -> Body {
    Body::Transition(Transition {
        model: digits::model_name(),
        generation: Generation(number),
        artifact: None,
        state: State::Idle,
        active: None,
        reason: None,
        detail: String::new(),
    })
}

fn backlog(folder: &Path) -> Backlog {
    let sender = Sender { fleet: "test".parse().unwrap(), device: "pi-1".parse().unwrap() };
    let limits = SpoolLimits { entries_max: 10_000, bytes_max: 1 << 24 };
    Backlog::new(SledSpool::new(folder.join("spool")), sender, limits)
}

/// What lies on the disk, by number.
fn on_disk(backlog: &mut Backlog) -> Vec<(u64, Body)> {
    let seqs: Vec<u64> = backlog.seqs().collect();
    let read = |seq| {
        let sealed = backlog.on_spool(0, |spool| spool.sealed(seq)).unwrap().unwrap();
        let report: Report = envelope::open(&sealed).unwrap();
        (seq, report.body)
    };
    seqs.into_iter().map(read).collect()
}

#[test]
fn reports_wait_in_memory_and_each_gets_to_the_disk_once() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let mut backlog = backlog(disk.path());
    (0..5).for_each(|number| backlog.append(0, 7, transition(number)));
    disk.fill();
    (5..60).for_each(|number| backlog.append(0, 7, transition(number)));
    assert!(on_disk(&mut backlog).is_empty(), "the spool is closed");
    assert_eq!((backlog.len(), backlog.dropped()), (60, 0));
    // As long as the disk is full, trying again changes nothing.
    backlog.retry(1_000_000);
    assert_eq!((backlog.len(), backlog.dropped()), (60, 0));
    disk.free();
    backlog.retry(2_000_000);
    let expected: Vec<(u64, Body)> = (0..60).map(|number| (number, transition(number))).collect();
    assert_eq!(on_disk(&mut backlog), expected);
    assert!(backlog.takes_windows());
}

#[test]
fn what_memory_could_not_hold_is_counted_on_the_disk() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let mut first = backlog(disk.path());
    first.append(0, 7, transition(0));
    disk.fill();
    (1..300).for_each(|number| first.append(0, 7, transition(number)));
    assert!(!first.takes_windows());
    assert_eq!(first.len() + first.dropped(), 300);
    assert!(first.dropped() > 100);
    disk.free();
    first.retry(1_000_000);
    let dropped = first.dropped();
    drop(first);
    let mut again = backlog(disk.path());
    again.retry(0);
    assert_eq!((again.len() + again.dropped(), again.dropped()), (300, dropped));
}

/// Makes the record a file with holes, as on a file system that needs room for every write.
fn with_holes(folder: &Path) {
    let path = folder.join("models/digits/record");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(8_192).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_finds_no_room_holds_everything_up_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let mut fleet = Fleet::start().await;
    let first = slot("1.0.0", gates());
    fleet.release(&first);
    let data = disk.path().join("data");
    // It has the model's name, and never ran it.
    let device = Device::start(&fleet, &data).await;
    device.stop().await;
    tidegate_agent::store::Store::open(&data).unwrap().model(&digits::model_name()).unwrap();
    with_holes(&data);
    let mut device = Device::start(&fleet, &data).await;
    device.status("the first status", |status| status.online).await;
    while !data.join("trust/targets").exists() {
        tokio::task::yield_now().await;
    }
    disk.fill();
    device.direct(&fleet, 1, &first).await;
    let full = |status: &tidegate_wire::report::Status| {
        status.models.first().is_some_and(|model| model.reason == Some(Reason::DiskFull))
    };
    device.status("a full disk", full).await;
    // Nothing that comes after the record was done.
    assert_eq!(fleet.blobs_asked(), 0);
    assert!(!data.join("models/digits/slot-a").exists());
    disk.free();
    let application = Application::start(&device.serving);
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}

/// Notes a report's number, and its step by that number.
fn note(report: Report, sent: &mut BTreeSet<u64>, steps: &mut BTreeMap<u64, State>) {
    sent.insert(report.seq);
    if let Body::Transition(transition) = report.body {
        steps.insert(report.seq, transition.state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_waits_for_room_while_answers_and_reports_go_on() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let mut fleet = Fleet::start().await;
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let data = disk.path().join("data");
    let mut device = Device::start(&fleet, &data).await;
    let application = Application::start(&device.serving);
    device.direct(&fleet, 1, &slots[0]).await;
    device.reached(State::Committed).await;

    disk.fill();
    let answered = application.answered();
    device.direct(&fleet, 2, &slots[1]).await;
    // What has been taken already may have left a little room for reports: once that is used up too,
    // they wait in memory, and more are spooled than can be sent.
    let mut steps = BTreeMap::new();
    let mut sent = BTreeSet::new();
    let waits = loop {
        match device.heard().await {
            Heard::Report(report) => note(report, &mut sent, &mut steps),
            Heard::Status(status) => {
                let full = status.models.iter().any(|it| it.reason == Some(Reason::DiskFull));
                if full && status.spooled > sent.len() as u64 {
                    break status;
                }
            }
        }
    };
    assert_eq!(waits.dropped, 0);
    let model = &waits.models[0];
    assert_eq!(model.active.as_ref(), Some(&slots[0].artifact));
    assert_eq!(model.candidate.as_ref(), Some(&slots[1].artifact));
    while application.answered() < answered + 100 {
        tokio::task::yield_now().await;
    }

    disk.free();
    while steps.values().last() != Some(&State::Committed) {
        note(device.report().await, &mut sent, &mut steps);
    }
    // Each step was told once, those that had to wait in memory too.
    let expected =
        [State::Fetching, State::Fetching, State::Shadow, State::Trial, State::Committed];
    assert_eq!(steps.into_values().collect::<Vec<State>>(), expected);
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_model_that_finds_no_room_is_installed_when_there_is_some() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let mut fleet = Fleet::start().await;
    let first = slot("1.0.0", gates());
    fleet.release(&first);
    let data = disk.path().join("data");
    let mut device = Device::start(&fleet, &data).await;
    device.status("the first status", |status| status.online).await;
    while !data.join("trust/targets").exists() {
        tokio::task::yield_now().await;
    }
    disk.fill();
    device.direct(&fleet, 1, &first).await;
    device.settled().await;
    assert!(!data.join("models/digits/record").exists());
    disk.free();
    // The directive is not said again.
    let application = Application::start(&device.serving);
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}
