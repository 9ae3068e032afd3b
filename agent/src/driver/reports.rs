//! Reports on their way to the controller: spooled first, sent then, forgotten when acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tidegate_wire::DeviceId;
use tidegate_wire::envelope;
use tidegate_wire::report::{Ack, Body, Status};
use tidegate_wire::topic::Topic;

use super::send_window::SendWindow;
use crate::clock::Clock;
use crate::link::{Keep, Uplink};
use crate::serving::Metrics;
use crate::store::spool::{Spool, SpoolError};

/// Reports on their way at a time: 32 of the largest are 5 MB, of usual ones 64 KiB.
const IN_FLIGHT_MAX: usize = 32;
/// When the controller has not acknowledged a report, milliseconds: it answers within one second
/// unless it is away or overloaded.
const RESEND_AFTER_MS: u64 = 10_000;
/// Reports that wait in memory while the disk takes nothing.
const UNSPOOLED_MAX: usize = 64;

/// The spool, and the link that empties it.
pub(super) struct Reports {
    spool: Spool,
    window: SendWindow,
    uplink: Arc<dyn Uplink>,
    device: DeviceId,
    clock: Clock,
    link_up: bool,
    /// What the disk did not take, oldest first, with the time that it is from.
    unspooled: VecDeque<(u64, Body)>,
    lost: u64,
    figures: Figures,
}

/// What Prometheus is told.
#[derive(Debug, Default)]
struct Figures {
    made: Gauge,
    spooled: Gauge,
    dropped: Gauge,
    link: Gauge,
}

impl Reports {
    pub(super) fn new(
        spool: Spool,
        uplink: Arc<dyn Uplink>,
        device: DeviceId,
        clock: Clock,
    ) -> Self {
        Self {
            spool,
            window: SendWindow::new(IN_FLIGHT_MAX, RESEND_AFTER_MS),
            uplink,
            device,
            clock,
            link_up: false,
            unspooled: VecDeque::new(),
            lost: 0,
            figures: Figures::default(),
        }
    }

    /// Adds this room's figures to the agent's.
    pub(super) fn register(&self, metrics: &Metrics) {
        let Figures { made, spooled, dropped, link } = &self.figures;
        metrics.register(|registry| {
            let text = "Reports that were ever put into the spool";
            registry.register("reports_made", text, made.clone());
            let text = "Reports that wait for the controller";
            registry.register("reports_spooled", text, spooled.clone());
            let text = "Reports dropped unsent because the spool was full";
            registry.register("reports_dropped", text, dropped.clone());
            let text = "Whether the link to the broker is up";
            registry.register("link_up", text, link.clone());
        });
    }

    fn show(&self) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.figures.made.set(number(self.spool.seq_next()));
        self.figures.spooled.set(number(self.waiting()));
        self.figures.dropped.set(number(self.dropped()));
        self.figures.link.set(i64::from(self.link_up));
    }

    pub(super) fn link_up(&mut self) {
        self.link_up = true;
        self.window.link_lost();
    }

    pub(super) fn link_down(&mut self) {
        self.link_up = false;
        self.window.link_lost();
    }

    /// Reports that wait, on disk or in memory.
    pub(super) fn waiting(&self) -> u64 {
        self.spool.len() + self.unspooled.len() as u64
    }

    /// Reports that were dropped unsent.
    pub(super) fn dropped(&self) -> u64 {
        self.spool.dropped() + self.lost
    }

    /// Puts a report on the disk; one that the disk does not take waits in memory.
    pub(super) fn append(&mut self, body: Body) {
        self.unspooled.push_back((self.clock.unix(), body));
        self.retry_unspooled();
        if self.unspooled.len() > UNSPOOLED_MAX {
            self.unspooled.pop_front();
            self.lost += 1;
        }
    }

    fn retry_unspooled(&mut self) {
        while let Some((at, body)) = self.unspooled.front() {
            if let Err(error) = self.spool.append(*at, body.clone()) {
                tracing::error!("{error}: {} reports wait in memory", self.unspooled.len());
                return;
            }
            self.unspooled.pop_front();
        }
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self) {
        self.retry_unspooled();
        self.show();
        if !self.link_up || self.spool.is_empty() {
            return;
        }
        let now = self.clock.ms();
        let topic = Topic::Report(self.device.clone());
        for seq in self.window.due(now, self.spool.seqs()) {
            match self.spool.sealed(seq) {
                Ok(Some(bytes)) => {
                    if self.uplink.try_publish(&topic, bytes, Keep::Pass).is_err() {
                        return;
                    }
                    self.window.sent(seq, now);
                }
                Ok(None) => self.discard(seq),
                Err(error) => return tracing::error!("{error}"),
            }
        }
    }

    fn discard(&mut self, seq: u64) {
        tracing::error!("report {seq} in the spool cannot be read; it is dropped");
        if let Err(error) = self.spool.discard(seq) {
            tracing::error!("{error}");
        }
    }

    /// Takes in the controller's acknowledgement.
    pub(super) fn acknowledged(&mut self, payload: &[u8]) {
        let ack: Ack = match envelope::open(payload) {
            Ok(ack) => ack,
            Err(error) => return tracing::warn!("an acknowledgement is {error}"),
        };
        match self.spool.acknowledge(&ack) {
            Ok(gone) => gone.into_iter().for_each(|seq| self.window.gone(seq)),
            Err(error) => tracing::error!("{error}"),
        }
        self.send_due();
    }

    /// Publishes the retained status. False if the link did not take it.
    pub(super) fn publish_status(&self, status: &Status) -> bool {
        let topic = Topic::Status(self.device.clone());
        let sealed = envelope::seal(status);
        self.link_up && self.uplink.try_publish(&topic, sealed, Keep::Retain).is_ok()
    }

    pub(super) fn flush(&self) -> Result<(), SpoolError> {
        self.spool.flush()
    }
}
