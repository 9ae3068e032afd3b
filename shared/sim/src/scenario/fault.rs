//! What can go wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Who;

/// Something goes wrong for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// From when, seconds since the start.
    pub from_s: u64,
    /// Until when, seconds since the start.
    pub until_s: u64,
    /// Whom it befalls.
    pub who: Who,
    /// What it is.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What a power cut leaves of the last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wreck {
    /// Everything that was written.
    Whole,
    /// Nothing that was not synced.
    Missing,
    /// Part of it.
    Torn,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $({ $($(#[$field_doc:meta])* $field:ident: $type:ty),* })?
        = $text:literal;)*) => {
        /// What goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum FaultKind {
            $($(#[$doc])* $name $({ $($(#[$field_doc])* $field: $type),* })?,)*
        }

        /// A kind of fault without its figures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultName {
            $($(#[$doc])* $name,)*
        }

        impl FaultName {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it is written in files and arguments.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl FaultKind {
            /// Its name.
            pub fn name(&self) -> FaultName {
                match self {
                    $(Self::$name { .. } => FaultName::$name,)*
                }
            }
        }
    };
}

faults! {
    /// Nothing gets through to the device, nor from it.
    Offline = "offline";
    /// Everything takes longer.
    SlowLink {
        /// Milliseconds at most, each way.
        delay_ms: u64
    } = "slow-link";
    /// The connection to the broker breaks again and again.
    CutLink {
        /// Seconds between two breaks, about.
        every_s: u64
    } = "cut-link";
    /// Messages are lost, and the connection with them.
    Loss {
        /// Of a thousand messages.
        permille: u64
    } = "loss";
    /// Messages arrive twice.
    Duplicates {
        /// Of a thousand messages.
        permille: u64
    } = "duplicates";
    /// Messages overtake one another.
    Reorders {
        /// Of a thousand messages.
        permille: u64,
        /// Milliseconds by which they are late, at most.
        delay_ms: u64
    } = "reorders";
    /// Some devices are cut off together.
    Partition = "partition";
    /// The broker cannot be reached.
    BrokerAway = "broker-away";
    /// The broker restarts without its clients' sessions.
    BrokerForgetsSessions = "broker-forgets-sessions";
    /// The broker restarts without retained messages.
    BrokerForgetsRetained = "broker-forgets-retained";
    /// At the fault's end the broker comes back with the retained messages that it had at the begin.
    BrokerRestored = "broker-restored";
    /// The broker's queue for a client is short: what does not fit is dropped.
    BrokerDrops {
        /// Messages that fit.
        room: u64
    } = "broker-drops";
    /// The mirror serves what was newest when the fault began.
    MirrorStale = "mirror-stale";
    /// The mirror serves files that end early.
    MirrorTruncates {
        /// Of a thousand answers.
        permille: u64
    } = "mirror-truncates";
    /// The mirror serves files with a flipped bit.
    MirrorFlips {
        /// Of a thousand answers.
        permille: u64
    } = "mirror-flips";
    /// The mirror serves files that do not end.
    MirrorEndless {
        /// Of a thousand answers.
        permille: u64
    } = "mirror-endless";
    /// The mirror has lost files.
    MirrorLoses {
        /// Of a thousand answers.
        permille: u64
    } = "mirror-loses";
    /// The mirror takes its time.
    MirrorSlow {
        /// Milliseconds at most.
        delay_ms: u64
    } = "mirror-slow";
    /// The mirror cannot be reached.
    MirrorAway = "mirror-away";
    /// Power is cut at a storage operation after the fault's begin.
    PowerCut {
        /// Which operation, from 0.
        operation: u64,
        /// What is left of the last writes.
        wreck: Wreck
    } = "power-cut";
    /// The disk takes nothing more.
    DiskFull = "disk-full";
    /// Some operations of the disk fail.
    BadBlocks {
        /// Of a thousand files.
        permille: u64
    } = "bad-blocks";
    /// What lies on the disk rots at the fault's begin: a bit of a file in a slot flips.
    Rot = "rot";
    /// The device's clock is wrong.
    ClockJump {
        /// Seconds by which it is ahead.
        seconds: i64
    } = "clock-jump";
    /// The device has no clock: it begins with 1970 at each start.
    NoClock = "no-clock";
    /// The agent dies again and again.
    Crashes {
        /// Seconds between two deaths, about.
        every_s: u64
    } = "crashes";
    /// The device is not there before the fault ends.
    JoinsLate = "joins-late";
    /// The device is switched off.
    Leaves = "leaves";
    /// At the fault's end the device gets its disk back as it was at the begin.
    RestoresImage = "restores-image";
    /// Another machine with a copy of the device's disk and its id comes up beside it.
    SharedId = "shared-id";
    /// The controller dies at a journal operation after the fault's begin, and starts again.
    ControllerDies {
        /// Which operation, from 0.
        operation: u64,
        /// What is left of the last writes.
        wreck: Wreck
    } = "controller-dies";
    /// The controller is away and comes back with its disk on another machine.
    ControllerMoves = "controller-moves";
    /// The controller's disk is full.
    ControllerDiskFull = "controller-disk-full";
}

impl Fault {
    /// Whether it is gone by itself once it has begun.
    pub fn is_instant(&self) -> bool {
        matches!(self.kind.name(), FaultName::PowerCut | FaultName::Rot)
    }
}

impl fmt::Display for FaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// No fault has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called {0:?}; there are: {list}", list = names())]
pub struct UnknownFault(pub String);

fn names() -> String {
    let names: Vec<_> = FaultName::ALL.iter().map(|name| name.text()).collect();
    names.join(", ")
}

impl FromStr for FaultName {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.iter().find(|name| name.text() == text);
        found.copied().ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        let kinds = [
            FaultKind::Offline,
            FaultKind::BrokerForgetsRetained,
            FaultKind::PowerCut { operation: 3, wreck: Wreck::Torn },
            FaultKind::ControllerDies { operation: 0, wreck: Wreck::Whole },
        ];
        for kind in kinds {
            let fault = Fault { from_s: 1, until_s: 2, who: Who::Device(3), kind };
            let text = toml::to_string(&fault).unwrap();
            assert!(text.contains(&format!("kind = \"{}\"", kind.name())), "{text}");
            assert_eq!(toml::from_str::<Fault>(&text).unwrap(), fault);
        }
    }

    #[test]
    fn an_unknown_fault_is_answered_with_the_known_ones() {
        let error = "gremlins".parse::<FaultName>().unwrap_err().to_string();
        assert!(error.contains("gremlins") && error.contains("mirror-stale"), "{error}");
    }
}
