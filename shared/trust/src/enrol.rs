//! Enrolment requests as they travel: signed with the very key that they bring.

use alloc::vec::Vec;

use tidegate_wire::enrol::EnrolRequest;
use tidegate_wire::envelope::{self, Message};

use crate::codec::Signed;
use crate::cose::{self, Structure};
use crate::error::TrustError;
use crate::key::{PublicKey, SigningKey};

/// The most bytes that a signed request may have.
pub const SIZE_MAX: usize = EnrolRequest::SIZE_MAX + cose::OVERHEAD_MAX;

/// The request in a COSE_Sign1 envelope, signed by the device's own key.
///
/// # Panics
/// If `request` brings another key than `key`: nobody would accept it.
pub fn sign_enrol(key: &SigningKey, request: &EnrolRequest) -> Vec<u8> {
    assert_eq!(request.public_key, key.public().as_bytes(), "the request must bring its own key");
    cose::sign1(key, b"", &envelope::seal(request))
}

/// Verifies that the sender of a request holds the private half of the key in it. Whether its
/// secret lets it in is the controller's business.
///
/// # Errors
/// [`TrustError`] if the request is too large or malformed, or not signed with its own key.
pub fn verify_enrol(bytes: &[u8]) -> Result<EnrolRequest, TrustError> {
    let opened = cose::parse(bytes, SIZE_MAX)?;
    let request: EnrolRequest = envelope::open(opened.payload)?;
    let key = PublicKey::from_bytes(&request.public_key)?;
    let named = opened.signers().next() == Some(key.id());
    if opened.structure == Structure::Sign1 && named && opened.verifies(0, &key) {
        Ok(request)
    } else {
        Err(TrustError::Possession)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;
    use tidegate_wire::invitation::Secret;
    use tidegate_wire::{Digest, Labels, Reason};

    fn request(key: &SigningKey) -> EnrolRequest {
        EnrolRequest {
            device: "pi-1".parse().unwrap(),
            labels: Labels::new(),
            public_key: key.public().as_bytes().to_vec(),
            certificate_request: b"PKCS#10".to_vec(),
            secret: Some(Secret(b"let me in".to_vec())),
            root: Digest::of(b"root"),
            agent: "0.1.0".to_string(),
        }
    }

    #[test]
    fn a_request_proves_that_its_sender_has_the_key() {
        let key = SigningKey::from_seed(&[1; 32]);
        let bytes = sign_enrol(&key, &request(&key));
        assert_eq!(verify_enrol(&bytes), Ok(request(&key)));
    }

    #[test]
    fn nobody_enrols_with_a_key_of_another() {
        let (victim, thief) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let payload = envelope::seal(&request(&victim));
        let stolen = cose::sign1(&thief, b"", &payload);
        assert_eq!(verify_enrol(&stolen), Err(TrustError::Possession));
        assert_eq!(TrustError::Possession.reason(), Reason::SignatureInvalid);
        let shared = cose::sign(&[&victim], &payload);
        assert_eq!(verify_enrol(&shared), Err(TrustError::Possession));
    }

    proptest! {
        #[test]
        fn no_byte_can_be_changed(index: prop::sample::Index, flip in 1..=255u8) {
            let key = SigningKey::from_seed(&[1; 32]);
            let mut bytes = sign_enrol(&key, &request(&key));
            let index = index.index(bytes.len());
            bytes[index] ^= flip;
            prop_assert!(verify_enrol(&bytes).is_err(), "byte {}", index);
        }
    }
}
