//! Reports per second through the front door and the embedded broker into telemetry, acknowledged: the
//! whole way from a device's publish over TLS to the controller's flushed commit and back.
//!
//! `cargo bench -p tidegate-controller --bench ingest`

#[path = "../tests/newcomer/mod.rs"]
mod newcomer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, PublishOptions};
use tidegate_controller::api::types::DeviceTokenRequest;
use tidegate_controller::cli::trust;
use tidegate_controller::client::Client;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};
use tidegate_drift::{LatencySummary, NumericReference, NumericSummary, OutputSummary};
use tidegate_wire::envelope;
use tidegate_wire::invitation::{Invitation, Pass};
use tidegate_wire::report::{Ack, Body, Report, Transition, Window};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Digest, FleetId, Generation, State};
use tokio::sync::Semaphore;

use newcomer::{Member, Newcomer};

/// Devices that report at once.
const DEVICES: u64 = 16;

/// Reports of one device that wait for their acknowledgement: a broker may drop what its queue for
/// the controller (10,000 messages) cannot hold.
const OPEN_MAX: usize = 256;

/// What is measured: short reports, and windows of the digits model with its 64 features.
const ROUNDS: [Round; 2] =
    [("transition", 4_000, transition), ("window of 64 features", 1_500, window)];

/// Name, reports of each device, and what they say.
type Round = (&'static str, u64, fn() -> Body);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let dir = tempfile::tempdir().unwrap();
    let (data, keys) = (dir.path().join("data"), dir.path().join("keys"));
    let founded = trust::initialise(&data, "bench".parse().unwrap(), &keys).unwrap();
    let loopback = ([127, 0, 0, 1], 0).into();
    let broker = BrokerConfig::Embedded { listen: loopback };
    let mut config = ServeConfig::new(data, loopback, broker);
    config.door.device_kib_per_second_max = 0;
    let server = Server::start(config).await.unwrap();
    server.connected().await;
    let controller = server.url().to_owned();
    let client = Client::new(&Pass { controller, ..founded.pass }).unwrap();
    let devices = enrol(&client).await;
    for (spool, (name, count, body)) in ROUNDS.into_iter().enumerate() {
        let started = Instant::now();
        let mut sending = Vec::new();
        for device in devices.clone() {
            sending.push(tokio::spawn(
                async move { send(&device, spool as u64, count, body()).await },
            ));
        }
        let mut bytes = 0;
        for device in sending {
            bytes = device.await.unwrap();
        }
        let (total, elapsed) = (DEVICES * count, started.elapsed());
        let rate = total as f64 / elapsed.as_secs_f64();
        println!("{name}: {total} reports of {bytes} bytes in {elapsed:.2?}, {rate:.0}/s");
    }
    let reports = client.fleet().await.unwrap().reports;
    println!("received {}, duplicates {}", reports.received, reports.duplicates);
    server.stop().await;
}

async fn enrol(client: &Client) -> Vec<Member> {
    let labels = Default::default();
    let why = "a benchmark".to_owned();
    let wish = DeviceTokenRequest { labels, uses: DEVICES as u32, expires_seconds: 60, why };
    let token = client.device_token(&wish).await.unwrap().token;
    let invitation: Invitation = token.parse().unwrap();
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        devices.push(Newcomer::new(&format!("device-{n}")).join(&invitation).await);
    }
    devices
}

/// Sends `count` reports and waits until every one is acknowledged. Returns the size of one.
async fn send(device: &Member, spool: u64, count: u64, body: Body) -> usize {
    let fleet: FleetId = "bench".parse().unwrap();
    let mut options = device.mqtt(&device.answer.broker);
    options.set_max_packet_size(Some(1 << 20));
    let (client, mut events) = AsyncClient::builder(options).capacity(256).build();
    let (device, publisher, name) = (device.id.clone(), client.clone(), fleet.clone());
    // Nothing is sent before the subscription stands, or the first acknowledgement may be missed.
    let open = Arc::new(Semaphore::new(0));
    let room = Arc::clone(&open);
    let sender = tokio::spawn(async move {
        let ack = Topic::Ack(device.clone()).name(&name);
        publisher.subscribe(ack, QoS::AtLeastOnce).await.unwrap();
        let topic = Topic::Report(device.clone()).name(&name);
        let mut report =
            Report { fleet: name, device, spool, seq: 0, oldest: 0, dropped: 0, at: 1, body };
        let mut length = 0;
        for seq in 0..count {
            room.acquire().await.unwrap().forget();
            (report.seq, report.oldest) = (seq, seq.saturating_sub(500));
            let bytes = envelope::seal(&report);
            length = bytes.len();
            publisher.publish(topic.clone(), bytes, PublishOptions::at_least_once()).await.unwrap();
        }
        length
    });
    let mut acknowledged = 0;
    while acknowledged < count {
        let polled = tokio::time::timeout(Duration::from_secs(60), events.poll()).await;
        match polled.expect("no answer").unwrap() {
            Event::Incoming(Packet::SubAck(_)) => open.add_permits(OPEN_MAX),
            Event::Incoming(Packet::Publish(publish)) => {
                let ack: Ack = envelope::open(&publish.payload).unwrap();
                let seqs = ack.seqs.iter().map(|(first, last)| last - first + 1).sum::<u64>();
                open.add_permits(seqs as usize);
                acknowledged += seqs;
            }
            _ => {}
        }
    }
    sender.await.unwrap()
}

fn transition() -> Body {
    Body::Transition(Transition {
        model: "digits".parse().unwrap(),
        generation: Generation(1),
        artifact: None,
        state: State::Idle,
        active: None,
        reason: None,
        detail: String::new(),
    })
}

fn window() -> Body {
    let mut sample: Vec<f32> = (0..500).map(|n| (n * 13 % 500) as f32 * 0.032).collect();
    let reference = NumericReference::from_sample(&mut sample, None, 64, &Default::default());
    let reference = reference.unwrap();
    let mut feature = NumericSummary::default();
    let (mut outputs, mut latency) = (OutputSummary::new(10), LatencySummary::with_floor(0));
    for n in 0..50_u32 {
        feature.observe(&reference, n as f32 * 0.3);
        let mut probabilities = [0.01; 10];
        probabilities[n as usize % 10] = 0.91;
        outputs.observe(&probabilities);
        latency.observe(3 + n);
    }
    let digest = Digest::of(b"digits");
    Body::Window(Window {
        model: "digits".parse().unwrap(),
        artifact: ArtifactRef { digest, version: "1.0.0".parse().unwrap() },
        boot: 1,
        window: 1,
        opened: 1,
        closed: 2,
        rows: 50,
        errors: 0,
        reference: Some(digest),
        features: vec![feature; 64],
        outputs: Some(outputs),
        latency,
        bad_inputs: 0,
        humility: Default::default(),
        feedback: None,
    })
}
