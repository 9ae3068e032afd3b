//! Randomness from one seed, in streams that do not disturb one another.
//!
//! Every purpose and every device draws from a stream of its own. So a scenario with one device or
//! one fault less behaves the same elsewhere, and shrinking does not reshuffle what it looks at.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// What a seed makes of a scenario: its settings.
    Settings = 1,
    /// Which faults, when and where.
    Faults,
    /// What operators do.
    Acts,
    /// Delays and losses of one device's network.
    Network,
    /// Inputs and answers on one device.
    Engine,
    /// Random numbers that one device draws itself.
    Device,
    /// What mirrors and broker do wrong.
    Servers,
    /// Random numbers that the controller draws.
    Controller,
    /// What lies under a power cut.
    Disk,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `seed` for `purpose` and one of its users, for example a device's index.
    pub fn new(seed: u64, purpose: Purpose, user: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&user.to_le_bytes());
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The product's upper half is uniform but for one part in 2^64 / end.
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from).saturating_add(1))
    }

    /// True for `permille` of a thousand draws.
    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.below(1_000) < permille
    }

    /// One of several.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Sixteen bytes, for salts.
    pub fn salt(&mut self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.0.fill_bytes(&mut salt);
        salt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_back_and_differ_by_seed_purpose_and_user() {
        let first = |seed, purpose, user| Stream::new(seed, purpose, user).any();
        let one = first(7, Purpose::Network, 3);
        assert_eq!(one, first(7, Purpose::Network, 3));
        let others = [
            first(8, Purpose::Network, 3),
            first(7, Purpose::Engine, 3),
            first(7, Purpose::Network, 4),
        ];
        assert!(!others.contains(&one));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut stream = Stream::new(1, Purpose::Settings, 0);
        for _ in 0..1_000 {
            assert!(stream.below(3) < 3);
            assert!((5..=6).contains(&stream.between(5, 6)));
            assert!((0.0..1.0).contains(&stream.unit()));
        }
        assert_eq!(stream.below(0), 0);
        assert!(!stream.chance(0) && stream.chance(1_000));
    }
}
