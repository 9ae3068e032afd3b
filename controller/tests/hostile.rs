//! A device that is in, with a valid certificate, and means harm: against a controller that runs as a
//! process, over TLS, with nothing between the wire and it but an MQTT client.
//!
//! By name: *own-topics-only* (it neither says nor hears anything in another's name), *others-go-on*
//! (while it floods, what others report is acknowledged), *flat-memory* (what it sends is not kept),
//! *counted-by-reason* (everything that was refused is counted, under its reason, exactly).

mod newcomer;
mod world;

use std::io::Write;
use std::time::Instant;

use newcomer::Member;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::{AsyncClient, Event, MqttOptions, PublishOptions};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::report::{Ack, Body, Report, Status, Transition};
use tidegate_wire::topic::{Topic, device_subscriptions};
use tidegate_wire::{DeviceId, Generation, Labels, State, codec};
use tokio::sync::{mpsc, watch};
use world::{PATIENCE, World, fleet_id};

/// What 10,000 malformed reports may leave in the controller's memory: less than the reports
/// themselves have, and room for what an allocator keeps back.
const KEPT_MAX: u64 = 4 << 20;

const MALFORMED: u64 = 10_000;

/// A session that is polled by a task of its own.
struct Session {
    id: DeviceId,
    client: AsyncClient,
    /// Every packet but acknowledgements that say success.
    packets: mpsc::UnboundedReceiver<Result<Packet, String>>,
    /// How many publications were acknowledged with success.
    taken: watch::Receiver<u64>,
}

impl Session {
    /// A device's own session.
    fn of(world: &World, device: &Member) -> Self {
        Self::open(device.id.clone(), device.mqtt(&world.broker.to_string()))
    }

    fn open(id: DeviceId, mut options: MqttOptions) -> Self {
        options.set_max_packet_size(Some(Report::SIZE_MAX as u32 + 1024));
        let (client, mut events) = AsyncClient::builder(options).capacity(256).build();
        let (sender, packets) = mpsc::unbounded_channel();
        let (count, taken) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let packet = match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(ack)))
                        if ack.reason != PubAckReason::NotAuthorized =>
                    {
                        count.send_modify(|count| *count += 1);
                        continue;
                    }
                    Ok(Event::Incoming(packet)) => Ok(packet),
                    Ok(_) => continue,
                    Err(error) => Err(error.to_string()),
                };
                let ended = packet.is_err();
                if sender.send(packet).is_err() || ended {
                    return;
                }
            }
        });
        Self { id, client, packets, taken }
    }

    async fn next(&mut self) -> Result<Packet, String> {
        let next = tokio::time::timeout(PATIENCE, self.packets.recv()).await;
        next.expect("nothing came").unwrap_or_else(|| Err("the session is over".into()))
    }

    /// Waits for a packet that `which` takes.
    async fn wait<T>(&mut self, which: impl Fn(&Packet) -> Option<T>) -> T {
        loop {
            if let Some(found) = which(&self.next().await.unwrap()) {
                return found;
            }
        }
    }

    async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        self.wait(|packet| match packet {
            Packet::SubAck(ack) => Some(ack.return_codes[0]),
            _ => None,
        })
        .await
    }

    /// Subscribes to everything that is meant for it.
    async fn listen(&mut self) {
        for filter in device_subscriptions(&fleet_id(), &self.id) {
            let code = self.subscribe(&filter).await;
            assert!(matches!(code, SubscribeReasonCode::Success(_)), "{filter}: {code:?}");
        }
    }

    async fn publish(&self, topic: &str, bytes: Vec<u8>) {
        let options = PublishOptions::at_least_once();
        self.client.publish(topic, bytes, options).await.unwrap();
    }

    /// Reports, and waits until the controller has stored it.
    async fn report(&mut self, seq: u64) {
        let (topic, report) = (Topic::Report(self.id.clone()), report(self.id.as_str(), seq));
        self.publish(&topic.name(&fleet_id()), envelope::seal(&report)).await;
        let mine = Topic::Ack(self.id.clone()).name(&fleet_id());
        self.wait(|packet| match packet {
            Packet::Publish(publish) if publish.topic == mine.as_bytes() => {
                let ack: Ack = envelope::open(&publish.payload).unwrap();
                ack.seqs.iter().any(|(first, last)| (*first..=*last).contains(&seq)).then_some(())
            }
            _ => None,
        })
        .await;
    }

    /// Waits until the broker has taken so many publications.
    async fn all_taken(&mut self, count: u64) {
        let taken = self.taken.wait_for(|taken| *taken >= count);
        tokio::time::timeout(PATIENCE, taken).await.expect("the broker does not take it").unwrap();
    }
}

