//! Inputs made from inputs: what libFuzzer does, in small and without coverage, so that a stable
//! compiler can try them too. Never twice the same, but always the same for a seed.

/// Makes inputs from those it is given.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

/// Numbers at which code turns.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

impl Mutator {
    /// One that goes by this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number below `end`, which is at least 1.
    ///
    /// # Source
    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// An input made from some of `inputs` by a few changes.
    pub fn next_from(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        if inputs.is_empty() || self.below(16) == 0 {
            let length = self.below(64);
            return (0..length).map(|_| self.below(256) as u8).collect();
        }
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(5) {
            let other = &inputs[self.below(inputs.len())];
            self.change(&mut input, other);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        let count = self.below(16) + 1;
        let end = (at + count).min(input.len());
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.below(256) as u8,
            2 => {
                let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                let end = (at + width).min(input.len());
                input.splice(at..end, edge[8 - width..].iter().copied());
            }
            3 => drop(input.drain(at..end)),
            4 => {
                let noise: Vec<u8> = (0..count).map(|_| self.below(256) as u8).collect();
                input.splice(at..at, noise);
            }
            5 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            6 => input.truncate(at),
            _ => {
                let from = self.below(other.len() + 1);
                let end = (from + self.below(64)).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_what_comes() {
        let inputs = [b"one input".to_vec(), b"and another".to_vec()];
        let many = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..100).map(|_| mutator.next_from(&inputs)).collect::<Vec<_>>()
        };
        assert_eq!(many(1), many(1));
        assert_ne!(many(1), many(2));
    }
}
