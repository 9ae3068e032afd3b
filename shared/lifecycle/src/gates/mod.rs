//! What a candidate must show: pure verdicts over plain tallies.
//!
//! The shell counts, these functions judge, and the machine acts on the judgement. Each gate may
//! say that it cannot tell yet; too few samples are never a pass.

mod agreement;
mod golden;
mod latency;
mod shadow;
mod trial;

use tidegate_wire::Reason;

pub use agreement::{class_of, same_class, same_direction, same_numbers};
pub use golden::GoldenTally;
pub use latency::Latencies;
pub use shadow::ShadowTally;
pub use trial::{Before, TrialTally};

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
