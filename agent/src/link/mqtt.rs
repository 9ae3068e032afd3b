//! The real link: MQTT 5 over TLS, with a session that outlives the connection.
//!
//! One task polls the event loop and does nothing that could wait on it; whoever publishes does so
//! from another task. Connection losses, refusals and lost sessions all end in the same loop: wait,
//! connect, subscribe anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, DisconnectReasonCode, Event, EventLoop,
    LastWill, MqttOptions, Packet, PublishOptions, StateError, SubscribeFilter,
    SubscribeReasonCode,
};
use tidegate_wire::topic::{self, Topic};
use tidegate_wire::{DeviceId, FleetId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::farewell::LastWord;
use super::transport::{CurrentDoor, server_name, split_address};
use super::{Busy, Door, Keep, LinkEvent, Uplink};
use crate::clock::Backoff;
use crate::tls;

/// Publications without the broker's acknowledgement at a time. The client reserves memory for all
/// it might have: 64 take 2 MB less than the protocol's 65,535 take 14.
const IN_FLIGHT_MAX: u16 = 64;
/// Seconds between pings: a NAT forgets a quiet connection after some thirty.
const KEEP_ALIVE_SECONDS: u16 = 20;
/// Seconds that the broker keeps the session of a device that is away: a long weekend and more.
const SESSION_SECONDS: u32 = 7 * 24 * 3600;
/// The largest packet: a signed directive with its envelope and topic, or a report.
const PACKET_MAX: u32 = 256 * 1024;
/// First and longest wait between two connections.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How long to stay away after another agent took the session, so that two with one id do not push
/// each other out all the time.
const TAKEN_OVER_WAIT: Duration = Duration::from_secs(30);
/// A connection that lived for so long was a good one: only then do waits begin anew. Two agents with
/// one id, or a broker that lets in and throws out, would make a storm otherwise.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);
/// Connections that broke off soon after they came about, in a row, before that is called suspicious.
const SHORT_LIVED_MAX: u32 = 3;
/// How long saying goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct MqttConfig {
    /// The broker, and how to get in.
    pub door: Door,
    /// The fleet.
    pub fleet: FleetId,
    /// The device, which is also client id and user name. Its certificate is for it.
    pub device: DeviceId,
    /// The retained status that the broker publishes when the device is gone.
    pub last_will: Vec<u8>,
}

/// The broker's address cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the controller gave the broker address {0:?}, which is not `host:port`")]
pub struct BadBroker(pub String);

/// The running link.
#[derive(Debug)]
pub struct MqttLink {
    uplink: Arc<MqttUplink>,
    poller: JoinHandle<()>,
}

/// The sending side of an [`MqttLink`].
#[derive(Debug)]
pub struct MqttUplink {
    fleet: FleetId,
    /// None while there is no connection.
    client: Mutex<Option<AsyncClient>>,
    door: CurrentDoor,
    /// The goodbye that comes is said to come back through another door.
    comes_back: AtomicBool,
}

impl MqttLink {
    /// Starts the link; it connects, and reconnects, until [`MqttLink::close`]. Events go to
    /// `events`; while nobody takes them, the broker has to wait.
    ///
    /// # Errors
    /// [`BadBroker`].
    pub fn start(config: MqttConfig, events: mpsc::Sender<LinkEvent>) -> Result<Self, BadBroker> {
        // Said now, not at each connection.
        server_name(&config.door.broker)?;
        let last_word = LastWord::default();
        let MqttConfig { door, fleet, device, last_will } = config;
        let door = CurrentDoor::new(door);
        let uplink = MqttUplink {
            fleet: fleet.clone(),
            client: Mutex::default(),
            door: door.clone(),
            comes_back: AtomicBool::new(false),
        };
        let uplink = Arc::new(uplink);
        let poller = Poller {
            door,
            fleet,
            device,
            last_will,
            uplink: Arc::clone(&uplink),
            events,
            last_word,
        };
        Ok(Self { uplink, poller: tokio::spawn(poller.run()) })
    }

    /// The sending side.
    pub fn uplink(&self) -> Arc<MqttUplink> {
        Arc::clone(&self.uplink)
    }

    /// Sends what was handed over, says goodbye and ends. The will is not published.
    pub async fn close(mut self) {
        self.uplink.comes_back.store(false, Ordering::Relaxed);
        let client = self.uplink.client().clone();
        if let Some(client) = client
            && client.try_disconnect_with_timeout(GOODBYE_MAX).is_ok()
            && tokio::time::timeout(GOODBYE_MAX, &mut self.poller).await.is_ok()
        {
            return;
        }
        self.poller.abort();
    }
}

