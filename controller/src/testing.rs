//! A founded fleet with a running controller, and devices and publishers that talk to it, for tests.

#[path = "../tests/newcomer/mod.rs"]
mod newcomer;

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, PublishOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tidegate_agent::tls::Authority;
use tidegate_trust::release::{
    Keyring, Roster, first_targets, initial, next_targets, sign_metadata,
};
use tidegate_trust::{Requirements, Role, SigningKey, Targets};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::invitation::{Invitation, Pass};
use tidegate_wire::manifest::{FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::report::{Body, Report, Transition};
use tidegate_wire::topic::{Topic, device_subscriptions};
use tidegate_wire::{ArtifactRef, DeviceId, Digest, FleetId, Generation, Labels, State};

pub(crate) use self::newcomer::{Member, Newcomer, http, mqtt};
use crate::api::types::{DeviceTokenRequest, IssuedToken, RevokeDevice};
use crate::data_dir::DataDir;
use crate::{BrokerConfig, ServeConfig, Server, initialise, keys};

/// No test waits longer for something that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// 2100-01-01.
const EXPIRES: u64 = 4_102_444_800;

/// The seed of the one publisher's key.
pub(crate) const PUBLISHER: [u8; 32] = [9; 32];

/// A fleet with a running controller.
pub(crate) struct Fleet {
    pub dir: TempDir,
    pub server: Server,
    pub admin: Pass,
    publisher: SigningKey,
    http: reqwest::Client,
}

pub(crate) fn fleet_id() -> FleetId {
    "plant".parse().unwrap()
}

impl Fleet {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(dir: TempDir) -> Self {
        let publisher = SigningKey::from_seed(&PUBLISHER);
        let admin = found(&dir, &publisher);
        Self::open(dir, admin).await
    }

    /// Starts a controller in a folder that was founded before.
    pub async fn open(dir: TempDir, admin: Pass) -> Self {
        let config = config(&dir);
        Self::open_with(dir, admin, config).await
    }

    async fn open_with(dir: TempDir, admin: Pass, config: ServeConfig) -> Self {
        let server = Server::start(config).await.unwrap();
        server.connected().await;
        let publisher = SigningKey::from_seed(&PUBLISHER);
        let http = http(&Authority::Pinned(admin.authority), None);
        Self { dir, server, admin, publisher, http }
    }

    /// A controller that is configured in another way.
    pub async fn configured(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let admin = found(&dir, &SigningKey::from_seed(&PUBLISHER));
        let mut config = config(&dir);
        change(&mut config);
        Self::open_with(dir, admin, config).await
    }

    /// Stops the controller and starts it again in the same folder.
    pub async fn restart(self) -> Self {
        self.server.stop().await;
        let server = Server::start(config(&self.dir)).await.unwrap();
        server.connected().await;
        Self { server, ..self }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.server.url())
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(self.admin.bearer())
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    /// Posts JSON; returns the status and the body as text.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> (StatusCode, String) {
        let response = self.request(Method::POST, path).json(body).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    pub async fn put_blob(&self, digest: Digest, bytes: &[u8]) -> StatusCode {
        let path = format!("v1/blobs/{digest}");
        let request = self.request(Method::PUT, &path).body(bytes.to_vec());
        request.send().await.unwrap().status()
    }

    /// An HTTP client that shows nothing of itself.
    pub fn nobody(&self) -> reqwest::Client {
        http(&Authority::Pinned(self.admin.authority), None)
    }

    pub async fn invite(&self, uses: u32) -> Invitation {
        let labels = Labels::from([("site".to_owned(), "oslo".to_owned())]);
        let why = "a test".to_owned();
        let request = DeviceTokenRequest { labels, uses, expires_seconds: 600, why };
        let (status, body) = self.post("v1/device-tokens", &request).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        serde_json::from_str::<IssuedToken>(&body).unwrap().token.parse().unwrap()
    }

    /// Enrols a new device.
    pub async fn join(&self, device: &str) -> Member {
        Newcomer::new(device).join(&self.invite(1).await).await
    }

    pub async fn revoke(&self, device: &str) -> StatusCode {
        let why = RevokeDevice { why: "stolen".into() };
        self.post(&format!("v1/devices/{device}/revoke"), &why).await.0
    }

    /// Signed targets metadata that adds one artifact to `before`, and its blobs.
    pub fn release(&self, before: Option<&Targets>, version: &str) -> Release {
        let mut targets = match before {
            Some(before) => next_targets(before, EXPIRES),
            None => first_targets(fleet_id(), EXPIRES),
        };
        let model = format!("the weights of {version}").into_bytes();
        let manifest = envelope::seal(&manifest(version, &model));
        let (name, version) = ("digits".parse().unwrap(), version.parse().unwrap());
        let needs = Requirements::default();
        let artifact = targets.add_artifact(&name, &version, &manifest, needs).unwrap();
        let signed = sign_metadata(&targets, &[&self.publisher]);
        Release { targets, signed, blobs: vec![manifest, model], artifact }
    }

    /// Uploads and publishes a version of `digits`.
    pub async fn publish(&self, before: Option<&Targets>, version: &str) -> Release {
        let release = self.release(before, version);
        for blob in &release.blobs {
            assert!(self.put_blob(Digest::of(blob), blob).await.is_success());
        }
        let (status, body) = self.post_targets(&release.signed).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        release
    }

    pub async fn post_targets(&self, signed: &[u8]) -> (StatusCode, String) {
        let request = self.request(Method::POST, "v1/metadata/targets").body(signed.to_vec());
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

/// Signed metadata and what it names.
pub(crate) struct Release {
    pub targets: Targets,
    pub signed: Vec<u8>,
    pub blobs: Vec<Vec<u8>>,
    pub artifact: ArtifactRef,
}

fn manifest(version: &str, model: &[u8]) -> Manifest {
    let (length, digest) = (model.len() as u64, Digest::of(model));
    Manifest {
        model: "digits".parse().unwrap(),
        version: version.parse().unwrap(),
        engine: "tract-onnx".into(),
        task: Task::Classification,
        files: vec![FileEntry { role: FileRole::Model, length, digest }],
        inputs: vec![],
        outputs: vec![],
        gates: Gates::default(),
        window_rows: 50,
        humility: vec![],
    }
}

fn config(dir: &TempDir) -> ServeConfig {
    let loopback = ([127, 0, 0, 1], 0).into();
    let broker = BrokerConfig::Embedded { listen: loopback };
    let mut config = ServeConfig::new(dir.path(), loopback, broker);
    config.plan_interval_ms = 20;
    config
}

/// Founds a fleet in a folder and returns the first pass.
pub(crate) fn found(dir: &TempDir, publisher: &SigningKey) -> Pass {
    let paths = DataDir::new(dir.path());
    std::fs::create_dir_all(dir.path().join("online-keys")).unwrap();
    let ring = |key: &SigningKey| Keyring { keys: vec![key.public()], threshold: 1 };
    let online = |role| ring(&keys::generate(&paths.key(role)).unwrap());
    let roster = Roster {
        root: ring(publisher),
        targets: ring(publisher),
        snapshot: online(Role::Snapshot),
        timestamp: online(Role::Timestamp),
        director: online(Role::Director),
    };
    let root = initial(fleet_id(), &roster, EXPIRES).unwrap();
    let signed = sign_metadata(&root, &[publisher]);
    initialise(dir.path(), &fleet_id(), &signed).unwrap().pass
}

/// A device's session at the broker.
pub(crate) struct Session {
    pub id: DeviceId,
    pub client: AsyncClient,
    pub events: EventLoop,
    /// Messages that came while something else was waited for.
    inbox: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Session {
    pub fn new(fleet: &Fleet, device: &Member) -> Self {
        Self::with(device.mqtt(&fleet.server.broker_address().to_string()))
    }

    /// A session as whoever the options say.
    pub fn with(options: MqttOptions) -> Self {
        let id = options.client_id().parse().unwrap_or_else(|_| "nobody".parse().unwrap());
        let (client, events) = AsyncClient::builder(options).capacity(64).build();
        Self { id, client, events, inbox: Vec::new() }
    }

    /// Waits for a packet that `which` takes. Messages go to the inbox.
    pub async fn wait<T>(&mut self, which: impl Fn(&Packet) -> Option<T>) -> Result<T, String> {
        let wait = async {
            loop {
                match self.events.poll().await {
                    Ok(Event::Incoming(packet)) => {
                        if let Packet::Publish(publish) = &packet {
                            let (topic, payload) = (&publish.topic, &publish.payload);
                            self.inbox.push((topic.to_vec(), payload.to_vec()));
                        }
                        if let Some(found) = which(&packet) {
                            return Ok(found);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("nothing came")
    }

    pub async fn connect(&mut self) -> Result<ConnectReturnCode, String> {
        self.wait(|packet| match packet {
            Packet::ConnAck(ack) => Some(ack.code),
            _ => None,
        })
        .await
    }

    pub async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        let code = self.wait(|packet| match packet {
            Packet::SubAck(ack) => Some(ack.return_codes[0]),
            _ => None,
        });
        code.await.unwrap()
    }

    pub async fn publish(&mut self, topic: &str, bytes: Vec<u8>) -> PubAckReason {
        self.client.try_publish(topic, bytes, PublishOptions::at_least_once()).unwrap();
        let reason = self.wait(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        });
        reason.await.unwrap()
    }

    /// Connects and subscribes to everything that a device may.
    pub async fn join(mut self) -> Self {
        self.connect().await.unwrap();
        for filter in device_subscriptions(&fleet_id(), &self.id) {
            let code = self.subscribe(&filter).await;
            assert!(matches!(code, SubscribeReasonCode::Success(_)), "{filter}: {code:?}");
        }
        self
    }

    /// Whether a message on a topic has come that nobody has taken yet.
    pub fn has(&self, topic: &Topic) -> bool {
        let name = topic.name(&fleet_id());
        self.inbox.iter().any(|(topic, _)| topic == name.as_bytes())
    }

    /// The next message on a topic.
    pub async fn message(&mut self, topic: &Topic) -> Vec<u8> {
        let name = topic.name(&fleet_id());
        loop {
            let mine = |(topic, _): &(Vec<u8>, Vec<u8>)| topic == name.as_bytes();
            if let Some(at) = self.inbox.iter().position(mine) {
                return self.inbox.remove(at).1;
            }
            self.wait(|packet| matches!(packet, Packet::Publish(_)).then_some(())).await.unwrap();
        }
    }

    pub fn send<M: Message>(&self, topic: &Topic, message: &M) {
        let (name, bytes) = (topic.name(&fleet_id()), envelope::seal(message));
        let retained = matches!(topic, Topic::Status(_));
        let options = PublishOptions::at_least_once().retain(retained);
        self.client.try_publish(name, bytes, options).unwrap();
    }
}

/// A report that says little.
pub(crate) fn report(device: &str, spool: u64, seq: u64) -> Report {
    let transition = Transition {
        model: "digits".parse().unwrap(),
        generation: Generation(1),
        artifact: None,
        state: State::Idle,
        active: None,
        reason: None,
        detail: String::new(),
    };
    Report {
        fleet: fleet_id(),
        device: device.parse().unwrap(),
        spool,
        seq,
        oldest: 0,
        dropped: 0,
        at: 1_800_000_000,
        body: Body::Transition(transition),
    }
}
