//! The driver with real models, real signatures and a real HTTP server; only the broker is played
//! by the test.
#![allow(missing_docs)]

mod authority;
mod device;
mod digits;
mod fleet;

use std::path::Path;

use device::{Application, Device, config, gates};
use digits::slot;
use fleet::Fleet;
use tidegate_agent::enrol::{EnrolError, enrol};
use tidegate_agent::link::LinkEvent;
use tidegate_agent::store::Store;
use tidegate_agent::tls::TimeFloor;
use tidegate_wire::{Reason, State};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_models_are_committed_and_a_bad_one_is_rejected_on_live_inputs() {
    let mut fleet = Fleet::start().await;
    let slots = ["1.0.0", "1.1.0", "1.2.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    let application = Application::start(&device.serving);

    device.direct(&fleet, 1, &slots[0]).await;
    let first = device.reached(State::Committed).await;
    assert_eq!(first.active.as_ref(), Some(&slots[0].artifact));

    device.direct(&fleet, 2, &slots[1]).await;
    assert_eq!(device.reached(State::Shadow).await.active, Some(slots[0].artifact.clone()));
    assert_eq!(device.reached(State::Trial).await.active, Some(slots[1].artifact.clone()));
    device.reached(State::Committed).await;

    device.direct(&fleet, 3, &slots[2]).await;
    let bad = device.reached(State::Rejected).await;
    assert_eq!(
        (bad.reason, &bad.artifact),
        (Some(Reason::Disagreement), &Some(slots[2].artifact.clone()))
    );
    assert_eq!(bad.active.as_ref(), Some(&slots[1].artifact));
    assert!(bad.detail.contains("agree"), "{}", bad.detail);
    assert!(application.stop().await > 100);
    // The last acknowledgement too, or its report would come once more after the restart.
    device.settled().await;
    device.stop().await;

    // After a restart the same model answers before anybody says anything.
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.1.0"));
    // The same directive again changes nothing; a later one takes 1.1.0 back to 1.0.0, which has to
    // come again, since 1.2.0 took its slot.
    device.direct(&fleet, 3, &slots[2]).await;
    let application = Application::start(&device.serving);
    device.direct(&fleet, 4, &slots[0]).await;
    device.reached(State::Committed).await;
    let asked = fleet.blobs_asked();
    // Back and forth between what lies in the slots needs no network and no live inputs.
    application.stop().await;
    fleet.site.lock().unwrap().closed = true;
    device.direct(&fleet, 5, &slots[1]).await;
    device.reached(State::Committed).await;
    assert_eq!((device.version().as_deref(), fleet.blobs_asked()), (Some("1.1.0"), asked));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_device_comes_back_with_a_model_that_runs() {
    let mut fleet = Fleet::start().await;
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    let application = Application::start(&device.serving);
    device.direct(&fleet, 1, &slots[0]).await;
    device.reached(State::Committed).await;
    application.stop().await;
    device.direct(&fleet, 2, &slots[1]).await;
    device.reached(State::Shadow).await;
    device.kill().await;

    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    let application = Application::start(&device.serving);
    device.reached(State::Trial).await;
    device.kill().await;
    application.stop().await;

    let mut device = Device::start(&fleet, folder.path()).await;
    assert!(device.version().is_some());
    let application = Application::start(&device.serving);
    device
        .status("1.1.0 committed", |status| {
            let [model] = status.models.as_slice() else { return false };
            model.state == State::Committed && model.active.as_ref() == Some(&slots[1].artifact)
        })
        .await;
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directive_waits_for_the_metadata_that_explains_it() {
    let mut fleet = Fleet::start().await;
    let first = slot("1.0.0", gates());
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    // The device has refreshed; now there is a release, and the way to it is closed.
    device.status("the first status", |status| status.online).await;
    while !folder.path().join("trust/targets").exists() {
        tokio::task::yield_now().await;
    }
    fleet.release(&first);
    fleet.site.lock().unwrap().closed = true;
    device.direct(&fleet, 1, &first).await;
    let status = device.status("a reason", |status| !status.models.is_empty()).await;
    assert_eq!(status.models[0].reason, Some(Reason::UnknownArtifact));
    assert_eq!((status.models[0].state, status.spooled), (State::Idle, 0));
    fleet.site.lock().unwrap().closed = false;
    let application = Application::start(&device.serving);
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_released_is_turned_down_and_said() {
    let fleet = Fleet::start().await;
    let unknown = slot("1.0.0", gates());
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    device.direct(&fleet, 1, &unknown).await;
    let transition = device.reached(State::Rejected).await;
    assert_eq!(transition.reason, Some(Reason::UnknownArtifact));
    assert_eq!((device.version(), fleet.blobs_asked()), (None, 0));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unacknowledged_reports_come_again_after_a_lost_link_and_a_restart() {
    let fleet = Fleet::start().await;
    let unknown = slot("1.0.0", gates());
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    device.direct(&fleet, 1, &unknown).await;
    let sent = device.unacknowledged_report().await;
    device.link.send(LinkEvent::Down { why: "test".to_string() }).await.unwrap();
    device.link.send(LinkEvent::Up).await.unwrap();
    assert_eq!(device.unacknowledged_report().await, sent);
    device.kill().await;
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.report().await, sent);
    device.status("an empty spool", |status| status.spooled == 0).await;
    device.stop().await;
}

#[tokio::test]
async fn the_same_id_with_another_key_is_told_so() {
    let fleet = Fleet::start().await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let try_enrol = async |folder: &Path| {
        let store = Store::open(folder).unwrap();
        let mut identity = store.identity().unwrap();
        let floor = TimeFloor::default();
        enrol(&config(&fleet, folder), &mut identity, &store.trust(), &floor).await
    };
    try_enrol(folders[0].path()).await.unwrap();
    // A device that lost the answer asks again.
    try_enrol(folders[0].path()).await.unwrap();
    let error = try_enrol(folders[1].path()).await.unwrap_err();
    assert!(matches!(&error, EnrolError::Taken { device } if device == "pi-1"), "{error}");
    assert!(error.to_string().contains("tidegate device remove pi-1"), "{error}");
}

/// Flips one bit of a file of the model, as a failing card would.
fn rot(folder: &Path, slot: &str) {
    let path = folder.join("models/digits").join(slot).join("model");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Written anew: files of the two slots may be one.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
}

/// A device on which 1.0.0 and then 1.1.0 was committed, stopped; 1.1.0 is in slot B.
async fn committed_twice(fleet: &mut Fleet, folder: &Path) -> [digits::Slot; 2] {
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let mut device = Device::start(fleet, folder).await;
    let application = Application::start(&device.serving);
    for (slot, generation) in slots.iter().zip(1..) {
        device.direct(fleet, generation, slot).await;
        device.reached(State::Committed).await;
    }
    application.stop().await;
    // The last acknowledgement too, or its report would come once more after the restart.
    device.settled().await;
    device.stop().await;
    slots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_model_that_rotted_gives_way_and_comes_anew() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let slots = committed_twice(&mut fleet, folder.path()).await;
    rot(folder.path(), "slot-b");
    let asked = fleet.blobs_asked();
    fleet.site.lock().unwrap().closed = true;

    // Nobody can be asked, and the model before it answers.
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    let reverted = device.reached(State::Reverted).await;
    assert_eq!(reverted.reason, Some(Reason::DigestMismatch));
    assert_eq!(reverted.artifact.as_ref(), Some(&slots[1].artifact));
    assert_eq!(reverted.active.as_ref(), Some(&slots[0].artifact));

    fleet.site.lock().unwrap().closed = false;
    let application = Application::start(&device.serving);
    let committed = device.reached(State::Committed).await;
    application.stop().await;
    assert_eq!(committed.active.as_ref(), Some(&slots[1].artifact));
    assert!(fleet.blobs_asked() > asked);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_back_to_a_model_that_rotted_leads_over_the_network() {
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let slots = committed_twice(&mut fleet, folder.path()).await;
    rot(folder.path(), "slot-a");
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.1.0"));
    let asked = fleet.blobs_asked();
    let application = Application::start(&device.serving);
    device.direct(&fleet, 3, &slots[0]).await;
    device.reached(State::Committed).await;
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    assert!(fleet.blobs_asked() > asked);
    application.stop().await;
    device.stop().await;
}
