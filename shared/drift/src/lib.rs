#![no_std]
#![warn(missing_docs)]
//! Mergeable integer sketches of what a model sees and says, and one drift test whose chance of
//! ever crying wolf can be stated in a sentence.
//!
//! # What it does
//!
//! - **Summaries** ([`NumericSummary`], [`CategoricalSummary`], [`OutputSummary`],
//!   [`LatencySummary`]) take one value at a time in a few nanoseconds, in fixed memory and in
//!   integers only. Merging is integer addition: exact, in any order, on any machine.
//! - **References** ([`NumericReference`], [`CategoricalReference`]) are made once, when a bundle
//!   is built, and shipped inside it: bin edges, counts and the tolerance box.
//! - **The decision** ([`Verdict`]) is an anytime-valid e-test with a tolerance: each reference bin
//!   may move by a share τ (20 %) without alarm; beyond that the chance of *any* false alarm on
//!   *any* of `F` features, however often one looks, is at most 1.1 α (α is 1 % by default).
//!   [`Monitor`] restarts it on three time scales, [`compare`] sets one group against another.
//! - **Descriptive figures** ([`describe`]: PSI, Jensen–Shannon, Kolmogorov–Smirnov,
//!   Wasserstein-1) are for people to look at. Nothing is ever decided on them.
//! - **Shares** (of failures, of agreement) get a [`wilson`] interval.
//! - **Feature values** from embeddings ([`project`]) and images ([`ImageFeatures`]).
//!
//! # What it deliberately does not do
//!
//! - It has no clock, no allocator, no IO and no randomness; windows are closed by the caller.
//! - It does not know *which* reference a summary was taken with. **Merge only summaries whose
//!   reference digests are equal**: the digest belongs to the message that carries the summary.
//!   Duplicates (the same device, boot, artifact and window) are the caller's to drop as well.
//! - It does not keep minima, maxima or any other raw value: what is reported are counts and sums.
//! - It does not act. Input drift is a reason to hold a wave and tell somebody, never to revert.
//! - The bound on false alarms is a theorem for independent rows. For rows that depend on one
//!   another [`LagCorrelation`] and [`EffectiveCounts`] correct approximately, and say so.
//!
//! # Example
//!
//! ```
//! use tidegate_drift::{DriftConfig, NumericReference, NumericSummary, Verdict};
//!
//! // When the bundle is made: 2,000 reference values of one feature out of three.
//! let mut sample: Vec<f32> = (0..2_000).map(|i| (i * 37 % 2_000) as f32 * 0.01).collect();
//! let config = DriftConfig::default();
//! let reference = NumericReference::from_sample(&mut sample, Some((-5.0, 30.0)), 3, &config)?;
//!
//! // On the device: the same values, then the same values shifted by a quarter of their spread.
//! let mut same = NumericSummary::default();
//! let mut shifted = NumericSummary::default();
//! for i in 0..500 {
//!     let value = (i * 13 % 500) as f32 * 0.04;
//!     same.observe(&reference, value);
//!     shifted.observe(&reference, value + 5.0);
//! }
//! assert!(matches!(reference.test(&same.bins, 3, &config), Verdict::Quiet { .. }));
//! assert!(matches!(reference.test(&shifted.bins, 3, &config), Verdict::Alarm { .. }));
//!
//! // Merging is addition, so a device, a wave and the fleet ask the same question.
//! same.merge(&shifted)?;
//! assert_eq!(same.n(), 1_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//!
//! Lindon and Malek, *Anytime-Valid Inference for Multinomial Count Data* (NeurIPS 2022) for the
//! point null; Wasserman, Ramdas and Balakrishnan, *Universal Inference* (PNAS 2020) for the
//! composite one.

mod categorical;
mod count;
pub mod describe;
mod etest;
mod image;
mod lag;
mod latency;
mod monitor;
mod numeric;
mod output;
mod projection;
mod reference;
mod special;
mod tolerance;
mod total;
mod wilson;

pub use categorical::{CATEGORIES_MAX, CategoricalReference, CategoricalSummary, category_hash};
pub use count::{Counter, DecodeError, MergeError, Number};
pub use etest::{
    DriftConfig, Null, SLOTS_MAX, Verdict, box_mle, compare, ln_e, ln_mixture, threshold,
};
pub use image::{CHANNELS_MAX, ImageError, ImageFeatures};
pub use lag::{EffectiveCounts, LagCorrelation, variance_factor};
pub use latency::{LATENCY_BINS, LatencySummary};
pub use monitor::{Monitor, MonitorVerdict, SCALES, monitor_threshold};
pub use numeric::{NumericSummary, Q_MAX, ROWS_MAX};
pub use output::{CONFIDENCE_EDGES, ENTROPY_EDGES, OutputSummary, estimated_accuracy};
pub use projection::{PROJECTIONS, project};
pub use reference::{NumericReference, QUANTILE_PERCENTS, ReferenceError};
pub use tolerance::tolerance_box;
pub use total::NumericTotal;
pub use wilson::wilson;

/// Bins of a numeric feature: eleven edges at the reference quantiles
/// .01, .10, .20, … .90, .99 and the two open ends.
pub const BINS: usize = 12;
