//! What everybody must know at any time, retained by the broker: the newest timestamp and every
//! model's newest directive; and whether some of it is still owed.

use alloc::vec::Vec;

use tidegate_wire::ModelName;
use tidegate_wire::topic::Topic;

use crate::state::State;

/// Everything that is retained, for a broker that may have lost its memory.
pub fn retained(state: &State, timestamp: Option<Vec<u8>>) -> Vec<(Topic, Vec<u8>)> {
    let directives = state.directives.iter();
    let directives =
        directives.map(|(model, issued)| (Topic::Directive(model.clone()), issued.signed.clone()));
    timestamp.map(|bytes| (Topic::Timestamp, bytes)).into_iter().chain(directives).collect()
}

/// A model's newest directive, to be sent retained.
pub fn newest(state: &State, model: &ModelName) -> Option<(Topic, Vec<u8>)> {
    let issued = state.directives.get(model)?;
    Some((Topic::Directive(model.clone()), issued.signed.clone()))
}

/// What became of a message that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is on its way, or will be said on the next connection.
    Taken,
    /// There was no room for it.
    Refused,
}

/// Whether something retained could not be sent and must be announced again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owed {
    /// All of it was sent, or will be on the next connection.
    #[default]
    Nothing,
    /// Some of it was not, so that all is announced again ([`retained`]).
    Everything,
}

impl Owed {
    /// Something retained was sent, or was not.
    pub fn note(&mut self, sending: Sending) {
        if sending == Sending::Refused {
            *self = Self::Everything;
        }
    }

    /// What is owed, by whoever announces it now.
    pub fn settle(&mut self) -> Self {
        core::mem::take(self)
    }
}
