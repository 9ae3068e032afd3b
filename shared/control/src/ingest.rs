//! What devices say: what is taken in, what is turned away, and how reports are acknowledged.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tidegate_wire::codec::DecodeError;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::report::{Ack, Report, Status};
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, FleetId};

use crate::Rejection;
use crate::state::State;

/// Runs of numbers in one acknowledgement: with at most 18 bytes each it stays below its size cap.
const RUNS_MAX: usize = 512;

/// What one message turned out to be.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // It is taken apart at once.
pub enum Said {
    /// A device's report, to be stored and then acknowledged.
    Report(Report),
    /// A device's status.
    Status(Status),
    /// Nothing: how a retained status is deleted.
    Nothing,
}

/// A message that was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// The device that could publish it on its topic, if it is in.
    pub by: Option<DeviceId>,
}

/// Reads what came on a topic.
///
/// # Errors
/// [`Refused`] says why it is turned away, and whose it is.
pub fn read(fleet: &FleetId, state: &State, topic: &[u8], bytes: &[u8]) -> Result<Said, Refused> {
    let topic = core::str::from_utf8(topic).ok().and_then(|topic| Topic::parse(fleet, topic));
    let device = match &topic {
        Some(Topic::Report(device) | Topic::Status(device)) => device.clone(),
        _ => return Err(Refused { rejection: Rejection::WrongTopic, by: None }),
    };
    let is_known = state.devices.contains_key(&device);
    let said = match topic {
        // How a retained status is deleted, of devices that are no more in particular.
        Some(Topic::Status(_)) if bytes.is_empty() => return Ok(Said::Nothing),
        _ if !is_known => Err(Rejection::UnknownDevice),
        Some(Topic::Report(_)) => report(fleet, &device, bytes).map(Said::Report),
        _ => status(&device, bytes).map(Said::Status),
    };
    said.map_err(|rejection| Refused { rejection, by: is_known.then_some(device) })
}

fn report(fleet: &FleetId, device: &DeviceId, bytes: &[u8]) -> Result<Report, Rejection> {
    let report: Report = open(bytes)?;
    if report.fleet != *fleet {
        return Err(Rejection::WrongFleet);
    }
    if report.device != *device {
        return Err(Rejection::WrongDevice);
    }
    // It is in the spool itself.
    if report.oldest > report.seq {
        return Err(Rejection::ImpossibleNumbers);
    }
    Ok(report)
}

fn status(device: &DeviceId, bytes: &[u8]) -> Result<Status, Rejection> {
    let status: Status = open(bytes)?;
    match status.device == *device {
        true => Ok(status),
        false => Err(Rejection::WrongDevice),
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
#[derive(Debug, Default)]
pub struct Acks(BTreeMap<(DeviceId, u64), Vec<u64>>);

impl Acks {
    /// A report is stored with this batch, or was before.
    pub fn add(&mut self, report: &Report) {
        self.0.entry((report.device.clone(), report.spool)).or_default().push(report.seq);
    }

    /// What is sent once the batch is stored, each to its device.
    pub fn messages(self) -> impl Iterator<Item = (Topic, Ack)> {
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
mod tests;
