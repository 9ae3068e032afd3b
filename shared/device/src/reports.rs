//! Reports on their way to the controller: spooled first, sent then, forgotten when acknowledged.

use tidegate_wire::envelope;
use tidegate_wire::report::{Ack, Body};

use crate::effect::{Effect, Effects, Publication};
use crate::send_window::SendWindow;
use crate::settings::Moment;
use crate::spool::{Backlog, SpoolStore};

/// Reports on their way at a time: 32 of the largest are 5 MB, of usual ones 64 KiB.
const IN_FLIGHT_MAX: usize = 32;
/// When the controller has not acknowledged a report, milliseconds: it answers within one second
/// unless it is away or overloaded. Then every report would be paid for some thousand times a day.
const RESEND_AFTER_MS: (u64, u64) = (10_000, 300_000);
/// Wait for a link that had no room, milliseconds, unless something comes before.
const ROOM_AFTER_MS: u64 = 500;

/// The spool, and what is on its way from it.
pub(crate) struct Reports<S: SpoolStore> {
    backlog: Backlog<S>,
    window: SendWindow,
    link_up: bool,
    /// The link had no room; nothing is published before.
    full_until: u64,
}

/// How many reports there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Reports that were ever put into the spool.
    pub made: u64,
    /// Reports that wait for the controller, on disk or in memory.
    pub spooled: u64,
    /// Reports that were dropped unsent because there was no room.
    pub dropped: u64,
    /// Whether the link is up.
    pub link_up: bool,
}

impl<S: SpoolStore> Reports<S> {
    pub(crate) fn new(mut backlog: Backlog<S>, now: u64) -> Self {
        backlog.retry(now);
        let window = SendWindow::new(IN_FLIGHT_MAX, RESEND_AFTER_MS);
        Self { backlog, window, link_up: false, full_until: 0 }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            made: self.backlog.seq_next(),
            spooled: self.backlog.len(),
            dropped: self.backlog.dropped(),
            link_up: self.link_up,
        }
    }

    pub(crate) fn link_up(&mut self) {
        self.link_up = true;
        self.full_until = 0;
        self.window.link_lost();
    }

    pub(crate) fn link_down(&mut self) {
        self.link_up = false;
        self.window.link_lost();
    }

    /// Whether closed windows should be appended now; if not, they wait where they are.
    pub(crate) fn takes_windows(&self) -> bool {
        self.backlog.takes_windows()
    }

    /// Puts a report on the disk, or next in line for it.
    pub(crate) fn append(&mut self, now: Moment, body: Body) {
        self.backlog.append(now.ms, now.unix, body);
    }

    /// From when on the link takes something, milliseconds; None while it is down.
    pub(crate) fn publishes_from(&self) -> Option<u64> {
        self.link_up.then_some(self.full_until)
    }

    /// When something has to be looked at, milliseconds.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let from = self.publishes_from();
        let resend = from.and_then(|from| Some(self.window.resend_at()?.max(from)));
        let full = from.filter(|from| *from > 0);
        self.backlog.deadline().into_iter().chain(resend).chain(full).min()
    }

    /// Sends what is due.
    pub(crate) fn send_due(&mut self, now: u64, effects: &mut Effects) {
        self.backlog.retry(now);
        if self.publishes_from().is_none_or(|from| now < from) {
            return;
        }
        self.full_until = 0;
        for seq in self.window.due(now, self.backlog.seqs()) {
            match self.backlog.on_spool(now, |spool| spool.sealed(seq)) {
                Some(Some(payload)) => {
                    effects
                        .push(Effect::Publish { publication: Publication::Report(seq), payload });
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

    /// The link had no room.
    pub(crate) fn not_taken(&mut self, now: u64, publication: Publication) {
        self.full_until = now.saturating_add(ROOM_AFTER_MS);
        if let Publication::Report(seq) = publication {
            self.window.gone(seq);
        }
    }

    /// Takes in the controller's acknowledgement.
    pub(crate) fn acknowledged(&mut self, now: u64, payload: &[u8]) {
        // What it acknowledges has left the link.
        self.full_until = 0;
        let ack: Ack = match envelope::open(payload) {
            Ok(ack) => ack,
            Err(error) => return tracing::warn!("an acknowledgement is {error}"),
        };
        let gone = self.backlog.on_spool(now, |spool| spool.acknowledge(&ack));
        gone.into_iter().flatten().for_each(|seq| self.window.gone(seq));
    }

    /// Puts everything on the disk before the agent ends.
    pub(crate) fn finish(&mut self, now: u64) {
        self.backlog.finish(now);
    }
}
