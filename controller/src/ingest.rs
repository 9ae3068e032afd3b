//! From the broker to telemetry: what devices say is stored in batches, and only then acknowledged.
//! What is taken in is decided in [`tidegate_control::ingest`].
//!
//! Whatever arrives, the stream goes on: what cannot be decoded, or is not what its topic says, is
//! counted by reason and logged once per device.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::mqttbytes::v5::Publish;
use tidegate_control::ingest::{self, Acks, Refused, Said};
use tidegate_wire::{FleetId, envelope};
use tokio::sync::mpsc;

use crate::clock;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::rejections::Rejections;
use crate::telemetry::Telemetry;

/// The most messages of one commit: enough to share the cost of a flush, few enough that the
/// first one does not wait long.
const BATCH_MAX: usize = 512;

/// How long the first message of a batch waits for others.
const GATHER: Duration = Duration::from_millis(10);

/// Devices whose refused messages are logged; beyond it is no longer one device's fault.
const LOGGED_MAX: usize = 1000;

/// Takes in what devices say.
pub struct Ingest {
    fleet: FleetId,
    ledger: Arc<Ledger>,
    telemetry: Arc<Telemetry>,
    link: Link,
    rejections: Arc<Rejections>,
    logged: Mutex<BTreeSet<String>>,
}

impl Ingest {
    /// Stores into `telemetry`, acknowledges over `link`.
    pub fn new(
        fleet: FleetId,
        ledger: Arc<Ledger>,
        telemetry: Arc<Telemetry>,
        link: Link,
        rejections: Arc<Rejections>,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, ledger, telemetry, link, rejections, logged: Mutex::default() })
    }

    /// Takes messages until nobody sends any more.
    pub async fn run(self: Arc<Self>, mut incoming: mpsc::Receiver<Publish>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while incoming.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let gather = async {
                while batch.len() < BATCH_MAX {
                    let room = BATCH_MAX - batch.len();
                    if incoming.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            // Whoever is late comes with the next batch.
            let _ = tokio::time::timeout(GATHER, gather).await;
            let (ingest, taken) = (Arc::clone(&self), std::mem::take(&mut batch));
            if tokio::task::spawn_blocking(move || ingest.store(taken)).await.is_err() {
                tracing::error!("storing a batch of reports failed; they will be sent again");
            }
        }
    }

    /// Stores a batch and acknowledges it.
    fn store(&self, batch: Vec<Publish>) {
        let (mut reports, mut acks) = (Vec::new(), Acks::default());
        for publish in batch {
            let (topic, bytes) = (&publish.topic, &publish.payload);
            let said = ingest::read(&self.fleet, &self.ledger.state(), topic, bytes);
            match said {
                Ok(Said::Report(report)) => {
                    acks.add(&report);
                    reports.push(report);
                }
                Ok(Said::Status(status)) => {
                    self.telemetry.hear(status, clock::now_ms(), &self.ledger.state());
                }
                Ok(Said::Nothing) => {}
                Err(refused) => self.refuse(&publish, refused),
            }
        }
        self.telemetry.absorb(reports, &self.ledger.state());
        if let Err(error) = self.telemetry.commit() {
            tracing::error!(%error, "reports cannot be stored and are not acknowledged");
            return;
        }
        for (topic, ack) in acks.messages() {
            self.link.acknowledge(&topic, envelope::seal(&ack));
        }
    }

    /// Counts a message that was refused, for the device that could publish it on its topic.
    fn refuse(&self, publish: &Publish, refused: Refused) {
        self.telemetry.refuse();
        match &refused.by {
            Some(device) => self.rejections.count_of(device, refused.rejection),
            None => self.rejections.count(refused.rejection),
        }
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < LOGGED_MAX && logged.insert(topic.clone()) {
            let reason = refused.rejection.reason();
            tracing::warn!(topic, reason, "a message was refused; further ones are only counted");
        }
    }
}
