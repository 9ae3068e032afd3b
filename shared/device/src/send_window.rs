//! Which reports are on their way, and which are due: pure bookkeeping.
//!
//! The broker's acknowledgement says nothing about the controller, so a report counts as on its
//! way until the controller says that it has stored it. Lost ones are sent again after a while, which
//! grows while the controller says nothing: it may be away for days, and bytes cost money. All of
//! them are sent again after the link was lost; the controller counts each once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The reports on their way.
#[derive(Debug, Clone)]
pub(crate) struct SendWindow {
    in_flight: BTreeMap<u64, Sent>,
    in_flight_max: usize,
    /// First and longest wait, milliseconds.
    resend_after_ms: (u64, u64),
}

/// A report on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// When, milliseconds.
    at: u64,
    /// How long an acknowledgement is waited for, milliseconds.
    wait_ms: u64,
}

impl Sent {
    fn again_at(self) -> u64 {
        self.at.saturating_add(self.wait_ms)
    }
}

impl SendWindow {
    /// At most `in_flight_max` reports on their way. Each is sent again after the first of
    /// `resend_after_ms`, then after twice as long each time, up to the second.
    pub(crate) fn new(in_flight_max: usize, resend_after_ms: (u64, u64)) -> Self {
        Self { in_flight: BTreeMap::new(), in_flight_max, resend_after_ms }
    }

    /// What to send at `now`, lowest number first. `spooled` are the numbers that wait, ascending;
    /// only as many as fit are looked at.
    pub(crate) fn due(&mut self, now: u64, spooled: impl Iterator<Item = u64>) -> Vec<u64> {
        // The lowest are sent first and numbers only rise, so whatever is on its way is among
        // these, or has left the spool.
        let lowest: BTreeSet<u64> = spooled.take(self.in_flight_max).collect();
        self.in_flight.retain(|seq, _| lowest.contains(seq));
        let is_due = |seq: &u64| self.in_flight.get(seq).is_none_or(|sent| now >= sent.again_at());
        lowest.into_iter().filter(is_due).collect()
    }

    /// A report was handed to the link.
    pub(crate) fn sent(&mut self, seq: u64, now: u64) {
        let (first, longest) = self.resend_after_ms;
        let before = self.in_flight.get(&seq);
        let wait_ms = before.map_or(first, |sent| sent.wait_ms.saturating_mul(2).min(longest));
        self.in_flight.insert(seq, Sent { at: now, wait_ms });
    }

    /// The controller has stored it, or it left the spool otherwise. Whoever answers will answer
    /// for the others too: they are not waited for any longer than at first.
    pub(crate) fn gone(&mut self, seq: u64) {
        self.in_flight.remove(&seq);
        let (first, _) = self.resend_after_ms;
        self.in_flight.values_mut().for_each(|sent| sent.wait_ms = first);
    }

    /// The link was lost: who knows what arrived.
    pub(crate) fn link_lost(&mut self) {
        self.in_flight.clear();
    }

    /// When the first of them is sent again, milliseconds.
    pub(crate) fn resend_at(&self) -> Option<u64> {
        self.in_flight.values().map(|sent| sent.again_at()).min()
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
        let mut window = SendWindow::new(3, (10, 10));
        let spooled = [2, 3, 5, 6, 7];
        assert_eq!(send_all(&mut window, 0, &spooled), [2, 3, 5]);
        assert!(send_all(&mut window, 1, &spooled).is_empty());
        window.gone(3);
        assert_eq!(send_all(&mut window, 2, &[2, 5, 6, 7]), [6]);
        assert_eq!(window.in_flight.len(), 3);
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again() {
        let mut window = SendWindow::new(3, (10, 10));
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
        let mut window = SendWindow::new(3, (10, 10));
        send_all(&mut window, 0, &[1, 2]);
        window.link_lost();
        assert_eq!(send_all(&mut window, 1, &[1, 2]), [1, 2]);
    }

    #[test]
    fn what_the_full_spool_dropped_does_not_take_up_room() {
        let mut window = SendWindow::new(2, (10, 10));
        send_all(&mut window, 0, &[1, 2]);
        assert_eq!(send_all(&mut window, 1, &[5, 6, 7]), [5, 6]);
        assert_eq!(window.in_flight.len(), 2);
    }

    #[test]
    fn who_hears_nothing_asks_less_and_less_often_until_somebody_answers() {
        let mut window = SendWindow::new(3, (10, 40));
        let mut sent_at = Vec::new();
        for now in 0..=160 {
            if !send_all(&mut window, now, &[1, 2]).is_empty() {
                sent_at.push(now);
            }
        }
        assert_eq!(sent_at, [0, 10, 30, 70, 110, 150]);
        window.gone(1);
        assert_eq!(window.resend_at(), Some(160), "the other one is lost, not the controller");
    }
}
