//! From the broker to telemetry: decodes what devices say, stores it in batches, and only then
//! acknowledges it.
//!
//! Whatever arrives, the stream goes on: what cannot be decoded, or is not what its topic says, is
//! counted by reason and logged once per device.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::mqttbytes::v5::Publish;
use tidegate_wire::codec::DecodeError;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::report::{Ack, Report, Status};
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, FleetId, Reason};
use tokio::sync::mpsc;

use crate::clock;
use crate::link::Link;
use crate::state::Ledger;
use crate::telemetry::Telemetry;

/// The most messages of one commit: enough to share the cost of a flush, few enough that the
/// first one does not wait long.
const BATCH_MAX: usize = 512;

/// How long the first message of a batch waits for others.
const GATHER: Duration = Duration::from_millis(10);

/// Devices whose refused messages are logged; beyond it is no longer one device's fault.
const LOGGED_MAX: usize = 1000;

/// Runs of numbers in one acknowledgement: with at most 18 bytes each it stays below its size cap.
const RUNS_MAX: usize = 512;

/// Takes in what devices say.
pub struct Ingest {
    fleet: FleetId,
    ledger: Arc<Ledger>,
    telemetry: Arc<Telemetry>,
    link: Link,
    refused: Mutex<Refused>,
}

#[derive(Default)]
struct Refused {
    by_reason: BTreeMap<Reason, u64>,
    logged: BTreeSet<String>,
}

/// What one message turned out to be.
#[allow(clippy::large_enum_variant)] // It is taken apart at once.
enum Said {
    Report(Report),
    Status(Status),
    Nothing,
}

impl Ingest {
    /// Stores into `telemetry`, acknowledges over `link`.
    pub fn new(
        fleet: FleetId,
        ledger: Arc<Ledger>,
        telemetry: Arc<Telemetry>,
        link: Link,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, ledger, telemetry, link, refused: Mutex::default() })
    }

    /// Messages that were refused, by reason.
    pub fn refused(&self) -> BTreeMap<Reason, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).by_reason.clone()
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
            match self.read(&publish) {
                Ok(Said::Report(report)) => {
                    acks.add(&report);
                    reports.push(report);
                }
                Ok(Said::Status(status)) => self.telemetry.hear(status, clock::now_ms()),
                Ok(Said::Nothing) => {}
                Err(reason) => self.refuse(&publish, reason),
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

    fn read(&self, publish: &Publish) -> Result<Said, Reason> {
        let topic = std::str::from_utf8(&publish.topic).ok();
        let topic = topic.and_then(|topic| Topic::parse(&self.fleet, topic));
        match topic {
            Some(Topic::Report(device)) => {
                let report: Report = open(&publish.payload)?;
                self.own(&device, &report.device)?;
                if report.fleet != self.fleet {
                    return Err(Reason::WrongFleet);
                }
                Ok(Said::Report(report))
            }
            // How a retained status is deleted.
            Some(Topic::Status(_)) if publish.payload.is_empty() => Ok(Said::Nothing),
            Some(Topic::Status(device)) => {
                let status: Status = open(&publish.payload)?;
                self.own(&device, &status.device)?;
                Ok(Said::Status(status))
            }
            _ => Err(Reason::WrongTopic),
        }
    }

    /// The message is by the device whose topic it came on, and that device is in.
    fn own(&self, topic: &DeviceId, message: &DeviceId) -> Result<(), Reason> {
        match topic == message && self.ledger.state().devices.contains_key(topic) {
            true => Ok(()),
            false => Err(Reason::WrongTopic),
        }
    }

    fn refuse(&self, publish: &Publish, reason: Reason) {
        self.telemetry.refuse();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.by_reason.entry(reason).or_default() += 1;
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        if refused.logged.len() < LOGGED_MAX && refused.logged.insert(topic.clone()) {
            tracing::warn!(topic, %reason, "a message was refused; further ones are only counted");
        }
    }
}

fn open<M: Message>(bytes: &[u8]) -> Result<M, Reason> {
    envelope::open(bytes).map_err(|error: DecodeError| error.reason())
}

/// The numbers of a batch, by device and spool.
#[derive(Default)]
struct Acks(BTreeMap<(DeviceId, u64), Vec<u64>>);

impl Acks {
    fn add(&mut self, report: &Report) {
        self.0.entry((report.device.clone(), report.spool)).or_default().push(report.seq);
    }

    fn messages(self) -> impl Iterator<Item = (Topic, Ack)> {
        self.0.into_iter().flat_map(|((device, spool), numbers)| {
            let runs = runs(numbers);
            let acks: Vec<_> = runs
                .chunks(RUNS_MAX)
                .map(|seqs| (Topic::Ack(device.clone()), Ack { spool, seqs: seqs.to_vec() }))
                .collect();
            acks
        })
    }
}

/// First and last of each run of numbers.
fn runs(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
    numbers.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number.saturating_sub(*last) <= 1 => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_numbers_are_runs() {
        assert_eq!(runs(vec![5, 1, 2, 2, 3, 9]), [(1, 3), (5, 5), (9, 9)]);
        assert_eq!(runs(vec![u64::MAX, u64::MAX - 1]), [(u64::MAX - 1, u64::MAX)]);
        assert_eq!(runs(vec![]), []);
    }
}
