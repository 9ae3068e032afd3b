//! The shipped configuration and access list of Mosquitto, with Mosquitto itself: who gets in, and who
//! may say and hear what.

mod newcomer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use newcomer::{Member, Newcomer, mqtt};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, PublishOptions};
use tidegate_agent::tls::{Authority, Credentials};
use tidegate_controller::api::types::{DeviceTokenRequest, RevokeDevice};
use tidegate_controller::authority::{Authority as FleetAuthority, IssuedCertificate, issue};
use tidegate_controller::cli::trust;
use tidegate_controller::client::Client;
use tidegate_controller::demo::Mosquitto;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};
use tidegate_wire::envelope;
use tidegate_wire::invitation::{Invitation, Pass};
use tidegate_wire::report::{Ack, Body, Report, Transition};
use tidegate_wire::topic::Topic;
use tidegate_wire::{FleetId, Generation, State};

/// No test waits longer for something that should happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join("mosquitto")).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: there is no mosquitto on this machine");
    }
    found
}

fn fleet() -> FleetId {
    "plant".parse().unwrap()
}

struct World {
    dir: tempfile::TempDir,
    mosquitto: Mosquitto,
    server: Server,
    client: Client,
    invitation: Invitation,
}

impl World {
    /// A controller with Mosquitto as its broker; none where there is no Mosquitto.
    async fn start() -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let (data, keys) = (dir.path().join("data"), dir.path().join("keys"));
        let founded = trust::initialise(&data, fleet(), &keys).unwrap();
        let mut mosquitto = Mosquitto::prepare(&program, dir.path(), &data).unwrap();
        let broker = BrokerConfig::external(mosquitto.address().to_string());
        let config = ServeConfig::new(&data, ([127, 0, 0, 1], 0).into(), broker);
        let server = Server::start(config).await.unwrap();
        mosquitto.start().await.unwrap();
        tokio::time::timeout(PATIENCE, server.connected()).await.expect("the controller gets in");
        let controller = server.url().to_owned();
        let client = Client::new(&Pass { controller, ..founded.pass }).unwrap();
        let (labels, why) = (Default::default(), String::new());
        let wish = DeviceTokenRequest { labels, uses: 9, expires_seconds: 600, why };
        let invitation = client.device_token(&wish).await.unwrap().token.parse().unwrap();
        Some(Self { dir, mosquitto, server, client, invitation })
    }

    async fn join(&self, id: &str) -> Member {
        let member = Newcomer::new(id).join(&self.invitation).await;
        assert_eq!(member.answer.broker, self.mosquitto.address().to_string());
        member
    }
}

/// A session, and what came to it while it waited for something else.
struct Session {
    client: AsyncClient,
    events: EventLoop,
    inbox: Vec<(String, Vec<u8>)>,
}

impl Session {
    async fn connect(options: MqttOptions) -> Option<Self> {
        let (client, events) = AsyncClient::builder(options).capacity(64).build();
        let mut session = Self { client, events, inbox: Vec::new() };
        let connected = session.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        connected.await.map(|()| session)
    }

    async fn of(member: &Member) -> Option<Self> {
        Self::connect(member.mqtt(&member.answer.broker)).await
    }

