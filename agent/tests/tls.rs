//! Whom a device believes, and whom not: real handshakes with servers that are not what they
//! should be.
#![allow(missing_docs)]

mod authority;
mod device;
mod digits;
mod fleet;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authority::{Authority, Clients, Validity, now};
use axum::body::Body;
use axum::response::Response;
use device::config;
use fleet::{Fleet, within};
use tidegate_agent::config::Config;
use tidegate_agent::enrol::{EnrolError, enrol};
use tidegate_agent::store::Store;
use tidegate_agent::store::identity::Enrolment;
use tidegate_agent::tls::{self, TimeFloor};
use tidegate_agent::upstream::{Upstream, UpstreamError};
use tidegate_trust::Role;
use tidegate_wire::Digest;
use tidegate_wire::invitation::Invitation;

/// Asks the fleet's server for metadata, believing `authority`, and showing no certificate.
async fn ask(
    base: &str,
    authority: &tls::Authority,
    floor: &TimeFloor,
) -> Result<Vec<u8>, UpstreamError> {
    let tls = tls::client(authority, None, floor).unwrap();
    let upstream = Upstream::new(base, tls, Duration::from_secs(5)).unwrap();
    upstream.metadata(Role::Timestamp, None, 10_000).await
}

/// What a client that believes the fleet's authority, pinned or known, makes of the server.
async fn both(fleet: &Fleet, base: &str) -> [UpstreamError; 2] {
    let pinned = tls::Authority::Pinned(fleet.authority.fingerprint());
    let known = tls::Authority::Known(vec![fleet.authority.der()]);
    let floor = TimeFloor::default();
    let first = ask(base, &pinned, &floor).await.unwrap_err();
    let second = ask(base, &known, &floor).await.unwrap_err();
    [first, second]
}

/// A device's first enrolment, as far as it comes.
async fn enrol_with(fleet: &Fleet, folder: &Path, text: &str) -> Result<Enrolment, EnrolError> {
    let config = match text {
        "" => config(fleet, folder),
        text => Config::parse(text, "test.toml".as_ref()).unwrap(),
    };
    let store = Store::open(folder).unwrap();
    let mut identity = store.identity().unwrap();
    enrol(&config, &mut identity, &store.trust(), &TimeFloor::default()).await
}

/// Nothing but the handshake failed: the request never reached the server.
fn nothing_was_said(fleet: &Fleet) {
    let site = fleet.site.lock().unwrap();
    assert_eq!((site.asked.len(), site.enrolled.len()), (0, 0));
}

