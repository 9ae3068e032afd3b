//! A text that is being written, and where it stops.

use super::super::text::{Ending, Reader};

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
    use std::ops::ControlFlow;

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
