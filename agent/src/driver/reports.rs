//! Reports on their way to the controller: spooled first, sent then, forgotten when acknowledged.

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
use crate::store::Backlog;

/// Reports on their way at a time: 32 of the largest are 5 MB, of usual ones 64 KiB.
const IN_FLIGHT_MAX: usize = 32;
/// When the controller has not acknowledged a report, milliseconds: it answers within one second
/// unless it is away or overloaded.
const RESEND_AFTER_MS: u64 = 10_000;
/// The spool, and the link that empties it.
pub(super) struct Reports {
    backlog: Backlog,
    window: SendWindow,
    uplink: Arc<dyn Uplink>,
    device: DeviceId,
    clock: Clock,
    link_up: bool,
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
        mut backlog: Backlog,
        uplink: Arc<dyn Uplink>,
        device: DeviceId,
        clock: Clock,
    ) -> Self {
        backlog.retry(clock.ms());
        Self {
            backlog,
            window: SendWindow::new(IN_FLIGHT_MAX, RESEND_AFTER_MS),
            uplink,
            device,
            clock,
            link_up: false,
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
        self.figures.made.set(number(self.backlog.seq_next()));
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
        self.backlog.len()
    }

    /// Reports that were dropped unsent.
    pub(super) fn dropped(&self) -> u64 {
        self.backlog.dropped()
    }

    /// Whether closed windows should be appended now; if not, they wait where they are.
    pub(super) fn takes_windows(&self) -> bool {
        self.backlog.takes_windows()
    }

    /// Puts a report on the disk, or next in line for it.
    pub(super) fn append(&mut self, body: Body) {
        self.backlog.append(self.clock.ms(), self.clock.unix(), body);
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self) {
        let now = self.clock.ms();
        self.backlog.retry(now);
        self.show();
        if !self.link_up {
            return;
        }
        let topic = Topic::Report(self.device.clone());
        for seq in self.window.due(now, self.backlog.seqs()) {
            match self.backlog.on_spool(now, |spool| spool.sealed(seq)) {
                Some(Some(bytes)) => {
                    if self.uplink.try_publish(&topic, bytes, Keep::Pass).is_err() {
                        return;
                    }
                    self.window.sent(seq, now);
                }
                Some(None) => {
                    tracing::error!("report {seq} in the spool cannot be read; it is dropped");
                    self.backlog.on_spool(now, |spool| spool.discard(seq));
                }
                None => return,
            }
        }
    }

    /// Takes in the controller's acknowledgement.
    pub(super) fn acknowledged(&mut self, payload: &[u8]) {
        let ack: Ack = match envelope::open(payload) {
            Ok(ack) => ack,
            Err(error) => return tracing::warn!("an acknowledgement is {error}"),
        };
        let gone = self.backlog.on_spool(self.clock.ms(), |spool| spool.acknowledge(&ack));
        gone.into_iter().flatten().for_each(|seq| self.window.gone(seq));
        self.send_due();
    }

    /// Whether a status would get anywhere.
    pub(super) fn is_up(&self) -> bool {
        self.link_up
    }

    /// Publishes the retained status. False if the link did not take it.
    pub(super) fn publish_status(&self, status: &Status) -> bool {
        let topic = Topic::Status(self.device.clone());
        let sealed = envelope::seal(status);
        self.uplink.try_publish(&topic, sealed, Keep::Retain).is_ok()
    }

    /// Puts everything on the disk before the agent ends.
    pub(super) fn finish(&mut self) {
        self.backlog.finish(self.clock.ms());
    }
}
