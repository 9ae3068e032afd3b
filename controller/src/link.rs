//! The controller's own session at the broker, embedded or external.
//!
//! On every connection it subscribes and announces everything that is retained anew, so a broker
//! that lost its memory has it back. A broken connection is thrown away with all that was queued for
//! it: what was announced is announced again, and what was not acknowledged is reported again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, Publish, SubscribeReasonCode};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, PublishOptions, TlsConfiguration, Transport,
};
use tidegate_control::announce::{Owed, Sending};
use tidegate_control::hearing::Hearing;
use tidegate_wire::FleetId;
use tidegate_wire::envelope::Message;
use tidegate_wire::report::Report;
use tidegate_wire::topic::{Topic, controller_subscriptions};
use tokio::sync::{mpsc, watch};

use crate::authority::AuthorityError;
use crate::broker::{Broker, CONTROLLER, Credential};
use crate::clock;
use crate::external::External;

/// Outgoing messages that may wait: acknowledgements of 16 thousand devices.
const QUEUE_MAX: usize = 16 * 1024;

/// Outgoing messages under way; the client sets memory aside for each.
const INFLIGHT_MAX: u16 = 256;

/// Seconds without traffic after which the session is checked.
const KEEP_ALIVE_SECONDS: u16 = 20;

/// The first and the longest pause between attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Where the broker is, and as whom the controller comes.
#[derive(Clone)]
pub enum Target {
    /// The one in this process, which is spoken to without TLS: nothing leaves the machine.
    Embedded(Arc<Broker>, Credential),
    /// One elsewhere, which knows the controller by its certificate.
    External {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// Whom to believe, and what to show.
        external: Arc<External>,
    },
}

/// Sends to the fleet.
#[derive(Clone)]
pub struct Link {
    fleet: FleetId,
    client: Arc<Mutex<Option<AsyncClient>>>,
    connected: watch::Sender<bool>,
    announcing: Arc<Mutex<Owed>>,
    hearing: Arc<Mutex<Hearing>>,
}

/// What everybody must know, whenever it is asked for.
pub trait Announcements: Send + Sync + 'static {
    /// Topics with what is retained on them.
    fn retained(&self) -> Vec<(Topic, Vec<u8>)>;
}

impl Link {
    /// A link that is not connected yet; [`Link::run`] connects it.
    pub fn new(fleet: FleetId) -> Self {
        let (client, announcing, hearing) = Default::default();
        Self { fleet, client, connected: watch::Sender::new(false), announcing, hearing }
    }

    /// Sends what is newest, retained.
    ///
    /// `newest` is asked while nobody else announces, so that of two who announce at once the later
    /// one never sends the older directive: devices that were away would follow that one.
    pub fn announce(&self, newest: impl FnOnce() -> Vec<(Topic, Vec<u8>)>) {
        let mut owed = self.announcing();
        for (topic, bytes) in newest() {
            owed.note(self.send(&topic, bytes, Kept::Retained));
        }
    }

    /// Announces everything again if something could not be sent before.
    pub fn settle(&self, announcements: &dyn Announcements) {
        let owed = self.announcing().settle();
        if owed == Owed::Everything {
            self.announce(|| announcements.retained());
        }
    }

    /// Sends a device's acknowledgement. If it is lost, the device reports again.
    pub fn acknowledge(&self, topic: &Topic, bytes: Vec<u8>) {
        self.send(topic, bytes, Kept::Passing);
    }

    /// Takes a removed device's status from the broker.
    pub fn clear(&self, topic: &Topic) {
        self.send(topic, Vec::new(), Kept::Retained);
    }

