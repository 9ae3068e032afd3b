//! How figures are put before people.

use alloc::vec::Vec;
use core::fmt;

use tidegate_wire::DeviceId;

/// Names that a reason gives before it only counts: what fits on one line of a terminal.
const NAMED_MAX: usize = 4;

/// Some devices: how many, and the first few by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// How many there are.
    pub count: usize,
    /// At most the first four, by id.
    pub first: Vec<DeviceId>,
}

impl Devices {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, device: &DeviceId) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(device.clone());
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, device) in self.first.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{device}")?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Milliseconds as people read them; rounded up, so that "0 s" means over.
pub(crate) struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_ceil(1000);
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => write!(f, "{seconds} s"),
            (0, minutes, 0) => write!(f, "{minutes} min"),
            (0, minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
            (hours, 0, _) => write!(f, "{hours} h"),
            (hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
        }
    }
}

/// "1 device", "2 devices".
pub(crate) struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} device{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn spans_round_up_and_drop_what_does_not_matter() {
        let cases = [(0, "0 s"), (1, "1 s"), (59_001, "1 min"), (62_000, "1 min 2 s")];
        for (ms, text) in cases.into_iter().chain([(3_600_000, "1 h"), (5_430_000, "1 h 30 min")]) {
            assert_eq!(Span(ms).to_string(), text);
        }
    }

    #[test]
    fn only_the_first_devices_are_named() {
        let mut devices = Devices::default();
        for n in 0..6 {
            devices.add(&format!("d{n}").parse().unwrap());
        }
        assert_eq!(devices.to_string(), "d0, d1, d2, d3 and 2 more");
    }
}
