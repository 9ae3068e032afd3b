//! A controller whose disk is full: it refuses with a reason, loses nothing that it acknowledged,
//! and goes on when there is room again.

use reqwest::{Method, StatusCode};
use tidegate_wire::report::Ack;
use tidegate_wire::topic::Topic;
use tidegate_wire::{Digest, envelope};

use crate::api::types::{AuditPage, DeviceTokenRequest, FleetSummary};
use crate::disk::SmallDisk;
use crate::testing::{Fleet, PATIENCE, Session, fleet_id, report};

/// Longer than what still fits behind the last entry of a file, where there is always some room.
fn token_request() -> DeviceTokenRequest {
    let why = "a long story, ".repeat(1000);
    DeviceTokenRequest { labels: Default::default(), uses: 1, expires_seconds: 60, why }
}

/// Waits until everything that was sent so far was stored, or could not be. Of two messages that
/// are refused one after the other, the second one is in a later batch.
async fn settled(fleet: &Fleet, device: &mut Session) {
    let topic = Topic::Report(device.id.clone()).name(&fleet_id());
    for _ in 0..2 {
        let before = fleet.get::<FleetSummary>("v1/fleet").await.reports.refused;
        device.publish(&topic, b"no report".to_vec()).await;
        let refused = async {
            while fleet.get::<FleetSummary>("v1/fleet").await.reports.refused == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("nothing was refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_loses_nothing_and_is_over_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let fleet = Fleet::start_in(tempfile::tempdir_in(disk.path()).unwrap()).await;
    let pi = fleet.join("pi-1").await;
    let mut device = Session::new(&fleet, &pi).join().await;
    let before: AuditPage = fleet.get("v1/audit").await;
    disk.fill();

    // A decision.
    let (status, body) = fleet.post("v1/device-tokens", &token_request()).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE, "{body}");
    assert!(body.contains("nothing was decided") && body.contains("make room"), "{body}");
    assert_eq!(fleet.get::<AuditPage>("v1/audit").await, before);

    // A blob.
    // Far more than fits into the sockets' buffers: the client is still sending when it fails.
    let blob = vec![1; 20_000_000];
    let digest = Digest::of(&blob);
    assert_eq!(fleet.put_blob(digest, &blob).await, StatusCode::INSUFFICIENT_STORAGE);
    let path = format!("v1/blobs/{digest}");
    let found = fleet.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(found.status(), StatusCode::NOT_FOUND);
    let incoming = fleet.dir.path().join("blobs/incoming");
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0, "half a blob");

    // A report.
    let (topic, ack) = (Topic::Report(device.id.clone()), Topic::Ack(device.id.clone()));
    device.publish(&topic.name(&fleet_id()), envelope::seal(&report("pi-1", 7, 0))).await;
    settled(&fleet, &mut device).await;

    disk.free();
    device.send(&topic, &report("pi-1", 7, 1));
    let first: Ack = envelope::open(&device.message(&ack).await).unwrap();
    assert_eq!(first.seqs, [(1, 1)], "what could not be stored was acknowledged");
    device.send(&topic, &report("pi-1", 7, 0));
    let second: Ack = envelope::open(&device.message(&ack).await).unwrap();
    assert_eq!(second.seqs, [(0, 0)]);
    assert_eq!(fleet.put_blob(digest, &blob).await, StatusCode::CREATED);
    let (status, body) = fleet.post("v1/device-tokens", &token_request()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");

    let fleet = fleet.restart().await;
    let after: AuditPage = fleet.get("v1/audit").await;
    assert_eq!(after.entries.len(), before.entries.len() + 1);
    let reports = fleet.get::<FleetSummary>("v1/fleet").await.reports;
    assert_eq!(reports.received, 2);
    fleet.server.stop().await;
}
