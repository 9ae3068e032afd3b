//! The MQTT link through TLS to a real broker that goes away, forgets, and lets two in with one id.
#![allow(missing_docs)]

mod authority;
mod broker;

use std::net::SocketAddr;
use std::sync::Arc;

use authority::{Authority, Clients, Front, Validity, door};

use broker::{Broker, any_port, within};
use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions};
use tidegate_agent::link::mqtt::{MqttConfig, MqttLink};
use tidegate_agent::link::{Door, Keep, LinkEvent, Uplink};
use tidegate_agent::store::identity::Identity;
use tidegate_agent::tls::{self, TimeFloor};
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, FleetId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

fn fleet() -> FleetId {
    "test".parse().unwrap()
}

fn device() -> DeviceId {
    "pi-1".parse().unwrap()
}

fn status() -> Topic {
    Topic::Status(device())
}

fn directive() -> Topic {
    Topic::Directive("digits".parse().unwrap())
}

/// The way in to a broker: TLS, and only for devices of the authority.
struct Entrance {
    authority: Authority,
    front: Front,
    address: SocketAddr,
    /// Certificates that were let in.
    seen: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Entrance {
    async fn to(broker: SocketAddr) -> Self {
        let authority = Authority::new();
        let front = Front::new(Self::shows(&authority, &authority, &["127.0.0.1"]));
        let (sender, seen) = mpsc::unbounded_channel();
        let address = door(front.clone(), broker, sender).await;
        Self { authority, front, address, seen }
    }

    /// Shows a certificate of `shown`, and lets in devices of `believed`.
    fn shows(shown: &Authority, believed: &Authority, names: &[&str]) -> rustls::ServerConfig {
        believed.accepting(&shown.server(names, Validity::present()), Clients::Certified)
    }

    /// A door with a certificate of its own, and that certificate.
    fn door(&self, validity: Validity) -> (Door, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::load(tidegate_agent::disk::Folder::new(folder.path())).unwrap();
        let request = identity.certificate_request(&device());
        let certificate = self.authority.device(&request, validity);
        let credentials = identity.credentials(certificate.clone());
        let known = tls::Authority::Known(vec![self.authority.der()]);
        let tls = tls::client(&known, Some(&credentials), &TimeFloor::default()).unwrap();
        (Door { broker: self.address.to_string(), tls: Arc::new(tls) }, certificate)
    }
}

struct Agent {
    link: MqttLink,
    events: mpsc::Receiver<LinkEvent>,
}

impl Agent {
    fn start(entrance: &Entrance) -> Self {
        Self::with(entrance.door(Validity::present()).0)
    }

    fn with(door: Door) -> Self {
        let (sender, events) = mpsc::channel(64);
        let last_will = b"gone".to_vec();
        let config = MqttConfig { door, fleet: fleet(), device: device(), last_will };
        Self { link: MqttLink::start(config, sender).unwrap(), events }
    }

    async fn next(&mut self) -> LinkEvent {
        within("a link event", self.events.recv()).await.unwrap()
    }

    async fn until(&mut self, wanted: &LinkEvent) {
        while self.next().await != *wanted {}
    }

    async fn message(&mut self) -> (Topic, Vec<u8>) {
        loop {
            if let LinkEvent::Message { topic, payload } = self.next().await {
                return (topic, payload);
            }
        }
    }

