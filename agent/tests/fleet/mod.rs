//! A controller in the test's process: it enrols, signs, serves metadata and blobs over HTTPS, and
//! takes part in the MQTT conversation through channels. It does as it is told, also to harm:
//! [`Site::hostile`] answers in its place, and [`Fleet::front`] shows other certificates.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use serde_bytes::ByteBuf;
use tidegate_agent::link::{Busy, Keep, Uplink};
use tidegate_trust::release::{self, Keyring, Roster};
use tidegate_trust::trusted::Stored;
use tidegate_trust::{Requirements, SigningKey, Targets, Trusted, sign_directive, verify_enrol};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::invitation::{Invitation, Secret};
use tidegate_wire::manifest::FileRole;
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest, Generation, Labels, envelope};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::authority::{Authority, Clients, Front, Shown, TlsListener, Validity, now};
use crate::digits::{Slot, model_name};

/// What invitations carry.
pub const SECRET: &[u8] = b"let me in, please";
/// The year 2040: nothing expires in a test that does not say so.
pub const LATER: u64 = 2_208_988_800;

/// Answers a request by its path, instead of the server.
pub type Hostile = Arc<dyn Fn(&str) -> Option<Response> + Send + Sync>;

/// What the HTTPS server has, and what was asked of it.
pub struct Site {
    pub files: BTreeMap<String, Vec<u8>>,
    pub keys: BTreeMap<DeviceId, Vec<u8>>,
    pub asked: Vec<String>,
    /// Answers 503 to everything.
    pub closed: bool,
    /// Asked before the server itself.
    pub hostile: Option<Hostile>,
    /// What it said to enrolments, newest last: what was asked, and the certificate that it gave.
    pub enrolled: Vec<(EnrolRequest, Vec<u8>)>,
    /// Devices that are shut out.
    pub revoked: BTreeSet<DeviceId>,
    /// Seconds that certificates of devices last.
    pub lifetime: u64,
    /// What devices are told of the broker.
    pub broker: String,
}

pub struct Fleet {
    publisher: SigningKey,
    online: SigningKey,
    root: Vec<u8>,
    targets: Targets,
    stored: Stored,
    pub site: Arc<Mutex<Site>>,
    pub base: String,
    pub authority: Arc<Authority>,
    /// The certificates that the server shows.
    pub front: Front,
}

