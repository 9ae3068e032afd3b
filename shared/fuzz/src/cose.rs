//! COSE envelopes, as they come and with one byte of a signed one changed.

use std::sync::LazyLock;

use tidegate_trust::SigningKey;
use tidegate_trust::cose::{self, SIGNATURES_MAX, Structure};

use crate::script::{pieces, write};

const LIMIT: usize = 64 * 1024;

/// Nobody signs with the last.
static KEYS: LazyLock<[SigningKey; 4]> =
    LazyLock::new(|| [1, 2, 3, 9].map(|seed| SigningKey::from_seed(&[seed; 32])));

/// Piece 0 is parsed as it is. Pieces 1 and 2 are payloads, signed with one key and with as many
/// as the tag of the piece after them says; its bytes are then put over the envelope's, each pair
/// of them a place and what to add there.
pub fn cose(bytes: &[u8]) {
    let pieces = pieces(bytes, 4);
    for (index, piece) in pieces.iter().enumerate() {
        match piece.tag {
            0 => as_it_is(piece.bytes),
            1 => {
                let signed = cose::sign1(&KEYS[0], b"", piece.bytes);
                damaged(&signed, piece.bytes, pieces.get(index + 1).map(|next| next.bytes));
            }
            2 => {
                let signed = cose::sign(&[&KEYS[0], &KEYS[1], &KEYS[2]], piece.bytes);
                damaged(&signed, piece.bytes, pieces.get(index + 1).map(|next| next.bytes));
            }
            _ => {}
        }
    }
}

fn as_it_is(bytes: &[u8]) {
    let Ok(envelope) = cose::parse(bytes, LIMIT) else { return };
    assert!(bytes.len() <= LIMIT && envelope.signatures.len() <= SIGNATURES_MAX);
    let stranger = &KEYS[3];
    for index in 0..=envelope.signatures.len() {
        assert!(!envelope.verifies_with(index, &stranger.public(), b""), "nobody has this key");
    }
    let merged = cose::merge(bytes, bytes, LIMIT, |_| true);
    match (envelope.structure, cose::add_signature(bytes, LIMIT, stranger)) {
        (Structure::Sign1, added) => assert!(added.is_err() && merged.is_err()),
        (Structure::Sign, Err(_)) => assert_eq!(envelope.signatures.len(), SIGNATURES_MAX),
        (Structure::Sign, Ok(signed)) => {
            let again = cose::parse(&signed, usize::MAX).expect("what we write is read");
            assert_eq!(again.payload, envelope.payload);
            let last = again.signatures.len() - 1;
            assert!(again.verifies_with(last, &stranger.public(), b""));
            let twice = cose::add_signature(&signed, usize::MAX, stranger);
            assert_eq!(twice.as_ref(), Ok(&signed), "signing twice changes nothing");
        }
    }
}

/// No change of a signed envelope makes another payload pass for signed.
fn damaged(signed: &[u8], payload: &[u8], changes: Option<&[u8]>) {
    let mut bytes = signed.to_vec();
    for change in changes.unwrap_or_default().chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[place] = bytes[place].wrapping_add(change[2]);
    }
    as_it_is(&bytes);
    let Ok(envelope) = cose::parse(&bytes, LIMIT) else {
        assert_ne!(bytes, signed, "what was signed is an envelope");
        return;
    };
    for (index, signature) in envelope.signatures.iter().enumerate() {
        let claimed = KEYS.iter().find(|key| key.id() == signature.kid).unwrap_or(&KEYS[0]);
        let valid = envelope.verifies_with(index, &claimed.public(), b"");
        assert!(!valid || envelope.payload == payload, "another payload passes for signed");
        assert!(valid || bytes != signed, "what was signed does not verify");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let one = cose::sign1(&KEYS[0], b"", b"payload");
    let two = cose::sign(&[&KEYS[0], &KEYS[1]], b"payload");
    vec![
        write([(0, one.as_slice())]),
        write([(0, two.as_slice())]),
        write([(1, b"payload".as_slice()), (9, &[12, 0, 1])]),
        write([(2, b"payload".as_slice()), (9, &[12, 0, 1, 90, 0, 200])]),
        write([(1, b"".as_slice()), (9, b"")]),
    ]
}
