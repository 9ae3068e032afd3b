//! What the programs of the comparison share: how many measurements become a few figures.

use std::time::{Duration, Instant};

/// Measurements of the same thing.
#[derive(Debug, Clone, Default)]
pub struct Times {
    each: Vec<Duration>,
    all: Duration,
}

/// When to stop measuring: whichever comes first, but not before `runs_min`.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Runs at least.
    pub runs_min: usize,
    /// Runs at most.
    pub runs_max: usize,
    /// Time for all of them.
    pub time: Duration,
}

impl Times {
    /// Runs `work` until a bound is met, one after another. The first error ends it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn measure<E>(
        bounds: Bounds,
        mut work: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        let begun = Instant::now();
        let mut each = Vec::new();
        while each.len() < bounds.runs_min
            || each.len() < bounds.runs_max && begun.elapsed() < bounds.time
        {
            let one = Instant::now();
            work(each.len())?;
            each.push(one.elapsed());
        }
        let all = begun.elapsed();
        each.sort_unstable();
        Ok(Self { each, all })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// The time within which this share of them was done, microseconds.
    pub fn at_us(&self, share: f64) -> f64 {
        let last = self.each.len().saturating_sub(1);
        let place = (share * last as f64) as usize;
        self.each.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    /// Runs a second.
    pub fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_errors_end_it() {
        let bounds = Bounds { runs_min: 2, runs_max: 5, time: Duration::from_secs(3600) };
        let mut calls = 0;
        let times = Times::measure(bounds, |_| {
            calls += 1;
            Ok::<_, ()>(())
        });
        assert_eq!((times.unwrap().count(), calls), (5, 5));
        let none = Bounds { time: Duration::ZERO, ..bounds };
        let times = Times::measure(none, |_| Ok::<_, ()>(())).unwrap();
        assert_eq!(times.count(), 2);
        assert!(times.at_us(0.5) <= times.at_us(1.0) && times.per_second() > 0.0);
        assert_eq!(
            Times::measure(bounds, |run| if run == 1 { Err(run) } else { Ok(()) }).err(),
            Some(1)
        );
    }
}
