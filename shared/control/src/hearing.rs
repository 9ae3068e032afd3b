//! Since when the controller hears its devices: what they did while it was deaf it does not know yet.

/// The longest break after which the devices still count as heard all the time: whatever they said in
/// it they say again within moments, and a session that breaks off now and then must not keep every
/// rollout from going on.
const BREAK_MS_MAX: u64 = 30_000;

/// Whether the controller's session at the broker is up, and since when. Times are Unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hearing {
    /// It never was, since the controller started.
    #[default]
    Deaf,
    /// It is.
    Hears {
        /// Since then.
        since_ms: u64,
    },
    /// It broke off.
    Broken {
        /// Since then it was up.
        since_ms: u64,
        /// Until then.
        until_ms: u64,
    },
}

impl Hearing {
    /// The session is up.
    pub fn up(&mut self, now_ms: u64) {
        *self = Self::Hears { since_ms: self.since_ms(now_ms) };
    }

    /// The session broke off, or could not be made.
    pub fn down(&mut self, now_ms: u64) {
        if let Self::Hears { since_ms } = *self {
            *self = Self::Broken { since_ms, until_ms: now_ms };
        }
    }

    /// Since when the devices are heard; `now_ms` if they are not.
    pub fn since_ms(&self, now_ms: u64) -> u64 {
        match *self {
            Self::Hears { since_ms } => since_ms,
            Self::Broken { since_ms, until_ms }
                if now_ms.saturating_sub(until_ms) <= BREAK_MS_MAX =>
            {
                since_ms
            }
            Self::Deaf | Self::Broken { .. } => now_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_heard_before_the_first_session() {
        let mut hearing = Hearing::default();
        hearing.down(5);
        assert_eq!([hearing.since_ms(10), hearing.since_ms(20)], [10, 20]);
        hearing.up(30);
        hearing.up(40);
        assert_eq!(hearing.since_ms(1_000_000), 30);
    }

    #[test]
    fn a_short_break_does_not_count_and_a_long_one_begins_anew() {
        let mut hearing = Hearing::default();
        hearing.up(1_000);
        for at in [10_000, 50_000] {
            hearing.down(at);
            hearing.down(at + 5);
            assert_eq!(hearing.since_ms(at + BREAK_MS_MAX), 1_000);
            hearing.up(at + BREAK_MS_MAX);
        }
        hearing.down(100_000);
        let later = 100_000 + BREAK_MS_MAX + 1;
        assert_eq!(hearing.since_ms(later), later);
        hearing.up(later);
        assert_eq!(hearing.since_ms(later + 5), later);
    }
}
