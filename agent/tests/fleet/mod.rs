//! A controller in the test's process: it enrols, signs, serves metadata and blobs over HTTP, and
//! takes part in the MQTT conversation through channels.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use tidegate_agent::link::{Busy, Keep, Uplink};
use tidegate_trust::release::{self, Keyring, Roster};
use tidegate_trust::trusted::Stored;
use tidegate_trust::{Requirements, SigningKey, Targets, Trusted, sign_directive, verify_enrol};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::enrol::EnrolResponse;
use tidegate_wire::manifest::FileRole;
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest, Generation, Labels, envelope};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::digits::{Slot, model_name};

pub const TOKEN: &str = "let-me-in";
/// The year 2040: nothing expires in a test that does not say so.
pub const LATER: u64 = 2_208_988_800;

/// What the HTTP server has, and what was asked of it.
#[derive(Default)]
pub struct Site {
    pub files: BTreeMap<String, Vec<u8>>,
    pub keys: BTreeMap<DeviceId, Vec<u8>>,
    pub asked: Vec<String>,
    /// Answers 503 to everything.
    pub closed: bool,
}

pub struct Fleet {
    publisher: SigningKey,
    online: SigningKey,
    root: Vec<u8>,
    targets: Targets,
    stored: Stored,
    pub site: Arc<Mutex<Site>>,
    pub base: String,
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
        let site = Arc::new(Mutex::new(Site::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = (Arc::clone(&site), root.clone());
        let router =
            Router::new().route("/v1/enrol", post(enrol)).fallback(get(file)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let targets = release::first_targets("test".parse().unwrap(), LATER);
        let stored = Stored { root: root.clone(), timestamp: None, snapshot: None, targets: None };
        let mut fleet = Self { publisher, online, root, targets, stored, site, base };
        fleet.publish(LATER);
        fleet
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

type Shared = State<(Arc<Mutex<Site>>, Vec<u8>)>;

async fn enrol(State((site, root)): Shared, body: Bytes) -> (StatusCode, Vec<u8>) {
    let Ok(request) = verify_enrol(&body) else {
        return (StatusCode::BAD_REQUEST, b"bad request".to_vec());
    };
    if request.token != TOKEN {
        return (StatusCode::FORBIDDEN, b"the token is wrong".to_vec());
    }
    let mut site = site.lock().unwrap();
    let key = site.keys.entry(request.device).or_insert(request.public_key.clone());
    if *key != request.public_key {
        return (StatusCode::CONFLICT, b"taken".to_vec());
    }
    let answer = EnrolResponse {
        fleet: "test".parse().unwrap(),
        broker: "127.0.0.1:1".to_string(),
        password: "secret".to_string(),
        root,
    };
    (StatusCode::OK, envelope::seal(&answer))
}

async fn file(State((site, _)): Shared, uri: Uri, headers: HeaderMap) -> (StatusCode, Vec<u8>) {
    let mut site = site.lock().unwrap();
    site.asked.push(uri.path().to_string());
    // "pi-1:secret"
    let authorised = headers.get("authorization").is_some_and(|it| it == "Basic cGktMTpzZWNyZXQ=");
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
