//! The number types that counts come in, and what can go wrong when they are added or decoded.

use core::fmt;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Whatever the test accepts as a count or a probability: `u32` on a device, `u64` for a fleet,
/// floats for effective counts and tolerance boxes.
pub trait Number: Copy + sealed::Sealed {
    /// The value as `f64`; exact except for `u64` above 2⁵³.
    fn to_f64(self) -> f64;
}

impl Number for u32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Number for u64 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Number for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

/// An integer counter: `u32` in a device's window, `u64` where many devices are summed.
pub trait Counter: Number + Default + Eq + Into<u64> + TryFrom<u64> {}

impl Counter for u32 {}
impl Counter for u64 {}

/// `into[j] + from[j]` for every j, or `Overflow`; counters may differ in width.
pub(crate) fn add<T: Counter, U: Counter, const N: usize>(
    into: &[T; N],
    from: &[U; N],
) -> Result<[T; N], MergeError> {
    let mut sum = *into;
    for (slot, &more) in sum.iter_mut().zip(from) {
        *slot = add_one(*slot, more)?;
    }
    Ok(sum)
}

/// `a + b`, or `Overflow` where `T` cannot hold it.
pub(crate) fn add_one<T: Counter, U: Counter>(a: T, b: U) -> Result<T, MergeError> {
    let wide = a.into().checked_add(b.into());
    wide.and_then(|sum| T::try_from(sum).ok()).ok_or(MergeError::Overflow)
}

/// Sum of counters as `f64`, so that hostile input cannot overflow it.
pub(crate) fn total<C: Number>(counts: &[C]) -> f64 {
    counts.iter().map(|&count| count.to_f64()).sum()
}

/// Sum of counters, stopping at the largest `u64` rather than wrapping.
pub(crate) fn total_u64<C: Counter>(counts: &[C]) -> u64 {
    counts.iter().fold(0, |sum: u64, &count| sum.saturating_add(count.into()))
}

/// Why two summaries were not merged; the target is then unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// A counter would exceed its type. Merge into the wider (`u64`, [`crate::NumericTotal`])
    /// form, or close the sum and begin another.
    Overflow,
    /// The two describe different things: other categories, or other latency bins.
    Shape,
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overflow => "a counter would overflow: merge into the wider form",
            Self::Shape => "the summaries have different categories or bins",
        })
    }
}

impl core::error::Error for MergeError {}

/// Why decoded bytes were no valid summary or reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Counters that no sequence of observations could have left.
    Impossible,
    /// A length or index beyond what the type has room for.
    Length,
    /// Edges that do not ascend, or a number that must be finite and is not.
    Edges,
    /// A tolerance box that does not hold a probability vector.
    Box,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Impossible => "counters contradict one another",
            Self::Length => "wrong number of bins, categories or counts",
            Self::Edges => "bin edges or scale are not finite and ascending",
            Self::Box => "tolerance box holds no probability vector",
        })
    }
}

impl core::error::Error for DecodeError {}