    fn announcing(&self) -> MutexGuard<'_, Owed> {
        self.announcing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when devices are heard, Unix milliseconds; now if they are not.
    pub fn heard_since_ms(&self) -> u64 {
        self.hearing().since_ms(clock::now_ms())
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session is up, and every change of it.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Without a connection it does nothing: whatever matters is sent again on the next one.
    fn send(&self, topic: &Topic, bytes: Vec<u8>, kept: Kept) -> Sending {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(client) = client else { return Sending::Taken };
        let options = PublishOptions::at_least_once().retain(matches!(kept, Kept::Retained));
        match client.try_publish(topic.name(&self.fleet), bytes, options) {
            Ok(_) => Sending::Taken,
            Err(error) => {
                tracing::warn!(%error, ?topic, "a message was not sent: the broker is too slow");
                Sending::Refused
            }
        }
    }

    /// Keeps the session up until the receiver of `incoming` is gone, and hands it what arrives.
    pub async fn run(
        self,
        target: Target,
        announcements: Arc<dyn Announcements>,
        incoming: mpsc::Sender<Publish>,
    ) {
        let [mut pause, longest] = PAUSES;
        while !incoming.is_closed() {
            let error = match options(&target) {
                Ok(options) => {
                    let (client, mut events) =
                        AsyncClient::builder(options).capacity(QUEUE_MAX).build();
                    self.session(&client, &mut events, &*announcements, &incoming).await
                }
                Err(error) => error.to_string(),
            };
            self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.hearing().down(clock::now_ms());
            if self.connected.send_replace(false) {
                tracing::warn!(error, "the session at the broker broke off; connecting again");
                pause = PAUSES[0];
            } else {
                tracing::debug!(error, "the broker cannot be reached");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// One session. Returns why it ended.
    async fn session(
        &self,
        client: &AsyncClient,
        events: &mut EventLoop,
        announcements: &dyn Announcements,
        incoming: &mpsc::Sender<Publish>,
    ) -> String {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    for filter in controller_subscriptions(&self.fleet) {
                        if let Err(error) = client.try_subscribe(filter, QoS::AtLeastOnce) {
                            return error.to_string();
                        }
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    let refused = |code: &&SubscribeReasonCode| {
                        !matches!(code, SubscribeReasonCode::Success(_))
                    };
                    if let Some(code) = ack.return_codes.iter().find(refused) {
                        tracing::error!(?code, "the broker refused the controller's subscription");
                        return format!("the broker refused a subscription: {code:?}");
                    }
                    self.up(client, announcements);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if incoming.send(publish).await.is_err() {
                        return "the controller stops".into();
                    }
                }
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }

    fn up(&self, client: &AsyncClient, announcements: &dyn Announcements) {
        let known =
            self.client.lock().unwrap_or_else(PoisonError::into_inner).replace(client.clone());
        if known.is_some() {
            return; // The second subscription of the same session.
        }
        self.announce(|| announcements.retained());
        self.hearing().up(clock::now_ms());
        self.connected.send_replace(true);
        tracing::info!("connected to the broker");
    }
}

#[derive(Clone, Copy)]
enum Kept {
    Retained,
    Passing,
}

fn options(target: &Target) -> Result<MqttOptions, AuthorityError> {
    let mut options = match target {
        Target::Embedded(broker, Credential { username, password }) => {
            let address = broker.address();
            let mut options = new_options(address.ip().to_string(), address.port());
            options.set_credentials(username.clone(), password.clone());
            options
        }
        Target::External { host, port, external } => {
            let mut options = new_options(host.clone(), *port);
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(
                external.tls()?,
            )));
            options
        }
    };
    options.set_keep_alive(KEEP_ALIVE_SECONDS);
    options.set_clean_start(true);
    options.set_max_packet_size(Some(Report::SIZE_MAX as u32 + 1024));
    options.set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
    Ok(options)
}

fn new_options(host: String, port: u16) -> MqttOptions {
    MqttOptions::new(CONTROLLER, (host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let options = new_options("127.0.0.1".into(), 1);
        let (client, _) = AsyncClient::builder(options).capacity(1).build();
        let link = Link::new("plant".parse().unwrap());
        *link.client.lock().unwrap() = Some(client);
        link
    }

    fn owed(link: &Link) -> Owed {
        *link.announcing()
    }

    struct Newest;

    impl Announcements for Newest {
        fn retained(&self) -> Vec<(Topic, Vec<u8>)> {
            vec![(Topic::Timestamp, vec![1]), (Topic::Timestamp, vec![2])]
        }
    }

    #[test]
    fn nobody_announces_between_the_question_what_is_newest_and_its_sending() {
        let link = link();
        link.announce(|| {
            assert!(link.announcing.try_lock().is_err());
            Vec::new()
        });
        assert!(link.announcing.try_lock().is_ok());
    }

    #[test]
    fn what_found_no_room_is_owed_until_everything_was_announced_again() {
        let link = link();
        link.settle(&Newest);
        assert_eq!(owed(&link), Owed::Nothing, "nothing was owed, so nothing is sent");
        link.announce(|| Newest.retained());
        assert_eq!(owed(&link), Owed::Everything, "the second one found no room");
        link.settle(&Newest);
        assert_eq!(owed(&link), Owed::Everything, "there is still no room");
        *link.client.lock().unwrap() = None;
        link.settle(&Newest);
        assert_eq!(owed(&link), Owed::Nothing, "the next connection announces everything");
    }
}