impl Fleet {
    pub async fn start() -> Self {
        let (publisher, online) =
            (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let ring = |key: &SigningKey| Keyring { keys: vec![key.public()], threshold: 1 };
        let roster = Roster {
            root: ring(&publisher),
            targets: ring(&publisher),
            snapshot: ring(&online),
            timestamp: ring(&online),
            director: ring(&online),
        };
        let root = release::initial("test".parse().unwrap(), &roster, LATER).unwrap();
        let root = release::sign_metadata(&root, &[&publisher]);
        let site = Site {
            files: BTreeMap::new(),
            keys: BTreeMap::new(),
            asked: Vec::new(),
            closed: false,
            hostile: None,
            enrolled: Vec::new(),
            revoked: BTreeSet::new(),
            lifetime: 3_600,
            broker: "127.0.0.1:1".to_string(),
        };
        let site = Arc::new(Mutex::new(site));
        let authority = Arc::new(Authority::new());
        let identity = authority.server(&["127.0.0.1"], Validity::present());
        let front = Front::new(authority.accepting(&identity, Clients::Anyone));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let listener = TlsListener::new(listener, front.clone());
        let state = Server {
            site: Arc::clone(&site),
            authority: Arc::clone(&authority),
            root: root.clone(),
        };
        let router = Router::new()
            .route("/v1/enrol", post(enrol))
            .fallback(get(file))
            .layer(middleware::from_fn_with_state(state.clone(), perhaps_hostile))
            .with_state(state)
            .into_make_service_with_connect_info::<Shown>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let targets = release::first_targets("test".parse().unwrap(), LATER);
        let stored = Stored { root: root.clone(), timestamp: None, snapshot: None, targets: None };
        let mut fleet =
            Self { publisher, online, root, targets, stored, site, base, authority, front };
        fleet.publish(LATER);
        fleet
    }

    /// What lets devices in.
    pub fn invitation(&self) -> Invitation {
        Invitation {
            controller: self.base.clone(),
            authority: self.authority.fingerprint(),
            root: Digest::of(&self.root),
            secret: Secret(SECRET.to_vec()),
        }
    }

    /// The HTTPS server shows another certificate from now on.
    pub fn shows(&self, authority: &Authority, names: &[&str], validity: Validity) {
        let identity = authority.server(names, validity);
        self.front.replace(self.authority.accepting(&identity, Clients::Anyone));
    }

    /// Signs and serves the present targets; returns the signed timestamp.
    pub fn publish(&mut self, timestamp_expires: u64) -> Vec<u8> {
        let trusted: Trusted = Trusted::recover(self.stored.clone()).unwrap().trusted;
        let targets = release::sign_metadata(&self.targets, &[&self.publisher]);
        let snapshot = release::next_snapshot(&trusted, &self.targets, &targets, LATER);
        let snapshot_bytes = release::sign_metadata(&snapshot, &[&self.online]);
        let (issued, expires) = (1_700_000_000, timestamp_expires);
        let timestamp =
            release::next_timestamp(&trusted, &snapshot, &snapshot_bytes, issued, expires);
        let timestamp_bytes = release::sign_metadata(&timestamp, &[&self.online]);
        let mut site = self.site.lock().unwrap();
        for (name, bytes) in [
            ("timestamp".to_string(), &timestamp_bytes),
            (format!("{}.snapshot", snapshot.version), &snapshot_bytes),
            (format!("{}.targets", self.targets.version), &targets),
        ] {
            site.files.insert(format!("/metadata/{name}"), bytes.clone());
        }
        self.stored = Stored {
            root: self.root.clone(),
            timestamp: Some(timestamp_bytes.clone()),
            snapshot: Some(snapshot_bytes),
            targets: Some(targets),
        };
        timestamp_bytes
    }

    /// Releases what lies in `slot`; the blobs are on the server from now on.
    pub fn release(&mut self, slot: &Slot) {
        self.release_for(slot, Requirements::default());
    }

    /// Releases it for devices that have what it needs.
    pub fn release_for(&mut self, slot: &Slot, needs: Requirements) {
        let manifest = envelope::seal(&slot.manifest);
        self.targets = release::next_targets(&self.targets, LATER);
        let version = &slot.artifact.version;
        let added = self.targets.add_artifact(&model_name(), version, &manifest, needs);
        assert_eq!(added.unwrap(), slot.artifact);
        let mut site = self.site.lock().unwrap();
        let mut put = |bytes: Vec<u8>| {
            site.files.insert(format!("/blobs/{}", Digest::of(&bytes)), bytes);
        };
        put(manifest);
        for role in [FileRole::Model, FileRole::Golden, FileRole::Reference] {
            put(std::fs::read(slot.dir.path().join(role.name())).unwrap());
        }
        drop(site);
        self.publish(LATER);
    }

    /// Revokes what was released, as its publishers do; returns the signed timestamp.
    pub fn revoke(&mut self, slot: &Slot, reason: &str) -> Vec<u8> {
        self.targets = release::next_targets(&self.targets, LATER);
        self.targets.revoke(&model_name(), &slot.artifact.version, reason).unwrap();
        self.publish(LATER)
    }

    /// Raises the floor under the model's releases; returns the signed timestamp.
    pub fn raise_floor(&mut self, release: u64) -> Vec<u8> {
        self.targets = release::next_targets(&self.targets, LATER);
        self.targets.raise_floor(&model_name(), release).unwrap();
        self.publish(LATER)
    }

    /// A signed directive that names `slot`'s artifact for everybody.
    pub fn directive(&self, generation: u64, slot: &Slot) -> Vec<u8> {
        let rule = Rule {
            selector: Labels::new(),
            include: vec![],
            exclude: vec![],
            salt: [7; 16],
            limit: LIMIT_ALL,
            artifact: slot.artifact.clone(),
            since: Generation(generation),
        };
        let directive = Directive {
            fleet: "test".parse().unwrap(),
            model: model_name(),
            generation: Generation(generation),
            issued: 1_700_000_000,
            expires: LATER,
            rules: vec![rule],
            reason: None,
        };
        sign_directive(&self.online, &directive)
    }

    /// How often a blob was asked for.
    pub fn blobs_asked(&self) -> usize {
        let site = self.site.lock().unwrap();
        site.asked.iter().filter(|path| path.starts_with("/blobs/")).count()
    }
}

#[derive(Clone)]
struct Server {
    site: Arc<Mutex<Site>>,
    authority: Arc<Authority>,
    root: Vec<u8>,
}

async fn perhaps_hostile(State(server): State<Server>, request: Request, next: Next) -> Response {
    let hostile = server.site.lock().unwrap().hostile.clone();
    match hostile.and_then(|hostile| hostile(request.uri().path())) {
        Some(response) => response,
        None => next.run(request).await,
    }
}

async fn enrol(State(server): State<Server>, body: Bytes) -> (StatusCode, Vec<u8>) {
    let Ok(request) = verify_enrol(&body) else {
        return (StatusCode::BAD_REQUEST, b"bad request".to_vec());
    };
    let mut site = server.site.lock().unwrap();
    if site.closed {
        return (StatusCode::SERVICE_UNAVAILABLE, vec![]);
    }
    if site.revoked.contains(&request.device) {
        return (StatusCode::FORBIDDEN, b"this device was revoked".to_vec());
    }
    let known = site.keys.get(&request.device).cloned();
    let invited = request.secret.as_ref().is_some_and(|secret| secret.0 == SECRET);
    match known {
        Some(key) if key != request.public_key => return (StatusCode::CONFLICT, b"taken".to_vec()),
        None if !invited => return (StatusCode::UNAUTHORIZED, b"unknown token".to_vec()),
        _ => site.keys.insert(request.device.clone(), request.public_key.clone()),
    };
    let validity = Validity(now() - 60, now() + site.lifetime);
    let certificate = server.authority.device(&request.certificate_request, validity);
    site.enrolled.push((request, certificate.clone()));
    let answer = EnrolResponse {
        fleet: "test".parse().unwrap(),
        broker: site.broker.clone(),
        root: server.root.clone(),
        certificate,
        authorities: vec![ByteBuf::from(server.authority.der())],
        expires: validity.1,
    };
    (StatusCode::OK, envelope::seal(&answer))
}

async fn file(
    State(server): State<Server>,
    ConnectInfo(Shown(shown)): ConnectInfo<Shown>,
    uri: Uri,
) -> (StatusCode, Vec<u8>) {
    let mut site = server.site.lock().unwrap();
    site.asked.push(uri.path().to_string());
    let is_his = |certificate: &[u8]| {
        let found = site.enrolled.iter().find(|(_, given)| given == certificate);
        found.is_some_and(|(request, _)| !site.revoked.contains(&request.device))
    };
    let authorised = shown.is_some_and(|certificate| is_his(&certificate));
    match (site.closed, authorised, site.files.get(uri.path())) {
        (true, ..) => (StatusCode::SERVICE_UNAVAILABLE, vec![]),
        (_, false, _) => (StatusCode::UNAUTHORIZED, vec![]),
        (_, _, None) => (StatusCode::NOT_FOUND, vec![]),
        (_, _, Some(bytes)) => (StatusCode::OK, bytes.clone()),
    }
}

/// The device's side of a link without a broker.
pub struct FakeUplink(pub mpsc::UnboundedSender<(Topic, Vec<u8>)>);

impl Uplink for FakeUplink {
    fn try_publish(&self, topic: &Topic, payload: Vec<u8>, _: Keep) -> Result<(), Busy> {
        self.0.send((topic.clone(), payload)).map_err(|_| Busy)
    }
}

/// Ends a test that hangs.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(40);
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}
