//! Secrets reach no log, no error, no answer that is not their own, and no file but the one that is
//! there for them.
//!
//! A process of its own, since it listens to everything that is logged, at the lowest level.

mod newcomer;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use newcomer::{Newcomer, http, mqtt};
use rumqttc::AsyncClient;
use tidegate_agent::tls::Authority;
use tidegate_controller::api::types::{
    ApiRole, DeviceTokenRequest, IssuedToken, RevokeDevice, TokenRequest,
};
use tidegate_controller::cli::trust;
use tidegate_controller::client::Client;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};
use tidegate_wire::Digest;
use tidegate_wire::invitation::{Invitation, Pass, Secret};

/// What was logged and answered.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn add(&self, said: impl std::fmt::Display) {
        writeln!(self.0.lock().unwrap(), "{said}").unwrap();
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The ways in which a secret might be written down.
fn spellings(secret: &Secret) -> Vec<Vec<u8>> {
    let line =
        Pass { controller: String::new(), authority: Digest::of(b""), secret: secret.clone() };
    let hex: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", secret.0);
    let list = list.trim_matches(['[', ']']).to_owned();
    vec![secret.0.clone(), line.bearer().into(), hex.to_uppercase().into(), hex.into(), list.into()]
}

fn holds(text: &[u8], secret: &Secret) -> bool {
    spellings(secret).iter().any(|way| text.windows(way.len()).any(|part| part == way))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_where_they_belong() {
    let heard = Heard::default();
    let log = heard.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || log.clone())
        .init();

    let dir = tempfile::tempdir().unwrap();
    let (data, keys) = (dir.path().join("data"), dir.path().join("keys"));
    let founded = trust::initialise(&data, "plant".parse().unwrap(), &keys).unwrap();
    let loopback = ([127, 0, 0, 1], 0).into();
    let broker = BrokerConfig::Embedded { listen: loopback };
    let server = Server::start(ServeConfig::new(&data, loopback, broker)).await.unwrap();
    server.connected().await;
    let admin = Pass { controller: server.url().to_owned(), ..founded.pass };
    let client = Client::new(&admin).unwrap();
    heard.add(format!("{client:?} {admin:?}"));

    // Tokens are made.
    let why = "a test".to_owned();
    let wish = DeviceTokenRequest { labels: Default::default(), uses: 1, expires_seconds: 60, why };
    let issued = client.device_token(&wish).await.unwrap();
    heard.add(format!("{issued:?}"));
    let invitation: Invitation = issued.token.parse().unwrap();
    heard.add(format!("{invitation:?}"));
    let raw = http(&Authority::Pinned(admin.authority), None);
    let post = |path: &str| raw.post(format!("{}/{path}", server.url()));
    let (role, why) = (ApiRole::Viewer, String::new());
    let wish =
        TokenRequest { name: "berta".into(), role, from_ms: None, expires_seconds: None, why };
    let answer = post("v1/tokens").bearer_auth(admin.bearer()).json(&wish).send().await.unwrap();
    let issued: IssuedToken = answer.json().await.unwrap();
    let berta: Pass = issued.token.parse().unwrap();

    // They are used, rightly and wrongly.
    let guessed = Secret(b"a secret that nobody was given".to_vec());
    let (pi, other) = (Newcomer::new("pi-1"), Newcomer::new("pi-2"));
    let member = pi.join(&invitation).await;
    let request = pi.request(Some(invitation.secret.clone()), invitation.root);
    heard.add(format!("{request:?}"));
    let used_up = other.enrol(&invitation).await;
    let mut unknown = other.request(Some(guessed.clone()), invitation.root);
    let not_known = other.send(&invitation, &unknown).await;
    unknown.certificate_request = vec![1, 2, 3];
    let damaged = other.send(&invitation, &unknown).await;
    for (status, body) in [used_up, not_known, damaged] {
        assert!(status.is_client_error(), "{status}");
        heard.add(String::from_utf8(body).unwrap());
    }
    for body in [invitation.text(), format!("{:?}", invitation.secret.0)] {
        heard.add(post("v1/enrol").body(body).send().await.unwrap().text().await.unwrap());
    }
    let wrong = Pass { secret: guessed.clone(), ..admin.clone() };
    heard.add(Client::new(&wrong).unwrap().fleet().await.unwrap_err());
    for bearer in [admin.text(), invitation.text(), format!("{}x", admin.bearer())] {
        let answer = post("v1/fleet").bearer_auth(&bearer).send().await.unwrap();
        heard.add(answer.text().await.unwrap());
    }
    let revoke = RevokeDevice { why: "stolen".into() };
    let broker = server.broker_address().to_string();
    let options = mqtt(&broker, "pi-9", "pi-9", &member.authority(), Some(&member.credentials()));
    let (_, mut events) = AsyncClient::builder(options).capacity(8).build();
    while events.poll().await.is_ok() {}
    client.revoke_device(&pi.id, &revoke).await.unwrap();
    let list = client.devices().await.unwrap();
    let audit = client.audit(0, 100).await.unwrap();
    heard.add(format!("{} {}", serde_json::json!(list), serde_json::json!(audit)));
    let metrics = raw.get(format!("{}/metrics", server.url())).bearer_auth(berta.bearer());
    heard.add(metrics.send().await.unwrap().text().await.unwrap());
    server.stop().await;

    let heard = heard.0.lock().unwrap();
    let log = String::from_utf8_lossy(&heard);
    assert!(log.contains("invitation is used up") && log.contains("tidegate_controller"), "{log}");
    let secrets = [
        ("the admin's", &admin.secret),
        ("berta's", &berta.secret),
        ("the invitation's", &invitation.secret),
        ("the guessed", &guessed),
    ];
    for (whose, secret) in secrets {
        if let Some(line) = log.lines().find(|line| holds(line.as_bytes(), secret)) {
            panic!("{whose} secret was said: {line}");
        }
        assert!(!holds(&heard, secret), "{whose} secret was said");
    }
    for line in [admin.text(), invitation.text(), berta.text()] {
        assert!(!log.contains(&line), "a whole line was said");
    }
    for file in files(&data) {
        let bytes = std::fs::read(&file).unwrap();
        let own = file.ends_with("admin-token");
        for (whose, secret) in secrets {
            assert!(own || !holds(&bytes, secret), "{whose} secret is in {}", file.display());
        }
    }
}
