//! One categorical feature: exact counts of up to 31 listed categories, and of everything else.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::count::{Counter, DecodeError, MergeError, add, add_one, total_u64};
use crate::etest::SLOTS_MAX;
use crate::reference::ReferenceError;
use crate::tolerance::{holds_probabilities, round_down, round_up, tolerance_box};
use crate::{DriftConfig, Null, Number, Verdict};

/// Most categories that are counted by name; the 32nd slot is `other`.
pub const CATEGORIES_MAX: usize = SLOTS_MAX - 1;

/// The hash by which a bundle lists a category: 64-bit FNV-1a of its UTF-8 bytes. Not keyed;
/// whoever crafts a collision only miscounts their own input.
pub const fn category_hash(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Counts of a categorical feature or of output classes. `T` is `u32` in a device's window and
/// `u64` where a fleet is summed.
///
/// Serialised as `[[one count per category, other], missing]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "(Vec<T, SLOTS_MAX>, T)",
    into = "(Vec<T, SLOTS_MAX>, T)",
    bound(serialize = "T: Counter + Serialize", deserialize = "T: Counter + Deserialize<'de>")
)]
pub struct CategoricalSummary<T: Counter = u32> {
    counts: [T; SLOTS_MAX],
    slots: u8,
    missing: T,
}

impl CategoricalSummary {
    /// An empty window over `categories` categories, 0 to 31; more are counted as `other`.
    pub fn new(categories: usize) -> Self {
        Self::empty(categories)
    }

    /// Counts a category by its number; numbers that are not listed count as `other`.
    #[inline]
    pub fn observe(&mut self, category: usize) {
        let slot = category.min(self.categories());
        self.counts[slot] = self.counts[slot].saturating_add(1);
    }

    /// Counts a row that had no value for this feature.
    pub fn observe_missing(&mut self) {
        self.missing = self.missing.saturating_add(1);
    }
}

impl CategoricalSummary<u64> {
    /// An empty sum over many windows and devices.
    pub fn total(categories: usize) -> Self {
        Self::empty(categories)
    }
}

impl<T: Counter> CategoricalSummary<T> {
    fn empty(categories: usize) -> Self {
        Self {
            counts: [T::default(); SLOTS_MAX],
            slots: categories.min(CATEGORIES_MAX) as u8 + 1,
            missing: T::default(),
        }
    }

    /// Categories that are counted by name.
    pub fn categories(&self) -> usize {
        usize::from(self.slots) - 1
    }

    /// One count per category, and the last for `other`.
    pub fn counts(&self) -> &[T] {
        &self.counts[..usize::from(self.slots)]
    }

    /// Rows whose category was not listed.
    pub fn other(&self) -> T {
        self.counts[self.categories()]
    }

    /// Rows without a value.
    pub fn missing(&self) -> T {
        self.missing
    }

    /// Rows with a value.
    pub fn n(&self) -> u64 {
        total_u64(self.counts())
    }

    /// Adds another summary over the same categories.
    ///
    /// # Errors
    ///
    /// [`MergeError`] for another number of categories or a counter that overflows; `self` is then
    /// unchanged.
    pub fn merge<U: Counter>(&mut self, other: &CategoricalSummary<U>) -> Result<(), MergeError> {
        if self.slots != other.slots {
            return Err(MergeError::Shape);
        }
        *self = Self {
            counts: add(&self.counts, &other.counts)?,
            slots: self.slots,
            missing: add_one(self.missing, other.missing)?,
        };
        Ok(())
    }
}

impl<T: Counter> From<CategoricalSummary<T>> for (Vec<T, SLOTS_MAX>, T) {
    fn from(summary: CategoricalSummary<T>) -> Self {
        let counts = summary.counts().iter().copied().collect();
        (counts, summary.missing)
    }
}

impl<T: Counter> TryFrom<(Vec<T, SLOTS_MAX>, T)> for CategoricalSummary<T> {
    type Error = DecodeError;

    fn try_from((counts, missing): (Vec<T, SLOTS_MAX>, T)) -> Result<Self, DecodeError> {
        let categories = counts.len().checked_sub(1).ok_or(DecodeError::Length)?;
        let mut summary = Self::empty(categories);
        summary.counts[..counts.len()].copy_from_slice(&counts);
        summary.missing = missing;
        Ok(summary)
    }
}

/// What one categorical feature, or a model's output classes, looked like at validation.
///
/// Serialised as `[hashes, counts, lower ends, upper ends]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct CategoricalReference {
    hashes: Vec<u64, CATEGORIES_MAX>,
    counts: Vec<u32, SLOTS_MAX>,
    box_lo: Vec<f32, SLOTS_MAX>,
    box_hi: Vec<f32, SLOTS_MAX>,
}

