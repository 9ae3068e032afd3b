//! Which reports of one spool have been stored: each is counted once, however often it arrives.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Gaps that are remembered per spool. An agent sends in order, so there is seldom more than one; a
/// sender that leaves more gives up what is in the lowest.
const RUNS_MAX: usize = 256;

/// The numbers that have been stored, as runs, above a floor that is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Everything below was stored or will never come.
    floor: u64,
    /// Ascending runs at or above the floor, first and last, that do not touch.
    runs: Vec<(u64, u64)>,
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It was not stored yet.
    Fresh,
    /// It was stored before, or counted as lost.
    Duplicate,
}

impl Seen {
    /// Notes a number.
    pub fn insert(&mut self, seq: u64) -> Novelty {
        if seq < self.floor {
            return Novelty::Duplicate;
        }
        // The first run that ends at or behind the number before this one.
        let at = self.runs.partition_point(|(_, last)| last.saturating_add(1) < seq);
        match self.runs.get_mut(at) {
            Some((first, last)) if *first <= seq && seq <= *last => return Novelty::Duplicate,
            Some((_, last)) if last.checked_add(1) == Some(seq) => *last = seq,
            Some((first, _)) if seq.checked_add(1) == Some(*first) => *first = seq,
            _ => self.runs.insert(at, (seq, seq)),
        }
        self.join(at);
        if self.runs.len() > RUNS_MAX {
            self.settle(self.runs[1].0);
        }
        Novelty::Fresh
    }

    /// Forgets everything below `oldest`, which will never come again.
    pub fn settle(&mut self, oldest: u64) {
        self.floor = self.floor.max(oldest);
        self.runs.retain(|(_, last)| *last >= self.floor);
        if let Some((first, _)) = self.runs.first_mut() {
            *first = (*first).max(self.floor);
        }
    }

    fn join(&mut self, at: usize) {
        if let (Some(left), Some(right)) = (self.runs.get(at).copied(), self.runs.get(at + 1))
            && left.1.checked_add(1) == Some(right.0)
        {
            self.runs[at].1 = right.1;
            self.runs.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec;

    #[test]
    fn each_number_is_fresh_once_in_any_order() {
        // A multiplicative walk over 0..=256 visits every number once in a scattered order.
        let mut seen = Seen::default();
        let mut model = BTreeSet::new();
        for step in 1..=600_u64 {
            let seq = step * 29 % 257;
            let expected = if model.insert(seq) { Novelty::Fresh } else { Novelty::Duplicate };
            assert_eq!(seen.insert(seq), expected, "{seq}");
            let covered: u64 = seen.runs.iter().map(|(first, last)| last - first + 1).sum();
            assert_eq!(covered, model.len() as u64);
            assert!(seen.runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{seen:?}");
        }
        assert_eq!(seen.runs, [(0, 256)]);
    }

    #[test]
    fn what_is_below_the_oldest_is_settled() {
        let mut seen = Seen::default();
        for seq in [0, 1, 2, 7, 8] {
            seen.insert(seq);
        }
        seen.settle(8);
        assert_eq!(seen, Seen { floor: 8, runs: vec![(8, 8)] });
        assert_eq!(seen.insert(5), Novelty::Duplicate, "the device counted it as dropped");
        assert_eq!(seen.insert(9), Novelty::Fresh);
        seen.settle(3);
        assert_eq!(seen.floor, 8, "floors only rise");
    }

    #[test]
    fn a_sender_that_leaves_gaps_cannot_fill_the_memory() {
        let mut seen = Seen::default();
        for n in 0..10_000 {
            assert_eq!(seen.insert(n * 3), Novelty::Fresh);
        }
        assert!(seen.runs.len() <= RUNS_MAX);
        assert_eq!(seen.insert(0), Novelty::Duplicate);
        assert_eq!(seen.insert(u64::MAX), Novelty::Fresh);
        assert_eq!(seen.insert(u64::MAX), Novelty::Duplicate);
    }
}
