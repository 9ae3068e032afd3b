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
use tidegate_wire::{DeviceId, FleetId};
use tokio::sync::mpsc;

use crate::clock;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::rejections::{Rejection, Rejections};
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
    rejections: Arc<Rejections>,
    logged: Mutex<BTreeSet<String>>,
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
            match self.read(&publish) {
                Ok(Said::Report(report)) => {
                    acks.add(&report);
                    reports.push(report);
                }
                Ok(Said::Status(status)) => {
                    self.telemetry.hear(status, clock::now_ms(), &self.ledger.state());
                }
                Ok(Said::Nothing) => {}
                Err(rejection) => self.refuse(&publish, rejection),
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

    fn read(&self, publish: &Publish) -> Result<Said, Rejection> {
        match self.topic(publish) {
            Some(Topic::Report(device)) => {
                self.known(&device)?;
                let report: Report = open(&publish.payload)?;
                if report.fleet != self.fleet {
                    return Err(Rejection::WrongFleet);
                }
                if report.device != device {
                    return Err(Rejection::WrongDevice);
                }
                // It is in the spool itself.
                if report.oldest > report.seq {
                    return Err(Rejection::ImpossibleNumbers);
                }
                Ok(Said::Report(report))
            }
            // How a retained status is deleted.
            Some(Topic::Status(_)) if publish.payload.is_empty() => Ok(Said::Nothing),
            Some(Topic::Status(device)) => {
                self.known(&device)?;
                let status: Status = open(&publish.payload)?;
                if status.device != device {
                    return Err(Rejection::WrongDevice);
                }
                Ok(Said::Status(status))
            }
            _ => Err(Rejection::WrongTopic),
        }
    }

    fn topic(&self, publish: &Publish) -> Option<Topic> {
        Topic::parse(&self.fleet, std::str::from_utf8(&publish.topic).ok()?)
    }

    fn known(&self, device: &DeviceId) -> Result<(), Rejection> {
        let known = self.ledger.state().devices.contains_key(device);
        known.then_some(()).ok_or(Rejection::UnknownDevice)
    }

    /// Counts a message that was refused, for the device that could publish it on its topic.
    fn refuse(&self, publish: &Publish, rejection: Rejection) {
        self.telemetry.refuse();
        match self.topic(publish) {
            Some(Topic::Report(device) | Topic::Status(device)) if self.known(&device).is_ok() => {
                self.rejections.count_of(&device, rejection);
            }
            _ => self.rejections.count(rejection),
        }
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < LOGGED_MAX && logged.insert(topic.clone()) {
            let reason = rejection.reason();
            tracing::warn!(topic, reason, "a message was refused; further ones are only counted");
        }
    }
}

fn open<M: Message>(bytes: &[u8]) -> Result<M, Rejection> {
    envelope::open(bytes).map_err(|error| match error {
        DecodeError::TooLarge { .. } => Rejection::TooLarge,
        DecodeError::Version { .. } => Rejection::UnsupportedVersion,
        DecodeError::Kind { .. } => Rejection::WrongKind,
        DecodeError::NotDeterministic { .. } | DecodeError::Shape(_) => Rejection::Malformed,
    })
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
