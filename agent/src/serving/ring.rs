//! The last inputs of a model, kept for a candidate that comes while nobody asks anything.
//!
//! They are in memory only, bounded in bytes, off unless the device's operator switches it on, and
//! never leave the device: nothing that reports or answers reads them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Tensor, Values};

/// What one request asked.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) inputs: Vec<Tensor>,
    pub(super) rows: usize,
}

/// One model's last inputs.
pub(super) struct Ring {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    /// The newest at the end, each with its bytes.
    inputs: VecDeque<(usize, Arc<Recent>)>,
}

impl Ring {
    /// Keeps `bytes_max` bytes of inputs; with 0 it keeps nothing.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Keeps inputs; the oldest make room. What is larger than the whole ring is not kept.
    pub(super) fn keep(&self, recent: Arc<Recent>) {
        let bytes = bytes_of(&recent.inputs);
        if bytes > self.bytes_max {
            return;
        }
        let mut kept = self.kept();
        while kept.bytes + bytes > self.bytes_max {
            let Some((freed, _)) = kept.inputs.pop_front() else { break };
            kept.bytes -= freed;
        }
        kept.bytes += bytes;
        kept.inputs.push_back((bytes, recent));
    }

    /// All that is kept, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Recent>> {
        self.kept().inputs.iter().map(|(_, recent)| Arc::clone(recent)).collect()
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.kept() = Kept::default();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that inputs take in memory, with what their vectors cost.
fn bytes_of(inputs: &[Tensor]) -> usize {
    let of = |tensor: &Tensor| {
        let values = match (&tensor.values, tensor.values.datatype().width()) {
            (Values::Bytes(strings), _) => {
                strings.iter().map(|string| string.len() + size_of::<Vec<u8>>()).sum()
            }
            (values, width) => values.len() * width.unwrap_or(1),
        };
        values + size_of::<Tensor>() + size_of_val(tensor.shape.as_slice())
    };
    inputs.iter().map(of).sum::<usize>() + size_of::<Recent>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(number: f32, len: usize) -> Arc<Recent> {
        let values = Values::F32(vec![number; len]);
        Arc::new(Recent { inputs: vec![Tensor { shape: vec![1, len], values }], rows: 1 })
    }

    #[test]
    fn the_bytes_are_bounded_and_the_oldest_go_first() {
        let ring = Ring::new(10_000);
        (0..1_000).for_each(|number| ring.keep(recent(number as f32, 100)));
        let kept = ring.all();
        assert!((15..25).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap().inputs[0].values.as_f32()[0], 999.0);
        ring.keep(recent(0.0, 10_000));
        assert_eq!(ring.all().len(), kept.len(), "larger than the ring");
        ring.clear();
        assert!(ring.all().is_empty());
        ring.keep(recent(1.0, 1));
        assert_eq!(ring.all().len(), 1);
    }

    #[test]
    fn a_ring_that_is_off_keeps_nothing() {
        let ring = Ring::new(0);
        ring.keep(recent(1.0, 1));
        assert!(!ring.is_on() && ring.all().is_empty());
    }
}