#[tokio::test]
async fn the_right_server_is_believed_and_sees_who_asks() {
    let fleet = Fleet::start().await;
    for error in both(&fleet, &fleet.base).await {
        // It was asked, and turns down whoever shows no certificate.
        assert_eq!(error.status, Some(401), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let enrolment = enrol_with(&fleet, folder.path(), "").await.unwrap();
    let identity = Store::open(folder.path()).unwrap().identity().unwrap();
    let tls = identity.tls(&enrolment, &TimeFloor::default()).unwrap();
    let upstream = Upstream::new(&fleet.base, tls, Duration::from_secs(5)).unwrap();
    assert!(upstream.metadata(Role::Timestamp, None, 10_000).await.is_ok());
    // Shut out: on the very connection that is open already.
    fleet.site.lock().unwrap().revoked.insert(enrolment.device);
    let error = upstream.metadata(Role::Timestamp, None, 10_000).await.unwrap_err();
    assert!(error.to_string().contains("does not let this device in"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_authority_hears_nothing() {
    let fleet = Fleet::start().await;
    // The authority changed behind the same address: a new controller, or an impostor.
    fleet.shows(&Authority::new(), &["127.0.0.1"], Validity::present());
    let [pinned, known] = both(&fleet, &fleet.base).await;
    assert!(pinned.to_string().contains("not the controller that the token is for"), "{pinned}");
    assert!(pinned.to_string().contains(&fleet.authority.fingerprint().to_string()), "{pinned}");
    assert!(known.to_string().contains("does not come from this fleet's authority"), "{known}");
    nothing_was_said(&fleet);
}

#[tokio::test]
async fn a_copied_authority_certificate_in_the_chain_helps_nobody() {
    let fleet = Fleet::start().await;
    // The certificate is public: whoever shows it has not signed with it.
    let impostor = Authority::new();
    let mut identity = impostor.server(&["127.0.0.1"], Validity::present());
    identity.chain.push(fleet.authority.der());
    fleet.front.replace(impostor.accepting(&identity, Clients::Anyone));
    for error in both(&fleet, &fleet.base).await {
        assert!(error.to_string().contains("does not come from this fleet's"), "{error}");
    }
    nothing_was_said(&fleet);
}

#[tokio::test]
async fn a_device_of_the_fleet_cannot_play_the_controller() {
    let fleet = Fleet::start().await;
    // A hostile device has a certificate of the right authority, for a client.
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_string()];
    let request = rcgen::CertificateParams::new(names).unwrap().serialize_request(&key).unwrap();
    let certificate = fleet.authority.device(request.der(), Validity::present());
    let chain = vec![certificate, fleet.authority.der()];
    let identity = authority::ServerIdentity { chain, key: key.serialize_der() };
    fleet.front.replace(fleet.authority.accepting(&identity, Clients::Anyone));
    for error in both(&fleet, &fleet.base).await {
        assert!(error.to_string().contains("is not accepted"), "{error}");
    }
    nothing_was_said(&fleet);
}

#[tokio::test]
async fn another_name_and_an_expired_certificate_are_told_apart() {
    let fleet = Fleet::start().await;
    fleet.shows(&fleet.authority, &["controller.example"], Validity::present());
    for error in both(&fleet, &fleet.base).await {
        let text = error.to_string();
        assert!(text.contains("controller.example"), "{text}");
        assert!(text.contains("not for 127.0.0.1"), "{text}");
    }
    fleet.shows(&fleet.authority, &["127.0.0.1"], Validity(now() - 7_200, now() - 3_600));
    for error in both(&fleet, &fleet.base).await {
        assert!(error.to_string().contains("has expired"), "{error}");
    }
    nothing_was_said(&fleet);
}

#[tokio::test]
async fn a_clock_that_is_behind_does_not_keep_a_device_out_and_the_floor_counts() {
    let fleet = Fleet::start().await;
    let pinned = tls::Authority::Pinned(fleet.authority.fingerprint());
    let known = tls::Authority::Known(vec![fleet.authority.der()]);
    let next_year = now() + 365 * 86_400;
    // To these certificates, this machine's clock is a year behind.
    fleet.shows(&fleet.authority, &["127.0.0.1"], Validity(next_year, next_year + 3_600));
    for authority in [&pinned, &known] {
        let error = ask(&fleet.base, authority, &TimeFloor::default()).await.unwrap_err();
        assert_eq!(error.status, Some(401), "{error}");
    }
    // A floor that was signed is believed more than the clock: what ended before it has ended.
    let floor = TimeFloor::default();
    floor.raise(next_year + 7_200);
    for authority in [&pinned, &known] {
        let error = ask(&fleet.base, authority, &floor).await.unwrap_err();
        assert!(error.to_string().contains("has expired"), "{error}");
    }
    // That a certificate begins later is only believed of the authority.
    let other = Authority::new();
    fleet.shows(&other, &["127.0.0.1"], Validity(next_year, next_year + 3_600));
    let error = ask(&fleet.base, &known, &TimeFloor::default()).await.unwrap_err();
    assert!(error.to_string().contains("does not come from this fleet's authority"), "{error}");
}

#[tokio::test]
async fn redirects_lead_nowhere() {
    let fleet = Fleet::start().await;
    let elsewhere = Fleet::start().await;
    let goals = [
        format!("{}/metadata/timestamp", elsewhere.base),
        "http://127.0.0.1:1/metadata/timestamp".to_string(),
        format!("{}/metadata/timestamp?again", fleet.base),
    ];
    for goal in goals {
        let location = goal.clone();
        fleet.site.lock().unwrap().hostile = Some(Arc::new(move |_| {
            let redirect = Response::builder().status(307).header("location", &location);
            Some(redirect.body(Body::empty()).unwrap())
        }));
        for error in both(&fleet, &fleet.base).await {
            assert!(error.to_string().contains("redirects are not followed"), "{goal}: {error}");
        }
    }
    nothing_was_said(&elsewhere);
    nothing_was_said(&fleet);
}

#[tokio::test]
async fn only_https_and_only_tls_is_spoken() {
    let fleet = Fleet::start().await;
    let plain = fleet.base.replace("https://", "http://");
    let authority = tls::Authority::Pinned(fleet.authority.fingerprint());
    assert!(ask(&plain, &authority, &TimeFloor::default()).await.is_err());
    nothing_was_said(&fleet);
    // Somebody else, who speaks plain HTTP on the port.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
    let error = ask(&base, &authority, &TimeFloor::default()).await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

/// The invitation's line in a configuration for `folder`.
fn with(invitation: &Invitation, folder: &Path) -> String {
    format!("device = \"pi-1\"\ndata_dir = {folder:?}\nenrol_token = \"{}\"\n", invitation.text())
}

#[tokio::test]
async fn an_invitation_is_for_one_controller_and_one_root() {
    let (fleet, other) = (Fleet::start().await, Fleet::start().await);
    // Of another controller: the secret is not sent.
    let folder = tempfile::tempdir().unwrap();
    let misled = Invitation { controller: fleet.base.clone(), ..other.invitation() };
    let text = with(&misled, folder.path());
    let limit = Duration::from_secs(2);
    let tried = tokio::time::timeout(limit, enrol_with(&fleet, folder.path(), &text)).await;
    assert!(tried.is_err(), "it waits for the right controller");
    nothing_was_said(&fleet);
    // Of the right one, and a root that somebody exchanged.
    let folder = tempfile::tempdir().unwrap();
    let root = Digest::of(b"another root");
    let text = with(&Invitation { root, ..fleet.invitation() }, folder.path());
    let error = enrol_with(&fleet, folder.path(), &text).await.unwrap_err();
    assert!(matches!(error, EnrolError::Root { wanted, .. } if wanted == root), "{error}");
    assert!(!folder.path().join("trust/root").exists());
}

#[tokio::test]
async fn enrolment_can_be_cut_off_at_each_step() {
    let fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = |folder: &Path| Store::open(folder).unwrap().identity().unwrap().key().id();

    // Cut after the key was made.
    let made = key(folder.path());
    let only_key = std::fs::read(path("identity")).unwrap();
    // Cut after the controller let it in: the answer is lost, and the request comes again.
    let answers = Arc::new(Mutex::new(0));
    let count = Arc::clone(&answers);
    fleet.site.lock().unwrap().hostile = Some(Arc::new(move |path| {
        let mut count = count.lock().unwrap();
        *count += usize::from(path == "/v1/enrol");
        let cut = *count == 1;
        cut.then(|| Response::builder().status(502).body(Body::empty()).unwrap())
    }));
    let first = within("the enrolment", enrol_with(&fleet, folder.path(), "")).await.unwrap();
    assert_eq!(*answers.lock().unwrap(), 2);
    // Cut before the identity was written, the root being there already.
    std::fs::write(path("identity"), &only_key).unwrap();
    let second = enrol_with(&fleet, folder.path(), "").await.unwrap();
    // And the root is gone, while the identity says that it enrolled: no invitation is needed.
    std::fs::remove_file(path("trust/root")).unwrap();
    let text = format!("device = \"pi-1\"\ndata_dir = {:?}\n", folder.path());
    let third = enrol_with(&fleet, folder.path(), &text).await.unwrap();
    assert!(path("trust/root").exists());

    assert_eq!((&first.fleet, &second.root), (&third.fleet, &third.root));
    assert_eq!(key(folder.path()), made);
    let site = fleet.site.lock().unwrap();
    let keys: Vec<_> = site.enrolled.iter().map(|(request, _)| &request.public_key).collect();
    assert_eq!((keys.len(), site.keys.len()), (3, 1));
    assert_eq!(site.enrolled[2].0.secret, None);
}
