//! What happened, for people, and a digest of all of it, so that two runs can be told apart.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

/// How much is kept for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing.
    Quiet,
    /// What operators do, what goes wrong, what is decided, how devices end.
    Usual,
    /// Every step of every device too.
    Everything,
}

/// Lines that are kept: more than anybody reads, few enough to print.
const LINES_MAX: usize = 4_000;

/// What happened.
#[derive(Debug)]
pub struct Timeline {
    detail: Detail,
    lines: Vec<String>,
    left_out: u64,
    digest: DefaultHasher,
}

impl Timeline {
    /// Nothing yet.
    pub fn new(detail: Detail) -> Self {
        Self { detail, lines: Vec::new(), left_out: 0, digest: DefaultHasher::new() }
    }

    /// Notes something at `at_ms` since the start. The text is only made if it is kept.
    pub fn note(&mut self, detail: Detail, at_ms: u64, text: impl FnOnce() -> String) {
        if detail > self.detail {
            return;
        }
        if self.lines.len() >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        self.lines.push(format!("{}  {}", Clock(at_ms), text()));
    }

    /// Adds to the digest: what happened, to whom, when.
    pub fn count(&mut self, at_ms: u64, what: u64, whom: u64) {
        self.digest.write_u64(at_ms);
        self.digest.write_u64(what);
        self.digest.write_u64(whom);
    }

    /// Adds bytes to the digest.
    pub fn count_bytes(&mut self, bytes: &[u8]) {
        self.digest.write(bytes);
    }

    /// The digest of everything so far.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Everything that was kept, as one text.
    pub fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "… and {} lines more", self.left_out);
        }
        text
    }
}

/// Time since the start as people read it: days, hours, minutes, seconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock(pub u64);

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0 / 1_000;
        let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
        write!(f, "{days:3}d {hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_bounded_and_says_what_it_left_out() {
        let mut timeline = Timeline::new(Detail::Usual);
        timeline.note(Detail::Everything, 0, || panic!("nobody asked for it"));
        for number in 0..LINES_MAX + 2 {
            timeline.note(Detail::Usual, 90_061_000, || format!("line {number}"));
        }
        let text = timeline.text();
        assert!(text.starts_with("  1d 01:01:01  line 0\n"), "{}", &text[..40]);
        assert!(text.ends_with("… and 2 lines more\n"));
    }
}
