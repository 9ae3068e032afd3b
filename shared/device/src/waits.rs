//! How long to wait, without a source of chance but the number that the shell drew at the start.

/// Numbers that differ from device to device. Nothing secret may come of them.
///
/// # Source
/// Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators* (OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, or 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(limit).unwrap_or(0)
    }
}

/// Waits that double up to a limit, with a random part so that a fleet does not knock in step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first_ms: u64,
    most_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Waits of about `first_ms`, twice that, and so on up to `most_ms`.
    pub(crate) fn new(first_ms: u64, most_ms: u64) -> Self {
        Self { first_ms, most_ms, failures: 0 }
    }

    /// It worked: the next failure waits shortly again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait, milliseconds, between half and all of the doubled time.
    pub(crate) fn next_wait(&mut self, dice: &mut Dice) -> u64 {
        let doubled = self.first_ms.saturating_mul(1 << self.failures.min(20)).min(self.most_ms);
        self.failures = self.failures.saturating_add(1);
        doubled / 2 + dice.below(doubled / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn waits_double_up_to_the_limit_and_differ() {
        let (mut backoff, mut dice) = (Backoff::new(1_000, 8_000), Dice::new(7));
        for most in [1_000, 2_000, 4_000, 8_000, 8_000, 8_000] {
            let wait = backoff.next_wait(&mut dice);
            assert!(wait >= most / 2 && wait <= most, "{wait}");
        }
        backoff.reset();
        assert!(backoff.next_wait(&mut dice) <= 1_000);
        let first_of = |seed| Backoff::new(30_000, 30_000).next_wait(&mut Dice::new(seed));
        let firsts: BTreeSet<u64> = (0..64).map(first_of).collect();
        assert!(firsts.len() > 60, "{}", firsts.len());
        assert_eq!(dice.below(0), 0);
    }
}
