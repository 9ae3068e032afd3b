//! Many seeds at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::scenario::{Scenario, Wanted};
use crate::timeline::Detail;
use crate::world::{Outcome, run};

/// Which seeds, and what is run for each.
#[derive(Debug, Clone)]
pub struct Many {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub count: u64,
    /// Devices of each run.
    pub devices: u32,
    /// Hours of each run.
    pub hours: u64,
    /// Which faults.
    pub wanted: Wanted,
    /// Threads.
    pub threads: usize,
    /// When to stop.
    pub stop: Stop,
}

/// When to stop before all seeds were run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Never.
    AfterAll,
    /// After the first seed that breaks an invariant.
    AtFirstFailure,
}

/// Runs seeds on several threads, and hands over what came of each, as it comes.
pub fn run_many(many: &Many, mut each: impl FnMut(u64, Outcome)) {
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..many.threads.max(1) {
            let (sender, next, stopped) = (sender.clone(), &next, &stopped);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= many.count || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = many.from.wrapping_add(number);
                    let scenario =
                        Scenario::from_seed(seed, many.devices, many.hours, &many.wanted);
                    let outcome = run(&scenario, Detail::Quiet);
                    if outcome.violation.is_some() && many.stop == Stop::AtFirstFailure {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    if sender.send((seed, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (seed, outcome) in results {
            each(seed, outcome);
        }
    });
}
