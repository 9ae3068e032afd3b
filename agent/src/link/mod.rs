//! The link to the controller over MQTT, as the rest of the agent sees it.
//!
//! The seam has two sides: an [`Uplink`] takes publications and never waits, and [`LinkEvent`]s come
//! out of a channel. [`mqtt`] is the real one; tests use channels.

mod farewell;
pub mod mqtt;
mod transport;

use tidegate_wire::topic::Topic;

pub use transport::Door;

/// What happens on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, and asked for all topics again, whether or not the broker still knew them.
    Up,
    /// Not connected; the link tries again by itself.
    Down {
        /// Why, for people.
        why: String,
    },
    /// Another agent connected with this device's id.
    TakenOver,
    /// A message came.
    Message {
        /// Where.
        topic: Topic,
        /// What; nothing of it was checked.
        payload: Vec<u8>,
    },
}

/// Whether the broker keeps a publication for those who come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Only who is there gets it.
    Pass,
    /// The broker keeps it as the topic's last word.
    Retain,
}

/// The link has no room now, or is down: keep it and try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link takes nothing now")]
pub struct Busy;

/// The sending side of the link. QoS 1 throughout.
pub trait Uplink: Send + Sync {
    /// Hands a publication over. Never blocks; that it was taken does not mean that it arrived.
    ///
    /// # Errors
    /// [`Busy`] if it was not taken.
    fn try_publish(&self, topic: &Topic, payload: Vec<u8>, keep: Keep) -> Result<(), Busy>;
}
