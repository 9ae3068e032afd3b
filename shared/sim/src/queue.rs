//! What happens next: events in the order of their time, and of their making where that is equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events that lie ahead.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Ahead<E>>>,
    made: u64,
}

#[derive(Debug)]
struct Ahead<E> {
    at_ms: u64,
    number: u64,
    event: E,
}

impl<E> PartialEq for Ahead<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.number) == (other.at_ms, other.number)
    }
}

impl<E> Eq for Ahead<E> {}

impl<E> PartialOrd for Ahead<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Ahead<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), made: 0 }
    }
}

impl<E> Queue<E> {
    /// Puts an event in its place.
    pub fn push(&mut self, at_ms: u64, event: E) {
        self.made += 1;
        self.heap.push(Reverse(Ahead { at_ms, number: self.made, event }));
    }

    /// When the next event is, milliseconds.
    pub fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(ahead)| ahead.at_ms)
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|Reverse(ahead)| (ahead.at_ms, ahead.event))
    }

    /// Events that were ever put in.
    pub fn made(&self) -> u64 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_made() {
        let mut queue = Queue::default();
        for (at_ms, name) in [(5, "c"), (1, "a"), (5, "d"), (1, "b")] {
            queue.push(at_ms, name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, "a"), (1, "b"), (5, "c"), (5, "d")]);
        assert_eq!((queue.next_ms(), queue.made()), (None, 4));
    }
}
