//! What must hold of every decoder of bytes from outside, whatever the bytes are.
//!
//! Each [`Target`] is a function of bytes that panics only if a property is broken: that nothing
//! panics on bytes, that limits hold, that what was read is written again as the same bytes. So the
//! same functions are driven by libFuzzer for hours (`run.sh`) and by `cargo test` for seconds, over
//! the inputs in `corpus/` and over what [`Mutator`] makes of them.
//!
//! Where a checksum or a signature stands before a decoder, a target makes it right itself: the
//! bytes are what was signed, not the signature.

mod books;
#[cfg(feature = "shells")]
mod bundle;
mod cose;
mod fetch;
#[cfg(feature = "shells")]
mod inference;
mod journal;
mod messages;
mod metadata;
mod mutate;
mod policy;
mod record;
mod refresh;
mod script;
#[cfg(feature = "shells")]
mod tensors;
mod texts;
mod trees;

pub use books::books;
#[cfg(feature = "shells")]
pub use bundle::bundle;
pub use cose::cose;
pub use fetch::fetch;
#[cfg(feature = "shells")]
pub use inference::inference;
pub use journal::journal;
pub use messages::messages;
pub use metadata::metadata;
pub use mutate::Mutator;
pub use policy::policy;
pub use record::record;
pub use refresh::refresh;
#[cfg(feature = "shells")]
pub use tensors::tensors;
pub use texts::texts;
pub use trees::trees;

/// One decoder, or a few that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of the fuzz target and of its folder in `corpus/`.
    pub name: &'static str,
    /// What must not panic.
    pub run: fn(&[u8]),
    /// Inputs to begin with, which reach deep.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "messages", run: messages, seeds: messages::seeds },
    Target { name: "cose", run: cose, seeds: cose::seeds },
    Target { name: "metadata", run: metadata, seeds: metadata::seeds },
    Target { name: "refresh", run: refresh, seeds: refresh::seeds },
    Target { name: "texts", run: texts, seeds: texts::seeds },
    Target { name: "record", run: record, seeds: record::seeds },
    Target { name: "fetch", run: fetch, seeds: fetch::seeds },
    Target { name: "journal", run: journal, seeds: journal::seeds },
    Target { name: "books", run: books, seeds: books::seeds },
    Target { name: "policy", run: policy, seeds: policy::seeds },
    Target { name: "trees", run: trees, seeds: trees::seeds },
    #[cfg(feature = "shells")]
    Target { name: "inference", run: inference, seeds: inference::seeds },
    #[cfg(feature = "shells")]
    Target { name: "tensors", run: tensors, seeds: tensors::seeds },
    #[cfg(feature = "shells")]
    Target { name: "bundle", run: bundle, seeds: bundle::seeds },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
