//! Text in, text out: what is asked of an engine that writes, and what it says.

use std::ops::ControlFlow;
use std::time::Instant;

/// Where a text is taken up, and how it is to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The text so far, with whatever marks the model was trained to see around it.
    pub text: String,
    /// Tokens to write at most; none: as many as the model's settings say.
    pub tokens_max: Option<usize>,
    /// How far from the likeliest token to stray; 0 always takes the likeliest.
    pub temperature: f64,
    /// Draw only from the likeliest tokens that have this share of the probability together;
    /// none: from all. Means nothing at temperature 0.
    pub top_p: Option<f64>,
    /// Where the draws begin: the same seed draws the same text.
    pub seed: u64,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// When to give up.
    pub deadline: Option<Instant>,
}

impl Prompt {
    /// The likeliest continuation of `text`, as long as the model's settings allow.
    pub fn greedy(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tokens_max: None,
            temperature: 0.0,
            top_p: None,
            seed: 0,
            stop: Vec::new(),
            deadline: None,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model said so.
    EndOfText,
    /// One of the prompt's stop strings would have come.
    StopString,
    /// As many tokens as were allowed, or as fit into the model's context.
    Length,
    /// The prompt's deadline has passed.
    Deadline,
    /// Nobody reads it any more.
    Unread,
}

impl Ending {
    /// The word for it in answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::EndOfText | Self::StopString => "stop",
            Self::Length => "length",
            Self::Deadline => "deadline",
            Self::Unread => "unread",
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// All pieces together, without the prompt.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens written.
    pub tokens: usize,
}

/// Takes a text piece by piece. It is also called with nothing, at least once a token, and says
/// whether anybody still reads.
pub type Reader<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// A text that is being written: holds back what may become a stop string.
pub(super) struct Draft<'a> {
    stop: &'a [String],
    text: String,
    /// Bytes of `text` that were handed on.
    shown: usize,
}

impl<'a> Draft<'a> {
    /// Nothing yet.
    pub(super) fn new(stop: &'a [String]) -> Self {
        Self { stop, text: String::new(), shown: 0 }
    }

    /// Adds a piece and hands on what is certain; an ending if there is a reason for one.
    pub(super) fn push(&mut self, piece: &str, read: &mut Reader<'_>) -> Option<Ending> {
        // A stop string may have begun before this piece, but not in what was shown.
        self.text.push_str(piece);
        let open = &self.text[self.shown..];
        let found = self.stop.iter().filter(|stop| !stop.is_empty());
        if let Some(place) = found.filter_map(|stop| open.find(stop.as_str())).min() {
            self.text.truncate(self.shown + place);
            return Some(self.finish(Ending::StopString, read));
        }
        let certain = self.text.len() - self.undecided();
        self.show(certain, read)
    }

    /// Hands on the rest.
    pub(super) fn finish(&mut self, ending: Ending, read: &mut Reader<'_>) -> Ending {
        self.show(self.text.len(), read).unwrap_or(ending)
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn show(&mut self, until: usize, read: &mut Reader<'_>) -> Option<Ending> {
        let piece = &self.text[self.shown..until];
        self.shown = until;
        read(piece).is_break().then_some(Ending::Unread)
    }

    /// Bytes at the end with which a stop string could begin.
    fn undecided(&self) -> usize {
        let open = &self.text[self.shown..];
        let begins = |from: &usize| {
            let rest = &open[*from..];
            self.stop.iter().any(|stop| stop.starts_with(rest))
        };
        let mut places = open.char_indices().map(|(place, _)| place);
        places.find(|place| begins(place)).map_or(0, |place| open.len() - place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces that are shown of `pieces`, what ended them, and the whole text.
    fn draft(stop: &[&str], pieces: &[&str]) -> (Vec<String>, Option<Ending>, String) {
        let stop: Vec<String> = stop.iter().map(|stop| stop.to_string()).collect();
        let mut shown = Vec::new();
        let mut read = |piece: &str| {
            shown.push(piece.to_string());
            ControlFlow::Continue(())
        };
        let mut draft = Draft::new(&stop);
        let mut ending = pieces.iter().find_map(|piece| draft.push(piece, &mut read));
        if ending.is_none() {
            draft.finish(Ending::Length, &mut read);
            ending = None;
        }
        shown.retain(|piece| !piece.is_empty());
        (shown, ending, draft.into_text())
    }

    #[test]
    fn what_may_become_a_stop_string_is_held_back() {
        let (shown, ending, text) = draft(&["END"], &["one E", "N", "x", " two"]);
        assert_eq!((shown, ending), (vec!["one ".into(), "ENx".into(), " two".into()], None));
        assert_eq!(text, "one ENx two");
    }

    #[test]
    fn the_text_ends_before_the_first_stop_string() {
        let (shown, ending, text) = draft(&["\n\n", "END"], &["a\n", "b E", "ND c\n\n"]);
        assert_eq!(ending, Some(Ending::StopString));
        assert_eq!((shown.concat(), text), ("a\nb ".to_string(), "a\nb ".to_string()));
        let (_, _, text) = draft(&["lo", "l"], &["hello"]);
        assert_eq!(text, "he");
    }

    #[test]
    fn pieces_may_end_within_no_letter() {
        let (shown, _, text) = draft(&["é!"], &["caf", "é", "s"]);
        assert_eq!((shown, text), (vec!["caf".into(), "és".into()], "cafés".to_string()));
    }

    #[test]
    fn nobody_reading_ends_it() {
        let stop = Vec::new();
        let mut draft = Draft::new(&stop);
        let ending = draft.push("a", &mut |_: &str| ControlFlow::Break(()));
        assert_eq!(ending, Some(Ending::Unread));
    }
}
