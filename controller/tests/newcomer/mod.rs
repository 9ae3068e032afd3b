//! A device made by hand: what an agent does to get in, step by step. Tests of the library, of the
//! binary, and the benchmark include this file.
#![allow(dead_code)]

use std::sync::Arc;

use rumqttc::{MqttOptions, TlsConfiguration, Transport};
use tidegate_agent::disk::Folder;
use tidegate_agent::store::identity::Identity;
use tidegate_agent::tls::{self, Authority, Credentials, TimeFloor};
use tidegate_trust::sign_enrol;
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::invitation::{Invitation, Secret};
use tidegate_wire::{DeviceId, Digest, Labels, envelope};

/// A device that is not in yet.
#[derive(Clone)]
pub struct Newcomer {
    pub id: DeviceId,
    pub identity: Arc<Identity>,
}

/// A device that is in.
#[derive(Clone)]
pub struct Member {
    pub id: DeviceId,
    pub identity: Arc<Identity>,
    pub answer: EnrolResponse,
}

impl Newcomer {
    /// One with a key that nobody else has.
    pub fn new(id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::load(Folder::new(folder.path())).unwrap());
        Self { id: id.parse().unwrap(), identity }
    }

    /// The same key under another name.
    pub fn called(&self, id: &str) -> Self {
        Self { id: id.parse().unwrap(), identity: Arc::clone(&self.identity) }
    }

    /// What it says to be let in.
    pub fn request(&self, secret: Option<Secret>, root: Digest) -> EnrolRequest {
        EnrolRequest {
            device: self.id.clone(),
            labels: Labels::new(),
            public_key: self.identity.key().public().as_bytes().to_vec(),
            certificate_request: self.identity.certificate_request(&self.id),
            secret,
            root,
            agent: "0.1.0".into(),
        }
    }

    /// Sends a request. Returns the status and the body.
    pub async fn send(
        &self,
        invitation: &Invitation,
        request: &EnrolRequest,
    ) -> (reqwest::StatusCode, Vec<u8>) {
        let http = http(&Authority::Pinned(invitation.authority), None);
        let post = http.post(format!("{}/v1/enrol", invitation.controller));
        let body = sign_enrol(&self.identity.key(), request);
        let answer = post.body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    /// Asks to be let in. Returns the status and the body.
    pub async fn enrol(&self, invitation: &Invitation) -> (reqwest::StatusCode, Vec<u8>) {
        let request = self.request(Some(invitation.secret.clone()), invitation.root);
        self.send(invitation, &request).await
    }

    /// Gets in, or panics.
    pub async fn join(&self, invitation: &Invitation) -> Member {
        let (status, body) = self.enrol(invitation).await;
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        self.member(&body)
    }

    /// What the answer makes of it.
    pub fn member(&self, answer: &[u8]) -> Member {
        let answer = envelope::open(answer).unwrap();
        Member { id: self.id.clone(), identity: Arc::clone(&self.identity), answer }
    }
}

impl Member {
    /// The authorities that it knows from its enrolment.
    pub fn authority(&self) -> Authority {
        Authority::Known(self.answer.authorities.iter().map(|der| der.to_vec()).collect())
    }

    /// What it shows of itself.
    pub fn credentials(&self) -> Credentials {
        self.identity.credentials(self.answer.certificate.clone())
    }

    /// An HTTP client that shows its certificate.
    pub fn http(&self) -> reqwest::Client {
        http(&self.authority(), Some(&self.credentials()))
    }

    /// MQTT with its certificate, as itself, to the broker at `host:port`.
    pub fn mqtt(&self, broker: &str) -> MqttOptions {
        self.mqtt_as(broker, self.id.as_str(), self.id.as_str())
    }

    /// MQTT with its certificate, as somebody else.
    pub fn mqtt_as(&self, broker: &str, id: &str, user: &str) -> MqttOptions {
        mqtt(broker, id, user, &self.authority(), Some(&self.credentials()))
    }
}

/// MQTT over TLS.
pub fn mqtt(
    broker: &str,
    id: &str,
    user: &str,
    authority: &Authority,
    credentials: Option<&Credentials>,
) -> MqttOptions {
    let (host, port) = broker.rsplit_once(':').unwrap();
    let mut options = MqttOptions::new(id, (host.to_owned(), port.parse::<u16>().unwrap()));
    options.set_credentials(user.to_owned(), String::new());
    let tls = tls::client(authority, credentials, &TimeFloor::default()).unwrap();
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
    options.set_outgoing_inflight_upper_limit(64);
    options
}

/// HTTP over TLS.
pub fn http(authority: &Authority, credentials: Option<&Credentials>) -> reqwest::Client {
    tls::install_provider();
    let tls = tls::client(authority, credentials, &TimeFloor::default()).unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}
