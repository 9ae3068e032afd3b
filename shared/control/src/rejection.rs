//! What is turned away, by where and why: a closed list, so that nobody outside can make counters
//! grow.

macro_rules! rejections {
    ($($(#[$doc:meta])* $name:ident = $place:literal, $reason:literal;)*) => {
        /// What was turned away, and where.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rejection {
            $($(#[$doc])* $name,)*
        }

        impl Rejection {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Rejection] = &[$(Rejection::$name),*];

            /// Where: the label `where`.
            pub fn place(self) -> &'static str {
                match self { $(Self::$name => $place,)* }
            }

            /// Why: the label `reason`.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

rejections! {
    /// A report or status is no deterministic CBOR of the expected shape.
    Malformed = "ingest", "malformed";
    /// A message of a version that this build does not read.
    UnsupportedVersion = "ingest", "unsupported-version";
    /// A message with more bytes than its kind may have.
    TooLarge = "ingest", "too-large";
    /// A message of another kind than its topic carries.
    WrongKind = "ingest", "wrong-kind";
    /// A report for another fleet.
    WrongFleet = "ingest", "wrong-fleet";
    /// A topic that devices do not publish on.
    WrongTopic = "ingest", "wrong-topic";
    /// A message that names another device than its topic does.
    WrongDevice = "ingest", "wrong-device";
    /// A message on the topic of a device that is not in.
    UnknownDevice = "ingest", "unknown-device";
    /// A report whose numbers contradict each other.
    ImpossibleNumbers = "ingest", "impossible-numbers";

    /// A session under another name than the one it was let in with.
    Identity = "broker", "identity";
    /// A session whose name or password nobody has.
    Credentials = "broker", "credentials";
    /// Publishing on a topic that is not the device's own.
    Publish = "broker", "publish";
    /// Subscribing to a filter that is not meant for the device.
    Subscribe = "broker", "subscribe";

    /// A request without a token.
    NoToken = "api", "no-token";
    /// A token that cannot be one.
    MalformedToken = "api", "malformed-token";
    /// A token that nobody was given.
    UnknownToken = "api", "unknown-token";
    /// A token that was revoked.
    RevokedToken = "api", "revoked-token";
    /// A token whose time is over.
    ExpiredToken = "api", "expired-token";
    /// A token whose time has not come.
    EarlyToken = "api", "early-token";
    /// A token without the role that the request needs.
    Role = "api", "role";
    /// A request that is not well formed, or asks for what cannot be.
    BadRequest = "api", "bad-request";
    /// A request that signatures or an enrolment token do not allow.
    Forbidden = "api", "forbidden";
    /// A request for what is not there.
    NotFound = "api", "not-found";
    /// A request that contradicts what was decided before.
    Conflict = "api", "conflict";
    /// A body with too many bytes.
    BodyTooLarge = "api", "too-large";
    /// A request that failed on our side.
    Failed = "api", "failed";
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn everything_has_a_name_of_its_own() {
        let names = Rejection::ALL.iter().map(|one| (one.place(), one.reason()));
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rejection::ALL.len());
    }
}
