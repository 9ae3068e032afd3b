//! Clients at full rate notice nothing of a hundred switches but the version.
#![allow(missing_docs)]

mod client;
mod digits;
mod switching;

use std::time::Duration;

const SWITCHES: usize = 100;

#[test]
fn no_request_fails_through_a_hundred_switches() {
    let seen = switching::switch(SWITCHES, 2, Duration::from_millis(1));
    let (during, [old, new]) = (seen.during().count(), seen.versions);
    assert_eq!(seen.failed, 0, "of {during} requests during switches");
    assert!(during > SWITCHES * 10, "the clients asked only {during} times");
    assert!(old > SWITCHES && new > SWITCHES, "{old} and {new} answers");
}
