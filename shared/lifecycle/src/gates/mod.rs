//! What a candidate must show: pure verdicts over plain tallies.
//!
//! The shell counts, these functions judge, and the machine acts on the judgement. Each gate may
//! say that it cannot tell yet; too few samples are never a pass.

mod golden;
mod shadow;
mod trial;

use tidegate_wire::Reason;

pub use golden::GoldenTally;
pub use shadow::{ShadowTally, same_class, same_numbers};
pub use trial::TrialTally;

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good enough.
    Passed,
    /// Not for now.
    Pending {
        /// Samples so far.
        have: u32,
        /// Samples needed.
        need: u32,
    },
    /// Time is up and the samples do not say. The next, stricter gate decides.
    Inconclusive {
        /// Samples so far.
        have: u32,
        /// Samples needed.
        need: u32,
    },
    /// Bad.
    Failed(Reason),
}

/// Whether `hits` of `trials` is certainly (95 %) more than `percent`.
fn certainly_above(hits: u64, trials: u64, percent: u8) -> bool {
    tidegate_drift::wilson(hits, trials).0 > f64::from(percent) / 100.0
}

/// Whether `new` is more than `percent_max` percent of `old`; means over unequal numbers of runs.
/// Below a microsecond a run the clock says nothing.
fn slower(new: (u64, u64), old: (u64, u64), percent_max: u32) -> bool {
    let mean = |(total_ns, runs): (u64, u64)| total_ns as f64 / runs.max(1) as f64;
    let old_ns = mean(old).max(1_000.0);
    old.1 > 0 && new.1 > 0 && mean(new) > old_ns * f64::from(percent_max) / 100.0
}
