//! Makes a failing scenario small: fewer faults, acts, devices and hours, and the same invariant
//! still broken.

use std::time::{Duration, Instant};

use crate::scenario::Scenario;
use crate::timeline::Detail;
use crate::world::{Outcome, run};

/// A failing scenario, as small as it got.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The scenario.
    pub scenario: Scenario,
    /// What comes of it.
    pub outcome: Outcome,
    /// Scenarios that were tried.
    pub tried: u32,
}

struct Shrinker {
    invariant: &'static str,
    best: Scenario,
    tried: u32,
    until: Instant,
}

/// Shrinks a scenario that breaks an invariant, for at most `patience`. None if it breaks none.
pub fn shrink(scenario: &Scenario, patience: Duration) -> Option<Shrunk> {
    let outcome = run(scenario, Detail::Quiet);
    let violation = outcome.violation?;
    let until = Instant::now() + patience;
    let mut shrinker =
        Shrinker { invariant: violation.invariant, best: scenario.clone(), tried: 1, until };
    loop {
        let before = shrinker.best.clone();
        shrinker.fewer_hours();
        shrinker.fewer_devices();
        shrinker.fewer_faults();
        shrinker.fewer_acts();
        if shrinker.best == before || Instant::now() >= until {
            break;
        }
    }
    let Shrinker { best, tried, invariant, .. } = shrinker;
    let outcome = run(&best, Detail::Usual);
    let scenario = Scenario { broke: invariant.to_owned(), ..best };
    Some(Shrunk { scenario, outcome, tried })
}

impl Shrinker {
    /// Takes a smaller scenario if it still breaks the same invariant.
    fn takes(&mut self, smaller: Scenario) -> bool {
        if Instant::now() >= self.until || smaller == self.best {
            return false;
        }
        self.tried += 1;
        let violation = run(&smaller, Detail::Quiet).violation;
        let same = violation.is_some_and(|violation| violation.invariant == self.invariant);
        if same {
            self.best = smaller;
        }
        same
    }

    fn fewer_hours(&mut self) {
        let mut hours = self.best.hours / 2;
        while hours > 0 && hours < self.best.hours {
            let end_s = hours * 3_600;
            let mut smaller = Scenario { hours, ..self.best.clone() };
            smaller.acts.retain(|act| act.at_s < end_s);
            smaller.faults.retain(|fault| fault.from_s < end_s);
            smaller.faults.iter_mut().for_each(|it| it.until_s = it.until_s.min(end_s));
            if self.takes(smaller) {
                hours /= 2;
            } else {
                hours = (hours + self.best.hours).div_ceil(2);
            }
        }
    }

    fn fewer_devices(&mut self) {
        for devices in [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 512, 2_048] {
            let smaller = Scenario { devices, ..self.best.clone() };
            if devices < self.best.devices && self.takes(smaller) {
                return;
            }
        }
    }

    fn fewer_faults(&mut self) {
        self.fewer(|scenario| &mut scenario.faults);
    }

    fn fewer_acts(&mut self) {
        self.fewer(|scenario| &mut scenario.acts);
    }

    /// Leaves out parts of a list, large ones first.
    fn fewer<T>(&mut self, list: fn(&mut Scenario) -> &mut Vec<T>) {
        let mut size = list(&mut self.best).len();
        while size > 0 {
            let mut at = 0;
            while at < list(&mut self.best).len() {
                let mut smaller = self.best.clone();
                let items = list(&mut smaller);
                let end = (at + size).min(items.len());
                items.drain(at..end);
                if !self.takes(smaller) {
                    at += size;
                }
            }
            size /= 2;
        }
    }
}