impl MqttUplink {
    /// Connects through this door from now on. If there is a connection, it sends what was handed over,
    /// says goodbye and begins anew; nothing is lost by that.
    ///
    /// # Errors
    /// [`BadBroker`]; nothing changed then.
    pub fn replace_door(&self, door: Door) -> Result<(), BadBroker> {
        server_name(&door.broker)?;
        self.door.replace(door);
        let client = self.client().clone();
        if let Some(client) = client {
            self.comes_back.store(true, Ordering::Relaxed);
            // If there is no room for it, the connection lives on with the old certificate.
            let _ = client.try_disconnect_with_timeout(GOODBYE_MAX);
        }
        Ok(())
    }

    fn client(&self) -> std::sync::MutexGuard<'_, Option<AsyncClient>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uplink for MqttUplink {
    fn try_publish(&self, topic: &Topic, payload: Vec<u8>, keep: Keep) -> Result<(), Busy> {
        let client = self.client();
        let client = client.as_ref().ok_or(Busy)?;
        let options = PublishOptions::at_least_once().retain(keep == Keep::Retain);
        client.try_publish(topic.name(&self.fleet), payload, options).map_err(|_| Busy)
    }
}

/// How a connection ended.
enum End {
    /// We said goodbye.
    Closed,
    /// It can be taken up again.
    Lost { why: String },
    /// The client's own state is in the way: it has to be made anew.
    Stuck { why: String },
    /// Another agent has our id.
    TakenOver,
}

struct Poller {
    door: CurrentDoor,
    fleet: FleetId,
    device: DeviceId,
    last_will: Vec<u8>,
    uplink: Arc<MqttUplink>,
    events: mpsc::Sender<LinkEvent>,
    last_word: LastWord,
}

