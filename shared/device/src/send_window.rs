//! Which reports are on their way, and which are due: pure bookkeeping.
//!
//! The broker's acknowledgement says nothing about the controller, so a report counts as on its
//! way until the controller says that it has stored it. Lost ones are sent again after a while, and
//! all of them after the link was lost; the controller counts each once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The reports on their way.
#[derive(Debug, Clone)]
pub(crate) struct SendWindow {
    /// Number, and when it was sent, milliseconds.
    in_flight: BTreeMap<u64, u64>,
    in_flight_max: usize,
    resend_after_ms: u64,
}

impl SendWindow {
    /// At most `in_flight_max` reports on their way; each is sent again after `resend_after_ms`.
    pub(crate) fn new(in_flight_max: usize, resend_after_ms: u64) -> Self {
        Self { in_flight: BTreeMap::new(), in_flight_max, resend_after_ms }
    }

    /// What to send at `now`, lowest number first. `spooled` are the numbers that wait, ascending;
    /// only as many as fit are looked at.
    pub(crate) fn due(&mut self, now: u64, spooled: impl Iterator<Item = u64>) -> Vec<u64> {
        // The lowest are sent first and numbers only rise, so whatever is on its way is among
        // these, or has left the spool.
        let lowest: BTreeSet<u64> = spooled.take(self.in_flight_max).collect();
        self.in_flight.retain(|seq, _| lowest.contains(seq));
        let overdue = |sent_at: &u64| now.saturating_sub(*sent_at) >= self.resend_after_ms;
        let is_due = |seq: &u64| self.in_flight.get(seq).is_none_or(overdue);
        lowest.into_iter().filter(is_due).collect()
    }

    /// A report was handed to the link.
    pub(crate) fn sent(&mut self, seq: u64, now: u64) {
        self.in_flight.insert(seq, now);
    }

    /// The controller has stored it, or it left the spool otherwise.
    pub(crate) fn gone(&mut self, seq: u64) {
        self.in_flight.remove(&seq);
    }

    /// The link was lost: who knows what arrived.
    pub(crate) fn link_lost(&mut self) {
        self.in_flight.clear();
    }

    /// When the first of them is sent again, milliseconds.
    pub(crate) fn resend_at(&self) -> Option<u64> {
        let sent_at = self.in_flight.values().min()?;
        Some(sent_at.saturating_add(self.resend_after_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_all(window: &mut SendWindow, now: u64, spooled: &[u64]) -> Vec<u64> {
        let due = window.due(now, spooled.iter().copied());
        due.iter().for_each(|seq| window.sent(*seq, now));
        due
    }

    #[test]
    fn no_more_than_the_window_are_on_their_way() {
        let mut window = SendWindow::new(3, 10);
        let spooled = [2, 3, 5, 6, 7];
        assert_eq!(send_all(&mut window, 0, &spooled), [2, 3, 5]);
        assert!(send_all(&mut window, 1, &spooled).is_empty());
        window.gone(3);
        assert_eq!(send_all(&mut window, 2, &[2, 5, 6, 7]), [6]);
        assert_eq!(window.in_flight.len(), 3);
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again() {
        let mut window = SendWindow::new(3, 10);
        send_all(&mut window, 0, &[1]);
        send_all(&mut window, 5, &[1, 2]);
        assert!(send_all(&mut window, 9, &[1, 2]).is_empty());
        assert_eq!(send_all(&mut window, 10, &[1, 2]), [1]);
        assert_eq!(send_all(&mut window, 15, &[1, 2]), [2]);
        assert_eq!(window.resend_at(), Some(20));
        assert_eq!(send_all(&mut window, 20, &[1, 2]), [1]);
    }

    #[test]
    fn after_a_lost_link_everything_is_sent_again() {
        let mut window = SendWindow::new(3, 10);
        send_all(&mut window, 0, &[1, 2]);
        window.link_lost();
        assert_eq!(send_all(&mut window, 1, &[1, 2]), [1, 2]);
    }

    #[test]
    fn what_the_full_spool_dropped_does_not_take_up_room() {
        let mut window = SendWindow::new(2, 10);
        send_all(&mut window, 0, &[1, 2]);
        assert_eq!(send_all(&mut window, 1, &[5, 6, 7]), [5, 6]);
        assert_eq!(window.in_flight.len(), 2);
    }
}
