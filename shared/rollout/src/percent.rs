//! Shares of a fleet, exact to a thousandth of a percent.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A share from 0 to 100 %, in thousandths of a percent so that "0.1 % of 40,000 devices" is a
/// whole number and the same on every machine.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Percent(u32);

/// Thousandths of a percent in a whole.
const WHOLE: u64 = 100_000;

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(WHOLE as u32);

    /// A whole number of percent; more than 100 becomes 100.
    pub const fn whole(percent: u32) -> Self {
        if percent >= 100 { Self::ALL } else { Self(percent * 1000) }
    }

    /// From a number of percent with at most three decimals. None: out of range, or finer.
    pub fn from_f64(percent: f64) -> Option<Self> {
        let thousandths = libm::round(percent * 1000.0);
        let exact = libm::fabs(thousandths - percent * 1000.0) < 1e-6;
        let in_range = (0.0..=WHOLE as f64).contains(&thousandths);
        (exact && in_range).then_some(Self(thousandths as u32))
    }

    /// What share `part` is of `whole`, rounded down; 0 of 0 is nothing.
    pub fn share(part: u64, whole: u64) -> Self {
        let thousandths = u128::from(part) * u128::from(WHOLE) / u128::from(whole.max(1));
        Self(thousandths.min(u128::from(WHOLE)) as u32)
    }

    /// This share of `count`, rounded up: 1 % of 3 devices is one device, never none.
    pub fn of(self, count: u32) -> u32 {
        (u64::from(count) * u64::from(self.0)).div_ceil(WHOLE) as u32
    }

    /// Thousandths of a percent, 0 to 100,000.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// 0.0 to 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / WHOLE as f64
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        match rest {
            0 => write!(f, "{whole} %"),
            _ if rest % 100 == 0 => write!(f, "{whole}.{} %", rest / 100),
            _ if rest % 10 == 0 => write!(f, "{whole}.{:02} %", rest / 10),
            _ => write!(f, "{whole}.{rest:03} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn rounds_up_devices_and_never_takes_too_many() {
        assert_eq!(Percent::whole(1).of(3), 1);
        assert_eq!(Percent::whole(50).of(12), 6);
        assert_eq!(Percent::whole(50).of(13), 7);
        assert_eq!(Percent::ALL.of(u32::MAX), u32::MAX);
        assert_eq!(Percent::from_f64(0.1).unwrap().of(40_000), 40);
        assert_eq!(Percent::ZERO.of(9), 0);
    }

    #[test]
    fn reads_and_shows_three_decimals() {
        for text in ["0 %", "12.5 %", "0.001 %", "0.25 %", "100 %"] {
            let number = text.trim_end_matches(" %").parse().unwrap();
            assert_eq!(Percent::from_f64(number).unwrap().to_string(), text);
        }
        for bad in [-1.0, 100.001, 0.0005, f64::NAN, f64::INFINITY] {
            assert_eq!(Percent::from_f64(bad), None, "{bad}");
        }
        assert_eq!(Percent::share(1, 3).to_string(), "33.333 %");
        assert_eq!(Percent::share(0, 0), Percent::ZERO);
    }
}
