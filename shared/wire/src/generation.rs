//! Generations of directives.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The number of a directive, per fleet and model. Generations only rise: a device ignores any
/// directive that is older than the newest it has seen, so going back to an older *model* is a
/// newer *generation*.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The next higher generation.
    ///
    /// # Panics
    /// After 2⁶⁴−1 directives for one model.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("fewer than 2^64 directives"))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