impl Poller {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut short_lived = 0;
        let (mut client, mut eventloop) = self.connect_anew();
        loop {
            let mut up_since = None;
            let end = self.one_connection(&client, &mut eventloop, &mut up_since).await;
            *self.uplink.client() = None;
            match up_since.map(|since: Instant| since.elapsed() >= GOOD_CONNECTION) {
                Some(true) => {
                    backoff.reset();
                    short_lived = 0;
                }
                Some(false) => short_lived += 1,
                None => {}
            }
            let device = &self.device;
            if short_lived == SHORT_LIVED_MAX {
                tracing::warn!(
                    "the link broke off {short_lived} times soon after it came up: perhaps another \
                     agent uses the device id {device}"
                );
            }
            let comes_back = self.uplink.comes_back.swap(false, Ordering::Relaxed);
            let wait = match &end {
                End::Closed if comes_back => Duration::ZERO,
                End::Closed => return,
                End::TakenOver => {
                    tracing::error!(
                        "another agent uses the device id {device}; this one stays away for {} s. \
                         Give one of the two another id",
                        TAKEN_OVER_WAIT.as_secs()
                    );
                    TAKEN_OVER_WAIT
                }
                End::Lost { .. } | End::Stuck { .. } => backoff.next_wait(),
            };
            if matches!(end, End::Stuck { .. } | End::Closed) {
                (client, eventloop) = self.connect_anew();
            }
            let event = match end {
                End::Closed => {
                    tracing::info!("connecting to the broker again, with a new certificate");
                    LinkEvent::Down { why: "a new certificate".to_string() }
                }
                End::Lost { why } | End::Stuck { why } => {
                    let (broker, seconds) = (self.door.get().broker, wait.as_secs_f32());
                    tracing::warn!(
                        "no link to the broker {broker}: {why}; again in {seconds:.1} s"
                    );
                    LinkEvent::Down { why }
                }
                End::TakenOver => LinkEvent::TakenOver,
            };
            if self.events.send(event).await.is_err() {
                return;
            }
            // A new certificate may be what was missing.
            let _ = tokio::time::timeout(wait, self.door.changed()).await;
        }
    }

    fn connect_anew(&self) -> (AsyncClient, EventLoop) {
        let capacity = usize::from(IN_FLIGHT_MAX);
        AsyncClient::builder(self.options()).capacity(capacity).build()
    }

    fn options(&self) -> MqttOptions {
        let (broker, device) = (self.door.get().broker, self.device.as_str());
        let (host, port) = split_address(&broker).expect("a door is checked before it is kept");
        let mut options = MqttOptions::new(device, (host, port));
        let topic = Topic::Status(self.device.clone()).name(&self.fleet);
        let will = LastWill::new(topic, self.last_will.clone(), QoS::AtLeastOnce, true, None);
        let (door, last_word) = (self.door.clone(), self.last_word.clone());
        options
            .set_keep_alive(KEEP_ALIVE_SECONDS)
            // The certificate is what lets the device in; the name says as whom.
            .set_username(device)
            // The first connection of a process begins a session: the broker may have one from before,
            // of which the client knows nothing, and it would then send nothing in it. No message is
            // lost by that: directives are retained, and reports are in our spool until acknowledged.
            // Every later connection resumes it, see `one_connection`.
            .set_clean_start(true)
            .set_session_expiry_interval(Some(SESSION_SECONDS))
            .set_max_packet_size(Some(PACKET_MAX))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX)
            .set_connect_timeout(Duration::from_secs(10))
            .set_last_will(will)
            .set_socket_connector(move |address, network| {
                door.clone().connect(address, network, last_word.clone())
            });
        options
    }

    /// Polls until the connection is lost.
    async fn one_connection(
        &self,
        client: &AsyncClient,
        eventloop: &mut EventLoop,
        up_since: &mut Option<Instant>,
    ) -> End {
        loop {
            let event = match eventloop.poll().await {
                Ok(Event::Incoming(packet)) => packet,
                Ok(_) => continue,
                Err(_) if self.last_word.was_taken_over() => return End::TakenOver,
                Err(error) => return end_of(error),
            };
            let event = match event {
                Packet::ConnAck(_) => {
                    eventloop.options.set_clean_start(false);
                    if self.subscribe(client).is_err() {
                        let why = "the subscriptions found no room".to_string();
                        return End::Stuck { why };
                    }
                    *self.uplink.client() = Some(client.clone());
                    *up_since = Some(Instant::now());
                    LinkEvent::Up
                }
                Packet::SubAck(ack) => {
                    self.check(&ack.return_codes);
                    continue;
                }
                Packet::Publish(publish) => {
                    let name = std::str::from_utf8(&publish.topic).unwrap_or_default();
                    match Topic::parse(&self.fleet, name) {
                        Some(topic) => {
                            LinkEvent::Message { topic, payload: publish.payload.to_vec() }
                        }
                        None => continue,
                    }
                }
                Packet::Disconnect(disconnect)
                    if disconnect.reason_code == DisconnectReasonCode::SessionTakenOver =>
                {
                    return End::TakenOver;
                }
                _ => continue,
            };
            if self.events.send(event).await.is_err() {
                return End::Closed;
            }
        }
    }

    /// Asks for all topics, whether or not the broker says that it still knows the session: a
    /// broker that lost it must not leave us deaf. Retained messages come again, which is how a
    /// device learns what changed while it was away.
    fn subscribe(&self, client: &AsyncClient) -> Result<(), rumqttc::ClientError> {
        let filters = topic::device_subscriptions(&self.fleet, &self.device);
        let filters = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
        client.try_subscribe_many(filters)
    }

    fn check(&self, codes: &[SubscribeReasonCode]) {
        let filters = topic::device_subscriptions(&self.fleet, &self.device);
        for (filter, code) in filters.iter().zip(codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                tracing::error!(
                    "the broker refuses the topic {filter} ({code:?}): check its access rules for \
                     device {}",
                    self.device
                );
            }
        }
    }
}

fn end_of(error: ConnectionError) -> End {
    match error {
        ConnectionError::RequestsDone => End::Closed,
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => End::TakenOver,
        // Polling on would meet the same collision, or the same mismatch, for ever.
        ConnectionError::MqttState(StateError::CollisionTimeout)
        | ConnectionError::SessionStateMismatch { .. }
        | ConnectionError::SessionRestore(_)
        | ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { .. }) => {
            End::Stuck { why: error.to_string() }
        }
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword),
        ) => {
            let why = format!(
                "it does not let this device in ({code:?}): was it removed from the fleet, or \
                 shut out?"
            );
            End::Lost { why }
        }
        other => End::Lost { why: why(&other) },
    }
}

/// Why a connection was lost, for people.
fn why(error: &ConnectionError) -> String {
    let cause: &(dyn std::error::Error + 'static) = match error {
        // It does not name its source.
        ConnectionError::MqttState(StateError::Deserialization(cause)) => cause,
        other => other,
    };
    let told = tls::explain(cause).or_else(|| tls::hung_up(cause));
    told.unwrap_or_else(|| error.to_string())
}