    fn publish(&self, topic: &Topic, payload: &str, keep: Keep) {
        self.link.uplink().try_publish(topic, payload.as_bytes().to_vec(), keep).unwrap();
    }
}

/// The controller's side: sees what devices say, and says things.
struct Controller {
    client: AsyncClient,
    seen: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    task: JoinHandle<()>,
}

impl Controller {
    async fn start(broker: SocketAddr) -> Self {
        let mut options = MqttOptions::new("controller", (broker.ip().to_string(), broker.port()));
        options.set_outgoing_inflight_upper_limit(64);
        let (client, mut eventloop) = AsyncClient::builder(options).capacity(16).build();
        let filter = format!("tidegate/{}/device/+/+", fleet());
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let (sender, seen) = mpsc::unbounded_channel();
        let (subscribed, ready) = tokio::sync::oneshot::channel();
        let mut subscribed = Some(subscribed);
        let task = tokio::spawn(async move {
            while let Ok(event) = eventloop.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => {
                        subscribed.take().into_iter().for_each(|tell| tell.send(()).unwrap());
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                        let _ = sender.send((topic, publish.payload.to_vec()));
                    }
                    _ => {}
                }
            }
        });
        within("the subscription", ready).await.unwrap();
        Self { client, seen, task }
    }

    async fn say(&self, topic: &Topic, payload: &str) {
        let options = PublishOptions::at_least_once().retain(true);
        self.client.publish(topic.name(&fleet()), payload.to_string(), options).await.unwrap();
    }

    /// The next message, which must be this one.
    async fn saw_next(&mut self, topic: &Topic, payload: &str) {
        let seen = within(payload, self.seen.recv()).await.unwrap();
        assert_eq!(seen, (topic.name(&fleet()), payload.as_bytes().to_vec()));
    }

    async fn saw(&mut self, topic: &Topic, payload: &str) {
        let wanted = (topic.name(&fleet()), payload.as_bytes().to_vec());
        within(payload, async { while self.seen.recv().await.unwrap() != wanted {} }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_both_ways_also_after_a_restart_with_a_session_at_the_broker() {
    let broker = Broker::start(any_port()).await;
    let mut controller = Controller::start(broker.address).await;
    let entrance = Entrance::to(broker.address).await;
    let mut agent = Agent::start(&entrance);
    agent.until(&LinkEvent::Up).await;
    agent.publish(&status(), "here", Keep::Retain);
    controller.saw(&status(), "here").await;
    controller.say(&directive(), "go").await;
    assert_eq!(agent.message().await, (directive(), b"go".to_vec()));
    agent.publish(&status(), "goodbye", Keep::Retain);
    agent.link.close().await;
    // What was handed over before the goodbye arrives, and the will does not.
    controller.saw(&status(), "goodbye").await;

    // The broker still has a session, of which this process knows nothing.
    let mut agent = Agent::start(&entrance);
    agent.until(&LinkEvent::Up).await;
    assert_eq!(agent.message().await, (directive(), b"go".to_vec()));
    agent.publish(&status(), "back", Keep::Retain);
    controller.saw(&status(), "back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_the_session_does_not_leave_the_agent_deaf() {
    let broker = Broker::start(any_port()).await;
    let address = broker.address;
    let entrance = Entrance::to(address).await;
    let mut agent = Agent::start(&entrance);
    agent.until(&LinkEvent::Up).await;
    broker.stop().await;
    while !matches!(agent.next().await, LinkEvent::Down { .. }) {}
    let uplink = agent.link.uplink();
    assert!(uplink.try_publish(&status(), vec![], Keep::Retain).is_err());
    // Another folder: it knows of no session and of no subscription.
    let broker = Broker::start(address).await;
    agent.until(&LinkEvent::Up).await;
    let controller = Controller::start(broker.address).await;
    controller.say(&directive(), "still there?").await;
    assert_eq!(agent.message().await, (directive(), b"still there?".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_of_two_agents_with_one_id_is_told() {
    let broker = Broker::start(any_port()).await;
    let entrance = Entrance::to(broker.address).await;
    let mut older = Agent::start(&entrance);
    older.until(&LinkEvent::Up).await;
    let mut younger = Agent::start(&entrance);
    younger.until(&LinkEvent::Up).await;
    older.until(&LinkEvent::TakenOver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_gone_is_said_to_be_gone() {
    let broker = Broker::start(any_port()).await;
    let mut controller = Controller::start(broker.address).await;
    // A runtime of its own, which ends as a process does: without a goodbye.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entrance = Entrance::to(broker.address).await;
    let (up, is_up) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let mut agent = Agent::start(&entrance);
        agent.until(&LinkEvent::Up).await;
        agent.publish(&status(), "here", Keep::Retain);
        up.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    within("the link", is_up).await.unwrap();
    controller.saw(&status(), "here").await;
    runtime.shutdown_background();
    controller.saw(&status(), "gone").await;
    controller.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_at_once_and_nothing_is_lost() {
    let broker = Broker::start(any_port()).await;
    let mut entrance = Entrance::to(broker.address).await;
    let mut controller = Controller::start(broker.address).await;
    let (first, shown_first) = entrance.door(Validity::present());
    let mut agent = Agent::with(first);
    agent.until(&LinkEvent::Up).await;
    assert_eq!(within("the first", entrance.seen.recv()).await, Some(shown_first));

    agent.publish(&status(), "just before", Keep::Retain);
    let (second, shown_second) = entrance.door(Validity::present());
    agent.link.uplink().replace_door(second).unwrap();
    assert!(matches!(agent.next().await, LinkEvent::Down { .. }));
    agent.until(&LinkEvent::Up).await;
    assert_eq!(within("the second", entrance.seen.recv()).await, Some(shown_second));
    // It said goodbye: the will is not published, and what was handed over is.
    agent.publish(&status(), "just after", Keep::Retain);
    controller.saw_next(&status(), "just before").await;
    controller.saw_next(&status(), "just after").await;
    controller.say(&directive(), "go").await;
    assert_eq!(agent.message().await, (directive(), b"go".to_vec()));
    // It ends for good, too.
    within("the end", agent.link.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_the_fleets_is_not_talked_to() {
    let broker = Broker::start(any_port()).await;
    let mut entrance = Entrance::to(broker.address).await;
    let own = &entrance.authority;
    let cases = [
        (Entrance::shows(&Authority::new(), own, &["127.0.0.1"]), "this fleet's authority"),
        (Entrance::shows(own, own, &["broker.example"]), "not for 127.0.0.1"),
        // The broker turns the device down.
        (Entrance::shows(own, &Authority::new(), &["127.0.0.1"]), "this device's certificate"),
    ];
    for (config, expected) in cases {
        entrance.front.replace(config);
        let mut agent = Agent::start(&entrance);
        let LinkEvent::Down { why } = agent.next().await else { panic!("it is up: {expected}") };
        assert!(why.contains(expected), "{why}");
        agent.link.close().await;
    }
    assert!(entrance.seen.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ended_is_named_as_the_reason() {
    let broker = Broker::start(any_port()).await;
    let entrance = Entrance::to(broker.address).await;
    let ended = Validity(authority::now() - 7_200, authority::now() - 3_600);
    let mut agent = Agent::with(entrance.door(ended).0);
    let LinkEvent::Down { why } = agent.next().await else { panic!("it is up") };
    assert!(why.contains("certificate has expired"), "{why}");
    // A name that nobody knows is tried again too.
    let (mut door, _) = entrance.door(Validity::present());
    door.broker = "broker.invalid:8883".to_string();
    let mut agent = Agent::with(door);
    assert!(matches!(agent.next().await, LinkEvent::Down { .. }));
    assert!(matches!(agent.next().await, LinkEvent::Down { .. }));
}
