//! Numbered reasons: why something was refused, taken back or held.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a device or the controller refused, reverted or stopped something.
        ///
        /// The number is what travels and never changes its meaning; the hundreds say in which
        /// phase. A number that this build does not know stays visible as [`Reason::Other`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// A code from a newer build.
            Other(u16),
        }

        impl Reason {
            /// Every reason that this build knows.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// The number that travels.
            pub fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// What a person reads.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "reason unknown to this version",
                }
            }
        }

        impl From<u16> for Reason {
            fn from(code: u16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

reasons! {
    /// The blob server could not be reached, or broke off and retries ran out.
    Unreachable = 100, "the blob server cannot be reached";
    /// The blob server does not have the blob.
    BlobNotFound = 101, "the blob server does not have a file of this artifact";
    /// More bytes came than the manifest allows.
    TooLong = 102, "more bytes arrived than were signed for";
    /// Fewer bytes came than the manifest says.
    TooShort = 103, "fewer bytes arrived than were signed for";
    /// The bytes are not the ones that were signed.
    DigestMismatch = 104, "the bytes are not the ones that were signed (SHA-256 differs)";
    /// The device's disk is full.
    DiskFull = 105, "the disk is full";
    /// The device's disk failed in another way.
    StorageFailed = 106, "the disk reported an error";

    /// A signature does not verify.
    SignatureInvalid = 200, "a signature does not verify";
    /// Too few valid signatures by distinct keys of the role.
    ThresholdNotMet = 201, "too few valid signatures";
    /// The metadata has expired.
    MetadataExpired = 202, "the metadata has expired";
    /// The metadata is older than what was already trusted.
    MetadataRollback = 203, "the metadata is older than what is already trusted";
    /// The targets metadata does not name the artifact.
    UnknownArtifact = 204, "no signed release names this artifact";
    /// The publishers revoked the artifact.
    Revoked = 205, "the publishers revoked this artifact";
    /// The artifact is below the device's rollback floor.
    BelowFloor = 206, "the artifact is below the rollback floor";
    /// The artifact needs an engine, label, memory or agent that the device lacks.
    Incompatible = 207, "the artifact does not fit this device";
    /// The bytes are not a well-formed message of the expected kind.
    Malformed = 208, "the message is malformed";
    /// The message has a version that this build does not know.
    UnsupportedVersion = 209, "the message has an unsupported version";
    /// The message is for another fleet.
    WrongFleet = 210, "the message is for another fleet";
    /// The message is larger than its kind may be.
    TooLarge = 211, "the message is larger than its kind may be";
    /// The directive is older than one already seen.
    StaleGeneration = 212, "the directive is older than one already seen";
    /// Metadata files do not belong together.
    MetadataMismatch = 213, "the metadata files do not belong together";
    /// The message is about another model or device than its topic says.
    WrongTopic = 214, "the message does not belong on its topic";

    /// The engine could not load the model.
    LoadFailed = 300, "the engine cannot load the model";
    /// The model uses an operator that the engine lacks.
    UnsupportedOperator = 301, "the model uses an operator that the engine lacks";
    /// Golden inputs did not give golden outputs.
    GoldenMismatch = 302, "golden inputs do not give the golden outputs";
    /// Loading took too long.
    LoadTooSlow = 303, "loading took longer than allowed";
    /// Loading took too much memory.
    TooMuchMemory = 304, "loading took more memory than allowed";
    /// The model's tensors are not those of the manifest.
    SchemaMismatch = 305, "the model's tensors are not those of its manifest";

    /// The candidate disagreed with the active model too often.
    Disagreement = 400, "it disagrees with the active model on live inputs";
    /// The candidate failed on live inputs.
    ShadowErrors = 401, "it fails on live inputs";
    /// The candidate is too slow on live inputs.
    ShadowTooSlow = 402, "it is too slow on live inputs";

    /// Too many inferences failed on probation.
    ErrorRate = 500, "too many inferences failed on probation";
    /// Predictions drifted away from the previous model's.
    PredictionDrift = 501, "its predictions drifted from the previous model's";
    /// Confidence drifted away from the previous model's.
    ConfidenceDrift = 502, "its confidence drifted from the previous model's";
    /// The model became too slow.
    Latency = 503, "it is too slow on probation";
    /// The process died too often with this model.
    CrashLoop = 504, "the agent died too often with it";
    /// Outputs were NaN or infinite, or inputs outside the range that the model was made for.
    OutOfRange = 505, "live inputs lie outside the range it was made for";
    /// Outputs were not numbers.
    InvalidOutput = 506, "its outputs are not numbers";
    /// The active model could not be loaded again after a restart.
    ActiveUnusable = 507, "the active model can no longer be loaded";
    /// Its own humility rules doubt too many of its answers.
    Humility = 508, "its humility rules doubt too many of its answers";
    /// The system ended the agent for want of memory, too often with this model.
    OutOfMemory = 509, "the agent ran out of memory with it too often";

    /// The controller directed the device to another artifact meanwhile.
    Superseded = 600, "a newer directive names another artifact";
    /// An operator asked for it.
    Operator = 601, "an operator asked for it";

    /// Too many devices failed or timed out.
    MaxFailures = 700, "too many devices failed";
    /// The share of failed devices is certainly too high.
    FailureShare = 701, "the share of failed devices is too high";
    /// Devices with the new artifact drifted from the control cohort.
    ControlDrift = 702, "devices with it drifted from the control cohort";
    /// Devices with the new artifact have more errors than the control cohort.
    ControlErrors = 703, "devices with it fail more often than the control cohort";
    /// The device took longer than the wave allows.
    TimedOut = 704, "the device took longer than the wave allows";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "{} ({code})", self.text()),
            known => f.write_str(known.text()),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_reversible() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from(reason.code()), *reason);
            let twins = Reason::ALL[index + 1..].iter().filter(|r| r.code() == reason.code());
            assert_eq!(twins.count(), 0, "{reason:?}");
        }
        assert_eq!(Reason::from(9).code(), 9);
    }
}
