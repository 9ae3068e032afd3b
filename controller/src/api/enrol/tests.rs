use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use tidegate_wire::Digest;
use tidegate_wire::enrol::EnrolResponse;
use tidegate_wire::invitation::Secret;

use super::*;
use crate::api::types::{AuditPage, DeviceList};
use crate::authority::{self, read_shown};
use crate::testing::{Fleet, Newcomer, Session};

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn serial(answer: &[u8]) -> Vec<u8> {
    let answer: EnrolResponse = envelope::open(answer).unwrap();
    read_shown(&answer.certificate.into()).unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_devices_enrol_at_once_with_one_invitation() {
    let fleet = Fleet::start().await;
    let invitation = fleet.invite(100).await;
    let newcomers: Vec<_> = (0..100).map(|n| Newcomer::new(&format!("pi-{n}"))).collect();
    let enrol = |newcomer: &Newcomer| {
        let (newcomer, invitation) = (newcomer.clone(), invitation.clone());
        async move { newcomer.enrol(&invitation).await }
    };
    let answers = all(newcomers.iter().map(enrol).collect()).await;
    let mut serials = BTreeSet::new();
    for (status, body) in &answers {
        assert_eq!(*status, StatusCode::OK, "{}", text(body));
        serials.insert(serial(body));
    }
    assert_eq!(serials.len(), 100);
    let devices: DeviceList = fleet.get("v1/devices").await;
    assert_eq!(devices.devices.len(), 100);
    assert_eq!(devices.devices[0].labels["site"], "oslo", "from the invitation");
    let (status, body) = Newcomer::new("one-more").enrol(&invitation).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text(&body).contains("used up"), "{}", text(&body));
    fleet.server.stop().await;
}