fn report(device: &str, seq: u64) -> Report {
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
        spool: 7,
        seq,
        oldest: 0,
        dropped: 0,
        at: 1_800_000_000,
        body: Body::Transition(transition),
    }
}

fn status(device: &str) -> Status {
    Status {
        device: device.parse().unwrap(),
        agent: "0.1.0".into(),
        online: true,
        instance: 1,
        labels: Labels::new(),
        models: vec![],
        refused: vec![],
        api: "10.6.6.6:666".into(),
        spooled: 0,
        dropped: 0,
    }
}

/// *own-topics-only*, *counted-by-reason*
#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_and_hears_only_for_itself() {
    let world = World::start(0).await;
    let (victim, mallory) = (world.join("pi-1").await, world.join("mallory").await);
    let mut honest = Session::of(&world, &victim);
    honest.listen().await;
    honest.report(0).await;

    let mut hostile = Session::of(&world, &mallory);
    let foreign = |topic: Topic| topic.name(&fleet_id());
    let topics = [
        foreign(Topic::Report(victim.id.clone())),
        foreign(Topic::Status(victim.id.clone())),
        foreign(Topic::Ack(victim.id.clone())),
        foreign(Topic::Ack(mallory.id.clone())),
        foreign(Topic::Directive("digits".parse().unwrap())),
        foreign(Topic::Timestamp),
        "tidegate/other/device/mallory/report".into(),
        "anything".into(),
    ];
    for topic in &topics {
        hostile.publish(topic, envelope::seal(&report("pi-1", 1))).await;
        let refused = |packet: &Packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        };
        assert_eq!(hostile.wait(refused).await, PubAckReason::NotAuthorized, "{topic}");
    }
    world.counts("broker", "publish", topics.len() as u64).await;

    let filters = [
        "#".to_owned(),
        "+/#".into(),
        "tidegate/#".into(),
        "tidegate/plant/device/+/ack".into(),
        "tidegate/plant/device/+/report".into(),
        foreign(Topic::Ack(victim.id.clone())),
        "$share/controllers/tidegate/plant/device/+/report".into(),
        "$share/mine/tidegate/plant/timestamp".into(),
        "$SYS/#".into(),
    ];
    for filter in &filters {
        let code = hostile.subscribe(filter).await;
        assert!(!matches!(code, SubscribeReasonCode::Success(_)), "{filter}: {code:?}");
    }
    world.counts("broker", "subscribe", filters.len() as u64).await;

    // What it may say, it may not say in another's name.
    let own = [Topic::Report(mallory.id.clone()), Topic::Status(mallory.id.clone())];
    hostile.publish(&foreign(own[0].clone()), envelope::seal(&report("pi-1", 1))).await;
    hostile.publish(&foreign(own[1].clone()), envelope::seal(&status("pi-1"))).await;
    world.counts("ingest", "wrong-device", 2).await;

    honest.report(1).await;
    let shown = world.client.device(&victim.id).await.unwrap();
    assert_eq!((shown.reports.received, shown.rejected), (2, vec![]));
    assert_ne!(shown.summary.api, "10.6.6.6:666");
    let shown = world.client.device(&mallory.id).await.unwrap();
    let counted: Vec<(&str, &str, u64)> =
        shown.rejected.iter().map(|one| (&*one.place, &*one.reason, one.count)).collect();
    let expected = [
        ("ingest", "wrong-device", 2),
        ("broker", "publish", topics.len() as u64),
        ("broker", "subscribe", filters.len() as u64),
    ];
    assert_eq!(counted, expected);
}

