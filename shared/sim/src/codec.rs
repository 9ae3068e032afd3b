//! Signature checks that are made once.
//!
//! Whether a key signed given bytes never changes, and a fleet asks it for the same few files again
//! and again. So the answers are remembered per thread; everything else is trust's own COSE.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use tidegate_trust::codec::{Codec, Signed};
use tidegate_trust::cose::Envelope;
use tidegate_trust::{CoseCbor, KeyId, PublicKey, Root, Snapshot, Targets, Timestamp, TrustError};

/// Deterministic CBOR in COSE, whose signatures are verified once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembering;

/// An opened file, and what identifies its bytes.
pub struct Remembered<'a> {
    envelope: Envelope<'a>,
    bytes: &'a [u8],
}

/// Bytes, which signature, whose key.
type Question = (u64, usize, usize, PublicKey);

/// Answers that are remembered before all are forgotten: far more than one run has.
const ANSWERS_MAX: usize = 100_000;

thread_local! {
    static ANSWERS: RefCell<HashMap<Question, bool>> = RefCell::default();
}

impl Signed<PublicKey> for Remembered<'_> {
    fn payload(&self) -> &[u8] {
        self.envelope.payload()
    }

    fn signers(&self) -> impl Iterator<Item = KeyId> {
        self.envelope.signers()
    }

    fn verifies(&self, index: usize, key: &PublicKey) -> bool {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.bytes);
        let question = (hasher.finish(), self.bytes.len(), index, *key);
        let known = ANSWERS.with_borrow(|answers| answers.get(&question).copied());
        known.unwrap_or_else(|| {
            let answer = self.envelope.verifies(index, key);
            ANSWERS.with_borrow_mut(|answers| {
                if answers.len() >= ANSWERS_MAX {
                    answers.clear();
                }
                answers.insert(question, answer);
            });
            answer
        })
    }
}

impl Codec for Remembering {
    type Key = PublicKey;
    type Envelope<'a> = Remembered<'a>;

    fn open(bytes: &[u8], limit: usize) -> Result<Remembered<'_>, TrustError> {
        Ok(Remembered { envelope: CoseCbor::open(bytes, limit)?, bytes })
    }

    fn root(payload: &[u8]) -> Result<Root, TrustError> {
        CoseCbor::root(payload)
    }

    fn timestamp(payload: &[u8]) -> Result<Timestamp, TrustError> {
        CoseCbor::timestamp(payload)
    }

    fn snapshot(payload: &[u8]) -> Result<Snapshot, TrustError> {
        CoseCbor::snapshot(payload)
    }

    fn targets(payload: &[u8]) -> Result<Targets, TrustError> {
        CoseCbor::targets(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_trust::SigningKey;

    #[test]
    fn an_answer_is_given_again_and_only_for_the_same_bytes_and_key() {
        let [one, two] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
        let good = tidegate_trust::cose::sign1(&one, b"", b"words");
        let mut flipped = good.clone();
        *flipped.last_mut().expect("it has bytes") ^= 1;
        for _ in 0..2 {
            for (bytes, key, expected) in
                [(&good, &one, true), (&good, &two, false), (&flipped, &one, false)]
            {
                let opened = Remembering::open(bytes, 1_000).expect("it is COSE");
                assert_eq!(opened.verifies(0, &key.public()), expected);
            }
        }
    }
}