/// Runs all of them at once.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().map(|(_, output)| output.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_twice_is_one_use_and_one_certificate() {
    let fleet = Fleet::start().await;
    let invitation = fleet.invite(2).await;
    let pi = Newcomer::new("pi-1");
    let answers = all((0..10).map(|_| pi.enrol(&invitation)).collect()).await;
    let serials: BTreeSet<_> = answers.iter().map(|(_, body)| serial(body)).collect();
    assert_eq!(serials.len(), 1);
    let other = Newcomer::new("pi-2").enrol(&invitation).await;
    assert_eq!(other.0, StatusCode::OK, "the second use is left");
    assert_eq!(pi.enrol(&invitation).await.0, StatusCode::OK, "although nothing is left");
    let audit: AuditPage = fleet.get("v1/audit").await;
    let kinds = audit.entries.iter().map(|entry| entry.kind.as_str());
    assert_eq!(kinds.filter(|kind| *kind == "device-enrolled").count(), 2);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_an_unknown_invitation_and_a_key_that_is_taken_are_refused() {
    let fleet = Fleet::start().await;
    let (first, second) = (fleet.invite(1).await, fleet.invite(9).await);
    let pi = Newcomer::new("pi-1");
    assert_eq!(pi.enrol(&first).await.0, StatusCode::OK);
    let (status, body) = Newcomer::new("pi-1").enrol(&second).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text(&body).contains("another key"), "{}", text(&body));
    let (status, body) = pi.called("pi-2").enrol(&second).await;
    assert_eq!(status, StatusCode::CONFLICT, "{}", text(&body));
    assert!(text(&body).contains("is enrolled as pi-1"), "{}", text(&body));
    let newcomer = Newcomer::new("pi-3");
    for secret in [None, Some(Secret(b"guessed".to_vec())), Some(Secret(Vec::new()))] {
        let request = newcomer.request(secret, second.root);
        assert_eq!(newcomer.send(&second, &request).await.0, StatusCode::UNAUTHORIZED);
    }
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_request_must_say_what_the_enrolment_says() {
    let fleet = Fleet::start().await;
    let invitation = fleet.invite(9).await;
    let (pi, thief) = (Newcomer::new("pi-1"), Newcomer::new("pi-9"));
    let honest = pi.request(Some(invitation.secret.clone()), invitation.root);
    let of = |request: Vec<u8>| EnrolRequest { certificate_request: request, ..honest.clone() };
    let cases = [
        (of(pi.identity.certificate_request(&thief.id)), "common name"),
        (of(thief.identity.certificate_request(&pi.id)), "another key"),
        (of(Vec::new()), "certificate request is refused"),
        (of(vec![0x30; 4000]), "certificate request is refused"),
    ];
    for (request, word) in cases {
        let (status, body) = pi.send(&invitation, &request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{word}: {}", text(&body));
        assert!(text(&body).contains(word), "{}", text(&body));
    }
    assert_eq!(pi.send(&invitation, &honest).await.0, StatusCode::OK, "no use was spent");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_known_renews_its_certificate_without_an_invitation() {
    let lifetime = std::time::Duration::from_secs(20);
    let fleet = Fleet::configured(|config| config.device_certificate = lifetime).await;
    let invitation = fleet.invite(1).await;
    let pi = Newcomer::new("pi-1");
    let first = pi.join(&invitation).await;
    let renewal = pi.request(None, invitation.root);
    let asking = async {
        loop {
            let (status, body) = pi.send(&invitation, &renewal).await;
            assert_eq!(status, StatusCode::OK, "{}", text(&body));
            let member = pi.member(&body);
            if member.answer.expires > first.answer.expires {
                return member;
            }
        }
    };
    let second = tokio::time::timeout(crate::testing::PATIENCE, asking).await.unwrap();
    // Both count: the device may be using the old one still.
    for member in [&first, &second] {
        let get = member.http().get(fleet.url("metadata/1.root"));
        assert_eq!(get.send().await.unwrap().status(), StatusCode::OK);
    }
    Session::new(&fleet, &second).join().await;
    let devices: DeviceList = fleet.get("v1/devices").await;
    assert_eq!(devices.devices[0].certificate_expires_ms, Some(second.answer.expires * 1000));
    fleet.server.stop().await;
}

#[test]
fn who_asks_without_end_gets_the_same_certificate_and_fills_no_journal() {
    let id = "pi-1".parse().unwrap();
    let last = authority::issue(1_000, 2_000);
    let renewed = |now| renew(&id, Some(&last), now, 1_000);
    for now in [0, 1_000, 1_100] {
        let decided = renewed(now);
        assert!(decided.record.is_none(), "{now}");
        assert_eq!(decided.value, last);
    }
    // Also when it has expired long ago: the key is what counts.
    for now in [1_101, 1_999, 2_000, 1_000_000] {
        let decided = renewed(now);
        assert!(decided.record.is_some(), "{now}");
        assert_eq!((decided.value.issued, decided.value.expires), (now, now + 1_000));
        assert_ne!(decided.value.serial, last.serial);
    }
    // A lifetime that was made shorter in the configuration changes nothing for the worse.
    assert_eq!(renew(&id, Some(&last), 1_500, 100).value, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_begins_with_the_root_that_its_invitation_names() {
    let fleet = Fleet::start().await;
    let invitation = fleet.invite(2).await;
    let root = fleet.request(Method::GET, "metadata/1.root").send().await.unwrap();
    let root = root.bytes().await.unwrap();
    assert_eq!(invitation.root, Digest::of(&root));
    let pi = Newcomer::new("pi-1").join(&invitation).await;
    assert_eq!(pi.answer.root, root);
    let other = Newcomer::new("pi-2");
    let unknown = other.request(Some(invitation.secret.clone()), Digest::of(b"another"));
    let (_, body) = other.send(&invitation, &unknown).await;
    assert_eq!(other.member(&body).answer.root, root, "the newest");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off_and_does_not_get_back_in() {
    let fleet = Fleet::start().await;
    let invitation = fleet.invite(9).await;
    let newcomer = Newcomer::new("pi-1");
    let pi = newcomer.join(&invitation).await;
    let mut session = Session::new(&fleet, &pi).join().await;
    let http = pi.http();
    let get = || http.get(fleet.url("metadata/1.root")).send();
    assert_eq!(get().await.unwrap().status(), StatusCode::OK);
    assert_eq!(fleet.revoke("pi-1").await, StatusCode::NO_CONTENT);
    assert!(session.wait(|_| None::<()>).await.is_err(), "the open session ends");
    // The open connection is cut, and a new one is not taken.
    assert!(get().await.is_err() && get().await.is_err());
    assert!(Session::new(&fleet, &pi).connect().await.is_err());
    let (status, body) = newcomer.enrol(&invitation).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text(&body).contains("device remove pi-1"), "{}", text(&body));
    assert_eq!(newcomer.called("pi-2").enrol(&invitation).await.0, StatusCode::FORBIDDEN);
    assert_eq!(fleet.revoke("pi-1").await, StatusCode::CONFLICT, "again");
    assert_eq!(fleet.revoke("pi-7").await, StatusCode::NOT_FOUND);

    let fleet = fleet.restart().await;
    assert!(Session::new(&fleet, &pi).connect().await.is_err(), "after a restart, too");
    let devices: DeviceList = fleet.get("v1/devices").await;
    let revoked = devices.devices[0].revoked.as_ref().unwrap();
    assert_eq!((revoked.by.as_str(), revoked.why.as_str()), ("admin", "stolen"));

    // The id is free for another key then; the key stays out.
    let removed = fleet.request(Method::DELETE, "v1/devices/pi-1").send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let invitation = fleet.invite(9).await;
    let (status, body) = newcomer.enrol(&invitation).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text(&body).contains("key of this device was revoked"), "{}", text(&body));
    let other = Newcomer::new("pi-1").join(&invitation).await;
    Session::new(&fleet, &other).join().await;
    assert!(Session::new(&fleet, &pi).connect().await.is_err());
    fleet.server.stop().await;
}