/// *own-topics-only*: neither another's name at the door, nor a last will for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_does_not_come_in_as_another() {
    let world = World::start(0).await;
    let (victim, mallory) = (world.join("pi-1").await, world.join("mallory").await);
    let mut honest = Session::of(&world, &victim);
    honest.listen().await;
    let broker = world.broker.to_string();
    // More often than brokers take before they lock an address out: all come from the door's.
    for _ in 0..3 {
        for (id, user) in [
            ("pi-1", "pi-1"),
            ("mallory", "pi-1"),
            ("pi-1", "mallory"),
            ("-controller", "-controller"),
        ] {
            let mut hostile = Session::open(victim.id.clone(), mallory.mqtt_as(&broker, id, user));
            let refused = hostile.next().await;
            assert!(refused.is_err(), "{id} {user}: {refused:?}");
        }
    }
    world.counts("broker", "identity", 6).await;
    world.counts("broker", "credentials", 6).await;
    // The victim's session was not taken over.
    honest.report(0).await;

    let mut options = mallory.mqtt(&broker);
    let topic = Topic::Status(victim.id.clone()).name(&fleet_id());
    options.set_last_will(LastWill::new(
        topic,
        envelope::seal(&status("pi-1")),
        QoS::AtLeastOnce,
        true,
        None,
    ));
    let mut hostile = Session::open(mallory.id.clone(), options);
    hostile.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    // Another session of the same device takes this one over, which is no goodbye: its will is due.
    let mut second = Session::of(&world, &mallory);
    second.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    second.listen().await;
    world.counts("broker", "publish", 1).await;
    let shown = world.client.device(&victim.id).await.unwrap();
    assert_ne!(shown.summary.api, "10.6.6.6:666");
}

/// SplitMix64: the same bytes in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.roll(256) as u8).collect()
    }
}

/// The n-th malformed report, and the reason for which it is refused.
fn malformed(n: u64, dice: &mut Dice) -> (Vec<u8>, &'static str) {
    let good = report("mallory", n);
    let sealed = envelope::seal(&good);
    let cut = 1 + dice.roll(sealed.len() as u64 - 1) as usize;
    if n % 1000 == 999 {
        return (vec![0; Report::SIZE_MAX + 1], "too-large");
    }
    match n % 12 {
        0 => (dice.bytes(1 + n % 300), "malformed"),
        1 => (sealed[..cut].to_vec(), "malformed"),
        2 => ([&sealed[..], &[0]].concat(), "malformed"),
        3 => (envelope::seal(&report("pi-1", n)), "wrong-device"),
        4 => (codec::encode(&(2, Report::KIND, &good)), "unsupported-version"),
        5 => (envelope::seal(&Ack { spool: 7, seqs: vec![(0, n)] }), "wrong-kind"),
        // An array, a string and bytes that claim to be longer than the machine's memory.
        6 => ([&[0x9b][..], &u64::MAX.to_be_bytes(), b"x"].concat(), "malformed"),
        7 => ([&[0x83, 0x01, 0x7b][..], &(1_u64 << 40).to_be_bytes(), b"x"].concat(), "malformed"),
        8 => (vec![0x81; 20_000.min(1000 + n as usize)], "malformed"),
        9 => (envelope::seal(&Report { oldest: n + 1, ..good }), "impossible-numbers"),
        10 => {
            let fleet = "another".parse().unwrap();
            (envelope::seal(&Report { fleet, ..good }), "wrong-fleet")
        }
        _ => (Vec::new(), "malformed"),
    }
}

