//! What publishers revoke, the floor under releases, and what a release needs of a device: with
//! real models, real signatures and a real HTTP server; only the broker is played by the test.
#![allow(missing_docs)]

mod authority;
mod device;
mod digits;
mod fleet;

use std::fs;
use std::path::Path;

use device::{Application, Device, gates};
use digits::{Slot, slot};
use fleet::Fleet;
use tidegate_trust::Requirements;
use tidegate_wire::topic::Topic;
use tidegate_wire::{Labels, Reason, State};

/// A device on which 1.0.0 and then 1.1.0 was committed; 1.1.0 is in slot B.
async fn committed_twice(fleet: &mut Fleet, folder: &Path) -> (Device, [Slot; 2]) {
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let mut device = Device::start(fleet, folder).await;
    let application = Application::start(&device.serving);
    for (slot, generation) in slots.iter().zip(1..) {
        device.direct(fleet, generation, slot).await;
        device.reached(State::Committed).await;
    }
    application.stop().await;
    (device, slots)
}

fn absence(device: &Device) -> String {
    device.serving.turn("digits", None).err().expect("nothing answers").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_model_gives_way_without_a_question_unanswered_and_never_comes_back() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut device, slots) = committed_twice(&mut fleet, folder.path()).await;
    let application = Application::start(&device.serving);
    let asked = fleet.blobs_asked();
    let timestamp = fleet.revoke(&slots[1], "it was trained on the wrong pixels");
    device.deliver(Topic::Timestamp, timestamp).await;
    let moved = device.reached(State::Reverted).await;
    assert_eq!(moved.artifact.as_ref(), Some(&slots[1].artifact));
    assert_eq!(moved.active.as_ref(), Some(&slots[0].artifact));
    assert_eq!(moved.reason, Some(Reason::Revoked));
    assert!(moved.detail.contains("1.1.0: it was trained on the wrong pixels"), "{}", moved.detail);
    assert_eq!((device.version().as_deref(), fleet.blobs_asked()), (Some("1.0.0"), asked));
    assert!(!folder.path().join("models/digits/slot-b/model").exists());
    application.stop().await;
    device.stop().await;

    // Offline, and the metadata with the revocation is lost: the record remembers.
    fs::remove_file(folder.path().join("trust/targets")).unwrap();
    fleet.site.lock().unwrap().closed = true;
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    device.direct(&fleet, 3, &slots[1]).await;
    let refused = device.status("generation 3", |status| status.models[0].generation.0 == 3).await;
    assert_eq!(refused.models[0].reason, Some(Reason::Revoked));
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answers_when_all_that_a_device_has_is_revoked() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut device, slots) = committed_twice(&mut fleet, folder.path()).await;
    fleet.revoke(&slots[0], "license");
    let timestamp = fleet.revoke(&slots[1], "privacy");
    device.deliver(Topic::Timestamp, timestamp).await;
    let moved = device.reached(State::Reverted).await;
    assert_eq!((moved.active.as_ref(), moved.reason), (None, Some(Reason::Revoked)));
    assert!(
        absence(&device).contains("the publishers revoked the version"),
        "{}",
        absence(&device)
    );
    device.kill().await;
    let device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version(), None);
    assert!(
        absence(&device).contains("the publishers revoked the version"),
        "{}",
        absence(&device)
    );
    device.stop().await;
}

/// The metadata came to the disk, and power went before the record was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_not_load_what_the_stored_metadata_revokes() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (device, slots) = committed_twice(&mut fleet, folder.path()).await;
    device.settled().await;
    device.kill().await;
    let record = folder.path().join("models/digits/record");
    let before = fs::read(&record).unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    let timestamp = fleet.revoke(&slots[1], "wrong");
    device.deliver(Topic::Timestamp, timestamp).await;
    device.reached(State::Reverted).await;
    device.kill().await;
    fs::write(&record, before).unwrap();
    fleet.site.lock().unwrap().closed = true;
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    let moved = device.reached(State::Reverted).await;
    assert_eq!(moved.reason, Some(Reason::Revoked));
    assert!(moved.detail.contains("1.1.0: wrong"), "{}", moved.detail);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_revoked_in_its_shadow_is_rejected_and_not_fetched_again() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut device, _) = committed_twice(&mut fleet, folder.path()).await;
    let third = slot("1.2.0", gates());
    fleet.release(&third);
    // Nobody asks, so the shadow waits.
    device.direct(&fleet, 3, &third).await;
    device.reached(State::Shadow).await;
    let timestamp = fleet.revoke(&third, "it has no license");
    device.deliver(Topic::Timestamp, timestamp).await;
    let rejected = device.reached(State::Rejected).await;
    assert_eq!(rejected.reason, Some(Reason::Revoked));
    assert_eq!(device.version().as_deref(), Some("1.1.0"));
    let asked = fleet.blobs_asked();
    device.direct(&fleet, 4, &third).await;
    device.status("generation 4", |status| status.models[0].generation.0 == 4).await;
    assert_eq!(fleet.blobs_asked(), asked);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_floor_nothing_is_fetched_whatever_is_lost() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    fleet.raise_floor(2);
    let mut device = Device::start(&fleet, folder.path()).await;
    device.direct(&fleet, 1, &slots[0]).await;
    let rejected = device.reached(State::Rejected).await;
    assert_eq!(rejected.reason, Some(Reason::BelowFloor));
    assert!(rejected.detail.contains("it is release 1"), "{}", rejected.detail);
    assert_eq!(fleet.blobs_asked(), 0);
    device.direct(&fleet, 2, &slots[1]).await;
    let application = Application::start(&device.serving);
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_rejected_before_a_byte_with_the_requirement_by_name() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let open = Requirements::default;
    let labels = Labels::from([("hw".to_string(), "pi5".to_string())]);
    let cases = [
        (Requirements { opset: Some(99), ..open() }, "operator set 99"),
        (Requirements { engines: vec!["candle".into()], ..open() }, "candle"),
        (Requirements { agent_min: "99.0.0".parse().ok(), ..open() }, "it needs agent 99.0.0"),
        (Requirements { memory_mib_min: Some(u32::MAX), ..open() }, "4294967295 MiB of memory"),
        (Requirements { labels, ..open() }, "the label hw=pi5"),
    ];
    let mut device = Device::start(&fleet, folder.path()).await;
    for (generation, (needs, expected)) in (1..).zip(cases) {
        let mut misfit = slot("1.0.0", gates());
        misfit.rename(&format!("9.0.{generation}"));
        fleet.release_for(&misfit, needs);
        device.direct(&fleet, generation, &misfit).await;
        let rejected = device.reached(State::Rejected).await;
        assert_eq!(rejected.reason, Some(Reason::Incompatible));
        assert!(rejected.detail.contains(expected), "{}", rejected.detail);
    }
    assert_eq!(fleet.blobs_asked(), 0);
    device.stop().await;
}
