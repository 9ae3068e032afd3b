//! A real broker behind TLS, on which the attacker said what he has to say before the device comes.

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt5::broker::config::{BrokerConfig, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions};
use tidegate_wire::envelope;
use tidegate_wire::report::{Body, Report, Status, Transition};
use tidegate_wire::topic::Topic;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::authority::{Authority, Clients, Front, door};
use crate::folder::{self, Attack, Conduct};

/// The broker, and what the device says there.
pub struct Broker {
    /// Where the device connects.
    pub address: SocketAddr,
    said: mpsc::UnboundedReceiver<(Topic, Vec<u8>)>,
    shutdown: BrokerShutdownHandle,
    tasks: [JoinHandle<()>; 2],
    _folder: tempfile::TempDir,
}

/// What the device has said up to now.
#[derive(Default)]
pub struct Heard {
    pub status: Option<Status>,
    pub transitions: Vec<Transition>,
}

impl Broker {
    pub async fn start(attack: &Attack, authority: &Arc<Authority>) -> Self {
        let probe = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = probe.local_addr().unwrap();
        drop(probe);
        let folder = tempfile::tempdir().unwrap();
        let storage = StorageConfig::new().with_base_dir(folder.path().into());
        let config = BrokerConfig::new().with_bind_address(inner).with_storage(storage);
        let mut broker = MqttBroker::with_config(config).await.unwrap();
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let serving = tokio::spawn(async move { broker.run().await.unwrap() });
        ready.wait_for(|ready| *ready).await.unwrap();
        let (said, listening) = say_and_listen(inner, attack).await;
        let identity = authority.server(&["127.0.0.1"], super::validity());
        let front = Front::new(authority.accepting(&identity, Clients::Certified));
        let (seen, _) = mpsc::unbounded_channel();
        let address = door(front, inner, seen).await;
        Self { address, said, shutdown, tasks: [serving, listening], _folder: folder }
    }

    /// Takes in the next thing that the device says.
    pub async fn hear(&mut self, heard: &mut Heard) {
        let (topic, payload) = self.said.recv().await.expect("the broker is there");
        match topic {
            Topic::Status(_) => heard.status = Some(envelope::open(&payload).unwrap()),
            Topic::Report(_) => {
                let report: Report = envelope::open(&payload).unwrap();
                if let Body::Transition(transition) = report.body {
                    heard.transitions.push(transition);
                }
            }
            other => panic!("a device does not say {other:?}"),
        }
    }

    pub async fn stop(self) {
        let [serving, listening] = self.tasks;
        listening.abort();
        self.shutdown.shutdown();
        serving.await.unwrap();
    }
}

type Said = mpsc::UnboundedReceiver<(Topic, Vec<u8>)>;

/// Retains the attacker's directives, and listens to all devices.
async fn say_and_listen(broker: SocketAddr, attack: &Attack) -> (Said, JoinHandle<()>) {
    let fleet = folder::fleet();
    let mut options = MqttOptions::new("attacker", (broker.ip().to_string(), broker.port()));
    options.set_max_packet_size(Some(1 << 20));
    options.set_outgoing_inflight_upper_limit(64);
    let (client, mut events) = AsyncClient::builder(options).capacity(16).build();
    let filter = format!("tidegate/{fleet}/device/+/+");
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    for (model, signed) in &attack.directives {
        let mut signed = signed.clone();
        if attack.conduct(&format!("directives/{model}")) == Some(Conduct::Oversized) {
            signed.resize(tidegate_trust::directive::SIZE_MAX + 1, 0);
        }
        let options = PublishOptions::at_least_once().retain(true);
        let topic = Topic::Directive(model.clone()).name(&fleet);
        client.publish(topic, signed, options).await.unwrap();
    }
    let (sender, said) = mpsc::unbounded_channel();
    let mut open = 1 + attack.directives.len();
    while open > 0 {
        let event = events.poll().await.unwrap();
        if let Event::Incoming(Packet::SubAck(_) | Packet::PubAck(_)) = event {
            open -= 1;
        }
    }
    let task = tokio::spawn(async move {
        let _client = client;
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                let name = String::from_utf8(publish.topic.to_vec()).unwrap();
                let topic = Topic::parse(&fleet, &name).expect("a topic of ours");
                let _ = sender.send((topic, publish.payload.to_vec()));
            }
        }
    });
    (said, task)
}