/// *flat-memory*, *others-go-on*, *counted-by-reason*
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_malformed_reports_cost_nothing_and_are_counted() {
    let world = World::start(0).await;
    let (victim, mallory) = (world.join("pi-1").await, world.join("mallory").await);
    let mut honest = Session::of(&world, &victim);
    honest.listen().await;
    let mut hostile = Session::of(&world, &mallory);
    let topic = Topic::Report(mallory.id.clone()).name(&fleet_id());
    let (mut dice, mut expected) = (Dice(1), std::collections::BTreeMap::<&str, u64>::new());
    // Twice, so that what grows once (buffers, an allocator's arenas) is there before it is measured.
    let mut before = 0;
    for round in 0..2 {
        for n in 0..MALFORMED {
            let (bytes, reason) = malformed(n, &mut dice);
            hostile.publish(&topic, bytes).await;
            *expected.entry(reason).or_default() += 1;
            if n % 500 == 0 {
                honest.report(round * MALFORMED + n).await;
            }
        }
        hostile.all_taken((round + 1) * MALFORMED).await;
        for (reason, count) in &expected {
            world.counts("ingest", reason, *count).await;
        }
        match round {
            0 => before = world.memory(),
            _ => {
                let after = world.memory();
                assert!(after < before + KEPT_MAX, "from {before} to {after} bytes");
            }
        }
    }
    assert_eq!(expected.values().sum::<u64>(), 2 * MALFORMED);
    assert_eq!(expected.len(), 7, "{expected:?}");
    let shown = world.client.device(&mallory.id).await.unwrap();
    assert_eq!((shown.reports.received, shown.reports.refused), (0, 2 * MALFORMED));
    let shown = world.client.device(&victim.id).await.unwrap();
    assert_eq!((shown.reports.received, shown.reports.refused), (40, 0));
}

/// *others-go-on*: the flood gets no more through than the limit, and others' reports are
/// acknowledged meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_slowed_down_and_others_go_on() {
    const KIB_PER_SECOND: u64 = 32;
    let world = World::start(KIB_PER_SECOND as u32).await;
    let (victim, mallory) = (world.join("pi-1").await, world.join("mallory").await);
    let mut honest = Session::of(&world, &victim);
    honest.listen().await;
    honest.report(0).await;
    let hostile = Session::of(&world, &mallory);
    let (client, topic) = (hostile.client.clone(), Topic::Report(mallory.id.clone()));
    let size = 8 * 1024;
    let started = Instant::now();
    let flood = tokio::spawn(async move {
        let (topic, options) = (topic.name(&fleet_id()), PublishOptions::at_least_once());
        while client.publish(topic.clone(), vec![0; size], options.clone()).await.is_ok() {}
    });
    for seq in 1..=40 {
        honest.report(seq).await;
    }
    // Four seconds' worth may come at once, and a chunk of the door's is taken before it is counted.
    let refused = world.rejected("ingest", "malformed").await;
    let seconds = started.elapsed().as_secs() + 1 + 4;
    let most = (seconds * KIB_PER_SECOND * 1024 + 16 * 1024) / size as u64 + 1;
    assert!(!flood.is_finished(), "it floods still");
    flood.abort();
    assert!(refused <= most, "{refused} messages came through in {seconds} s, not {most}");
    assert!(refused > 0, "nothing came through");
    let shown = world.client.device(&victim.id).await.unwrap();
    assert_eq!((shown.reports.received, shown.reports.refused), (41, 0));
}

/// Connections that never finish their handshake take up only so much room.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_finish_do_not_keep_others_out() {
    // More than one address may have.
    const CONNECTIONS: usize = 560;
    let world = World::start(0).await;
    let victim = world.join("pi-1").await;
    let before = world.rejected("door", "crowded").await;
    let mut held = Vec::new();
    for n in 0..CONNECTIONS {
        for port in [world.broker.port(), world.http.port()] {
            // Half of them as if a handshake began.
            let beginning: &[u8] = if n % 2 == 0 { b"" } else { b"\x16\x03\x01\x02\x00\x01\x00" };
            held.push(attack(port, beginning).await);
        }
    }
    world.more_than("door", "crowded", before).await;
    let late = world.join("pi-2").await;
    for device in [&victim, &late] {
        let mut session = Session::of(&world, device);
        session.listen().await;
        session.report(0).await;
    }
    drop(held);
}

/// A connection from another address of this machine that says no more than this. None if the
/// controller does not take it.
async fn attack(port: u16, beginning: &[u8]) -> Option<std::net::TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await.ok()?;
    let mut stream = stream.into_std().unwrap();
    stream.write_all(beginning).ok()?;
    Some(stream)
}
