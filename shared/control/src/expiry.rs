//! What expires, and from when on somebody must be told.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Days ahead of an expiry on which people are told, the earliest first.
const AHEAD_DAYS: [u64; 3] = [30, 7, 1];

const DAY_SECONDS: u64 = 24 * 3600;

/// Who sees to it that something is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// A person, with the command that does it.
    ByHand(&'static str),
    /// The controller, when half of this many seconds is over. Only a renewal that does not come is
    /// news.
    ByItself {
        /// How long it is good for when it is new.
        lifetime_seconds: u64,
    },
}

/// Something that expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// What: a role, or a certificate.
    pub what: String,
    /// Its version, if it has one.
    pub version: Option<u64>,
    /// When, Unix seconds.
    pub expires: u64,
    /// Who renews it.
    pub renewal: Renewal,
}

/// How near an expiry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// So many days at most: 30, 7 or 1.
    Days(u64),
    /// It is over.
    Over,
}

impl Expiry {
    /// How near it is at `now`, Unix seconds; none if nobody needs to know.
    pub fn nearness(&self, now: u64) -> Option<Nearness> {
        let left = self.expires.saturating_sub(now);
        if left == 0 {
            return Some(Nearness::Over);
        }
        let within = |days: &&u64| left <= *days * DAY_SECONDS;
        let days = AHEAD_DAYS.iter().rev().find(within)?;
        match self.renewal {
            // Half of it is left at worst if renewing works; a quarter is late.
            Renewal::ByItself { lifetime_seconds } if left > lifetime_seconds / 4 => None,
            _ => Some(Nearness::Days(*days)),
        }
    }

    /// What to tell people at `now`, Unix seconds; none if nobody needs to know.
    pub fn warning(&self, now: u64) -> Option<String> {
        self.nearness(now)?;
        let what = &self.what;
        let when = match self.expires.saturating_sub(now) {
            0 => "has expired: devices install nothing new".to_owned(),
            left @ 1..DAY_SECONDS => format!("expires in {} h", left / 3600),
            left => format!("expires in {} days", left / DAY_SECONDS),
        };
        Some(match self.renewal {
            Renewal::ByHand(command) => format!("{what} {when}: {command}"),
            Renewal::ByItself { .. } => {
                format!("{what} {when} and was not renewed: see the controller's log")
            }
        })
    }
}

/// Tells of every expiry as it comes nearer, once at each step.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<String, (u64, Nearness)>);

impl Told {
    /// Says what is news at `now`, Unix seconds.
    pub fn news(&mut self, expiries: &[Expiry], now: u64) -> Vec<String> {
        let mut news = Vec::new();
        for expiry in expiries {
            let Some(nearness) = expiry.nearness(now) else {
                self.0.remove(&expiry.what);
                continue;
            };
            let step = (expiry.expires, nearness);
            if self.0.insert(expiry.what.clone(), step) != Some(step) {
                news.extend(expiry.warning(now));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(days: u64) -> Expiry {
        let renewal = Renewal::ByHand("run x");
        Expiry { what: "root".into(), version: Some(1), expires: days * DAY_SECONDS, renewal }
    }

    #[test]
    fn people_are_told_30_7_and_1_days_ahead() {
        let expiry = root(100);
        let at = |days_left: u64| expiry.nearness((100 - days_left) * DAY_SECONDS);
        assert_eq!(at(31), None);
        assert_eq!(at(30), Some(Nearness::Days(30)));
        assert_eq!(at(8), Some(Nearness::Days(30)));
        assert_eq!(at(7), Some(Nearness::Days(7)));
        assert_eq!(at(1), Some(Nearness::Days(1)));
        assert_eq!(at(0), Some(Nearness::Over));
        let warning = expiry.warning(70 * DAY_SECONDS).unwrap();
        assert_eq!(warning, "root expires in 30 days: run x");
    }

    #[test]
    fn what_renews_itself_is_only_news_when_it_did_not() {
        let lifetime_seconds = 8 * DAY_SECONDS;
        let renewal = Renewal::ByItself { lifetime_seconds };
        let expiry = Expiry { renewal, ..root(100) };
        assert_eq!(expiry.nearness(96 * DAY_SECONDS), None);
        assert_eq!(expiry.nearness(98 * DAY_SECONDS), Some(Nearness::Days(7)));
        assert!(expiry.warning(98 * DAY_SECONDS).unwrap().contains("was not renewed"));
    }

    #[test]
    fn each_step_is_news_once() {
        let mut told = Told::default();
        let mut news = |days: u64| told.news(&[root(100)], days * DAY_SECONDS).len();
        assert_eq!(
            [news(60), news(70), news(75), news(93), news(94), news(99), news(101)],
            [0, 1, 0, 1, 0, 1, 1]
        );
        assert_eq!(told.news(&[root(500)], 101 * DAY_SECONDS), Vec::<String>::new());
    }
}