    /// None if the session ends before.
    async fn wait<T>(&mut self, which: impl Fn(&Packet) -> Option<T>) -> Option<T> {
        let wait = async {
            while let Ok(event) = self.events.poll().await {
                let Event::Incoming(packet) = event else { continue };
                if let Packet::Publish(publish) = &packet {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    self.inbox.push((topic, publish.payload.to_vec()));
                }
                if let Some(found) = which(&packet) {
                    return Some(found);
                }
            }
            None
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("nothing came")
    }

    async fn subscribe(&mut self, filter: &str) {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        self.wait(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await.unwrap();
    }

    async fn publish(&mut self, topic: &str, bytes: Vec<u8>) -> PubAckReason {
        self.client.try_publish(topic, bytes, PublishOptions::at_least_once()).unwrap();
        let acknowledged = self.wait(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        });
        acknowledged.await.unwrap()
    }

    /// Reports, and waits until the controller has stored that.
    async fn report(&mut self, member: &Member, seq: u64) {
        let topic = Topic::Report(member.id.clone()).name(&fleet());
        self.publish(&topic, envelope::seal(&report(member, seq))).await;
        let ack = Topic::Ack(member.id.clone()).name(&fleet());
        let stored = |packet: &Packet| match packet {
            Packet::Publish(publish) if publish.topic == ack.as_bytes() => {
                let ack: Ack = envelope::open(&publish.payload).unwrap();
                ack.seqs.iter().any(|(first, last)| (*first..=*last).contains(&seq)).then_some(())
            }
            _ => None,
        };
        self.wait(stored).await.unwrap();
    }
}

fn report(member: &Member, seq: u64) -> Report {
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
        fleet: fleet(),
        device: member.id.clone(),
        spool: 1,
        seq,
        oldest: 0,
        dropped: 0,
        at: 1,
        body: Body::Transition(transition),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_and_hears_under_its_own_id_only() {
    let Some(world) = World::start().await else { return };
    let (pi, victim) = (world.join("pi-1").await, world.join("pi-2").await);
    let mut spy = Session::of(&pi).await.unwrap();
    let filters = ["#", "tidegate/#", "tidegate/plant/device/+/report", "$SYS/#"];
    for filter in filters.into_iter().chain(["tidegate/plant/device/pi-2/ack"]) {
        spy.subscribe(filter).await;
    }
    let mut other = Session::of(&victim).await.unwrap();
    other.subscribe(&Topic::Ack(victim.id.clone()).name(&fleet())).await;
    other.report(&victim, 0).await;
    let forged = [
        "tidegate/plant/directive/digits",
        "tidegate/plant/timestamp",
        "tidegate/plant/device/pi-2/report",
        "tidegate/plant/device/pi-2/status",
        "tidegate/plant/device/pi-1/ack",
        "elsewhere",
    ];
    for topic in forged {
        let reason = spy.publish(topic, envelope::seal(&report(&victim, 1))).await;
        assert_eq!(reason, PubAckReason::NotAuthorized, "{topic}");
    }
    // All that was meant for others would have come before this.
    spy.report(&pi, 0).await;
    let heard: BTreeSet<_> = spy.inbox.iter().map(|(topic, _)| topic.as_str()).collect();
    let own = ["tidegate/plant/timestamp", "tidegate/plant/device/pi-1/ack"];
    assert!(heard.iter().all(|topic| own.contains(topic)), "{heard:?}");
    assert_eq!(world.client.fleet().await.unwrap().reports.received, 2, "nothing forged");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_of_the_fleet_leads_in_and_under_its_own_name() {
    let Some(world) = World::start().await else { return };
    let pi = world.join("pi-1").await;
    let broker = world.mosquitto.address().to_string();
    let key = pi.identity.key();
    let of = |authority: &FleetAuthority, issued: &IssuedCertificate| {
        let certificate = authority.device(&pi.id, key.public().as_bytes(), issued).unwrap();
        pi.identity.credentials(certificate)
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = FleetAuthority::open(elsewhere.path(), &fleet(), now).unwrap();
    let own = FleetAuthority::open(&world.dir.path().join("data/ca"), &fleet(), now).unwrap();
    let later = issue(now, now + 1000);
    let expired = issue(now - 9000, now - 10);
    let wrong: [(&str, Option<Credentials>); 3] = [
        ("no certificate", None),
        ("another authority's", Some(of(&other, &later))),
        ("expired", Some(of(&own, &expired))),
    ];
    for (what, credentials) in wrong {
        let options = mqtt(&broker, "pi-1", "pi-1", &pi.authority(), credentials.as_ref());
        assert!(Session::connect(options).await.is_none(), "{what}");
    }
    // Whatever name and client id it gives, it is who its certificate says.
    let mut session = Session::connect(pi.mqtt_as(&broker, "pi-2", "-controller")).await.unwrap();
    let reason = session.publish("tidegate/plant/directive/digits", vec![1]).await;
    assert_eq!(reason, PubAckReason::NotAuthorized);
    // A broker of another authority is not believed.
    let pinned = Authority::Known(vec![other.certificate().to_vec()]);
    let options = mqtt(&broker, "pi-1", "pi-1", &pinned, Some(&pi.credentials()));
    assert!(Session::connect(options).await.is_none());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_to_a_revoked_device_and_it_does_not_get_back_in() {
    let Some(world) = World::start().await else { return };
    let (pi, thief) = (world.join("pi-1").await, world.join("pi-2").await);
    let mut open = Session::of(&thief).await.unwrap();
    open.subscribe(&Topic::Ack(thief.id.clone()).name(&fleet())).await;
    open.report(&thief, 0).await;
    let revoke = RevokeDevice { why: "stolen".into() };
    world.client.revoke_device(&thief.id, &revoke).await.unwrap();
    // Mosquitto does not know yet, but the controller does.
    let topic = Topic::Report(thief.id.clone()).name(&fleet());
    open.publish(&topic, envelope::seal(&report(&thief, 1))).await;
    let refused = async {
        while world.client.fleet().await.unwrap().reports.refused == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("its report was not refused");
    assert_eq!(world.client.fleet().await.unwrap().reports.received, 1);
    // It reads the list of the revoked when it is told to.
    world.mosquitto.reload().unwrap();
    let out = async { while Session::of(&thief).await.is_some() {} };
    tokio::time::timeout(PATIENCE, out).await.expect("the revoked device gets in");
    assert!(Session::of(&pi).await.is_some(), "others still get in");
    world.server.stop().await;
}
