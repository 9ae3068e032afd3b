//! What came of runs, as people read it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::scenario::FaultName;
use crate::timeline::Clock;
use crate::world::Outcome;

/// What came of one or many runs.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Runs.
    pub runs: u64,
    /// Runs that broke an invariant.
    pub failed: u64,
    device_hours: u64,
    events: u64,
    injected: BTreeMap<FaultName, u64>,
    checked: BTreeMap<&'static str, u64>,
    took: Duration,
}

impl Verdict {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failed += u64::from(outcome.violation.is_some());
        self.device_hours += outcome.device_hours;
        self.events += outcome.events;
        for (name, count) in &outcome.injected {
            *self.injected.entry(*name).or_default() += count;
        }
        for (name, count) in &outcome.checked {
            *self.checked.entry(name).or_default() += count;
        }
    }

    /// Says how long all of it took.
    pub fn took(&mut self, took: Duration) {
        self.took = took;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.injected.values().sum();
        write!(f, "faults injected: {faults}")?;
        let mut comma = " (";
        for (name, count) in &self.injected {
            write!(f, "{comma}{name} {count}")?;
            comma = ", ";
        }
        writeln!(f, "{}", if faults > 0 { ")" } else { "" })?;
        write!(f, "invariants checked:")?;
        comma = " ";
        for (name, count) in &self.checked {
            write!(f, "{comma}{name} {count}")?;
            comma = ", ";
        }
        writeln!(f)?;
        let seconds = self.took.as_secs_f64().max(1e-9);
        writeln!(
            f,
            "{} device-hours and {} events in {seconds:.1} s: {:.0} device-hours a second",
            self.device_hours,
            self.events,
            self.device_hours as f64 / seconds
        )?;
        match (self.runs, self.failed) {
            (1, 0) => f.write_str("every invariant held"),
            (1, _) => f.write_str("an invariant was broken"),
            (runs, 0) => write!(f, "every invariant held in all {runs} runs"),
            (runs, failed) => write!(f, "{failed} of {runs} runs broke an invariant"),
        }
    }
}

/// One line about a run that broke an invariant; nothing about another one.
pub fn failure(outcome: &Outcome) -> Option<String> {
    let violation = outcome.violation.as_ref()?;
    let at = Clock(violation.at_ms).to_string();
    Some(format!("{} broken at {}: {}", violation.invariant, at.trim_start(), violation.detail))
}