impl CategoricalReference {
    /// Makes the reference of one of `features` features. `hashes` lists the categories
    /// ([`category_hash`]; for output classes, of their labels), `counts` has one count for each
    /// and one more for all others.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::TooMany`] for more than 31 categories or counts that do not match them,
    /// [`ReferenceError::TooFew`] for fewer than 50 rows, [`ReferenceError::Config`] for an
    /// impossible α or τ.
    pub fn from_counts(
        hashes: &[u64],
        counts: &[u32],
        features: u32,
        config: &DriftConfig,
    ) -> Result<Self, ReferenceError> {
        config.check()?;
        if counts.len() != hashes.len() + 1 {
            return Err(ReferenceError::TooMany);
        }
        let hashes = Vec::from_slice(hashes).map_err(|_| ReferenceError::TooMany)?;
        let counts = Vec::from_slice(counts).map_err(|_| ReferenceError::TooMany)?;
        let have = usize::try_from(total_u64(&counts)).unwrap_or(usize::MAX);
        let need = crate::reference::SAMPLE_MIN;
        if have < need {
            return Err(ReferenceError::TooFew { have, need });
        }
        let (mut lo, mut hi) = ([0.0; SLOTS_MAX], [0.0; SLOTS_MAX]);
        let (lo, hi) = (&mut lo[..counts.len()], &mut hi[..counts.len()]);
        let alpha = config.alpha_reference(features);
        tolerance_box(&counts, config.tau, alpha, lo, hi);
        Ok(Self {
            hashes,
            counts,
            box_lo: lo.iter().map(|&p| round_down(p)).collect(),
            box_hi: hi.iter().map(|&p| round_up(p)).collect(),
        })
    }

    /// Hashes of the listed categories, in the order of their numbers.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The number of a category, for [`CategoricalSummary::observe`]; one that is not listed gets
    /// the number of `other`.
    pub fn category(&self, hash: u64) -> usize {
        let found = self.hashes.iter().position(|&listed| listed == hash);
        found.unwrap_or(self.hashes.len())
    }

    /// An empty window over this reference's categories.
    pub fn summary(&self) -> CategoricalSummary {
        CategoricalSummary::new(self.hashes.len())
    }

    /// What the test needs of this reference.
    pub fn null(&self) -> Null<'_> {
        Null { counts: &self.counts, box_lo: &self.box_lo, box_hi: &self.box_hi }
    }

    /// Tests counts (`other` last) as one of `features` features.
    ///
    /// # Panics
    ///
    /// When the number of categories differs from the reference's.
    pub fn test<C: Number>(&self, counts: &[C], features: u32, config: &DriftConfig) -> Verdict {
        self.null().test(counts, features, config)
    }
}

#[derive(Serialize, Deserialize)]
struct Wire(
    Vec<u64, CATEGORIES_MAX>,
    Vec<u32, SLOTS_MAX>,
    Vec<f32, SLOTS_MAX>,
    Vec<f32, SLOTS_MAX>,
);

impl From<CategoricalReference> for Wire {
    fn from(r: CategoricalReference) -> Self {
        Self(r.hashes, r.counts, r.box_lo, r.box_hi)
    }
}

impl TryFrom<Wire> for CategoricalReference {
    type Error = DecodeError;

    fn try_from(Wire(hashes, counts, box_lo, box_hi): Wire) -> Result<Self, DecodeError> {
        let slots = hashes.len() + 1;
        if counts.len() != slots || box_lo.len() != slots || box_hi.len() != slots {
            return Err(DecodeError::Length);
        }
        if !holds_probabilities(&box_lo, &box_hi) {
            return Err(DecodeError::Box);
        }
        Ok(Self { hashes, counts, box_lo, box_hi })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlisted_categories_are_other() {
        let hashes = [category_hash(b"rain"), category_hash(b"sun")];
        let config = DriftConfig::default();
        let reference =
            CategoricalReference::from_counts(&hashes, &[400, 600, 0], 1, &config).unwrap();
        let mut window = reference.summary();
        for name in ["sun", "rain", "sun", "hail"] {
            window.observe(reference.category(category_hash(name.as_bytes())));
        }
        window.observe_missing();
        assert_eq!(window.counts(), [1, 2, 1]);
        assert_eq!((window.n(), window.other(), window.missing()), (4, 1, 1));
    }

    #[test]
    fn a_category_never_seen_before_alarms() {
        let config = DriftConfig::default();
        let reference = CategoricalReference::from_counts(&[1], &[5_000, 0], 20, &config).unwrap();
        let quiet = reference.test(&[200_u32, 0], 20, &config);
        assert!(matches!(quiet, Verdict::Quiet { .. }), "{quiet:?}");
        let alarm = reference.test(&[190_u32, 10], 20, &config);
        assert!(matches!(alarm, Verdict::Alarm { .. }), "{alarm:?}");
    }

    #[test]
    fn merging_checks_categories_and_width() {
        let mut narrow = CategoricalSummary::new(2);
        narrow.observe(0);
        assert_eq!(narrow.merge(&CategoricalSummary::new(3)), Err(MergeError::Shape));
        let mut wide = CategoricalSummary::total(2);
        wide.counts[0] = u64::from(u32::MAX);
        wide.merge(&narrow).unwrap();
        assert_eq!(narrow.merge(&wide), Err(MergeError::Overflow));
        assert_eq!(narrow.counts(), [1, 0, 0]);
    }

    #[test]
    fn fnv_of_the_published_test_vectors() {
        assert_eq!(category_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(category_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(category_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
