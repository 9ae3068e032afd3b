//! Directives as they travel: signed by the director.

use alloc::vec::Vec;

use tidegate_wire::directive::Directive;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::{ModelName, Reason};

use crate::codec::{Codec, Signed};
use crate::cose;
use crate::error::TrustError;
use crate::key::SigningKey;
use crate::metadata::Role;
use crate::trusted::{Trusted, not_expired, own_fleet, require};

/// The most bytes that a signed directive may have.
pub const SIZE_MAX: usize = Directive::SIZE_MAX + cose::OVERHEAD_MAX;

/// A directive that the director signed for this fleet and this model.
///
/// It may be expired or older than one already seen. An expired one still says what to run and
/// to go back to, so it is not refused; [`VerifiedDirective::may_install`] is what asks for the
/// time. Generations are the lifecycle's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDirective(Directive);

impl VerifiedDirective {
    /// What it says.
    pub fn directive(&self) -> &Directive {
        &self.0
    }

    /// The directive by itself, once nobody needs to know any more that it was verified.
    pub fn into_directive(self) -> Directive {
        self.0
    }

    /// Whether it may still cause new installs at `now`, Unix seconds ([`Trusted::now`]).
    ///
    /// # Errors
    /// [`Reason::MetadataExpired`] from `expires` on.
    pub fn may_install(&self, now: u64) -> Result<(), Reason> {
        not_expired(Role::Director, self.0.expires, now).map_err(|error| error.reason())
    }
}

/// The directive in a COSE_Sign1 envelope, signed by the director.
pub fn sign_directive(key: &SigningKey, directive: &Directive) -> Vec<u8> {
    cose::sign1(key, b"", &envelope::seal(directive))
}

/// Verifies a directive that came on the topic of `model`.
///
/// # Errors
/// [`TrustError`] if it is too large or malformed, if the director's keys did not sign it to
/// their threshold, or if it is for another fleet or about another model.
pub fn verify_directive<C: Codec>(
    trusted: &Trusted<C>,
    bytes: &[u8],
    model: &ModelName,
) -> Result<VerifiedDirective, TrustError> {
    let opened = C::open(bytes, SIZE_MAX)?;
    require::<C>(trusted.root(), Role::Director, &opened)?;
    let directive: Directive = envelope::open(opened.payload())?;
    own_fleet(trusted.fleet(), &directive.fleet)?;
    if directive.model != *model {
        let (expected, found) = (model.clone(), directive.model);
        return Err(TrustError::Model { expected, found });
    }
    Ok(VerifiedDirective(directive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, MODEL};
    use alloc::vec;
    use proptest::prelude::*;
    use tidegate_wire::Generation;

    fn directive() -> Directive {
        Directive {
            fleet: "oslo".parse().unwrap(),
            model: MODEL.parse().unwrap(),
            generation: Generation(7),
            issued: 1000,
            expires: 2000,
            rules: vec![],
            reason: None,
        }
    }

    fn verify(trusted: &Trusted, bytes: &[u8]) -> Result<VerifiedDirective, Reason> {
        let verified = verify_directive(trusted, bytes, &MODEL.parse().unwrap());
        verified.map_err(|error| error.reason())
    }

    #[test]
    fn an_expired_directive_is_known_but_installs_nothing() {
        let fleet = Fleet::new();
        let bytes = sign_directive(&fleet.director, &directive());
        let verified = verify(&fleet.trusted(), &bytes).unwrap();
        assert_eq!(verified.directive(), &directive());
        assert_eq!(verified.may_install(1999), Ok(()));
        assert_eq!(verified.may_install(2000), Err(Reason::MetadataExpired));
    }

    #[test]
    fn only_the_director_directs() {
        let fleet = Fleet::new();
        for key in [&fleet.publishers[0], &fleet.timestamp, &fleet.snapshot] {
            let bytes = sign_directive(key, &directive());
            assert_eq!(verify(&fleet.trusted(), &bytes), Err(Reason::ThresholdNotMet));
        }
    }

    #[test]
    fn other_fleets_models_and_kinds_are_refused() {
        let fleet = Fleet::new();
        let trusted = fleet.trusted();
        let other = Directive { fleet: "bergen".parse().unwrap(), ..directive() };
        let bytes = sign_directive(&fleet.director, &other);
        assert_eq!(verify(&trusted, &bytes), Err(Reason::WrongFleet));
        let other = Directive { model: "letters".parse().unwrap(), ..directive() };
        let bytes = sign_directive(&fleet.director, &other);
        assert_eq!(verify(&trusted, &bytes), Err(Reason::WrongTopic));
        let metadata = cose::sign1(&fleet.director, b"", &envelope::seal(&fleet.root));
        assert_eq!(verify(&trusted, &metadata), Err(Reason::WrongTopic));
    }

    #[test]
    fn a_signature_made_for_other_external_data_is_refused() {
        let fleet = Fleet::new();
        let bytes = cose::sign1(&fleet.director, b"elsewhere", &envelope::seal(&directive()));
        assert_eq!(verify(&fleet.trusted(), &bytes), Err(Reason::SignatureInvalid));
    }

    #[test]
    fn an_oversized_directive_is_refused_before_it_is_read() {
        let fleet = Fleet::new();
        let bytes = vec![0; SIZE_MAX + 1];
        assert_eq!(verify(&fleet.trusted(), &bytes), Err(Reason::TooLarge));
    }

    proptest! {
        #[test]
        fn no_byte_can_be_changed(index: prop::sample::Index, flip in 1..=255u8) {
            let fleet = Fleet::new();
            let mut bytes = sign_directive(&fleet.director, &directive());
            let index = index.index(bytes.len());
            bytes[index] ^= flip;
            prop_assert!(verify(&fleet.trusted(), &bytes).is_err(), "byte {}", index);
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(verify(&Fleet::new().trusted(), &bytes).is_err());
        }
    }
}
