use super::*;
use crate::testing::key;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use proptest::prelude::*;

const LIMIT: usize = 64 * 1024;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// RFC 8032, section 7.1, test 2.
const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";

/// RFC 9052's example payload.
const CONTENT: &[u8] = b"This is the content.";

// Two independent implementations, pycose 1.1.0 and cwt 3.3.0 (PyPI), made these very bytes from
// the same keys and verified them, and refused them with the last bit flipped.

/// `sign1` with SEED.
const SIGN1: &str = "\
    d28443a10127a104582039f713d0a644253f04529421b9f51b9b08979d08295959c4f3990ee617f5139f5454\
    6869732069732074686520636f6e74656e742e58400ef0ab97968c4ef30295debce65153723054929c45ace0\
    165513b84bc3cdae210368904524e2cf64e9aeee07f22d20b1288ce18df8410dcdb92fe86e4787cc00";

/// `sign` with SEED and a seed of 32 times 7.
const SIGN: &str = "\
    d8628440a054546869732069732074686520636f6e74656e742e828343a10127a104582039f713d0a644253f\
    04529421b9f51b9b08979d08295959c4f3990ee617f5139f5840b4f8aabd665e89637489644581b46a8cb713\
    371c0a1e1c12109b6dd32ec76fc0ad002509ab9236e1e63d2600a6c2fd3d36d69957c319cf5ff2d5aacedaf0\
    c9088343a10127a1045820fe812c12f3ab4ce6ac5db69ac352f906cb1b11ef43fb33e252ef7ff55226388958\
    40d482720fc7a0f3e07f4983730ff27f6dde8f1cb8314668b6dd17dbb17a832c4657d7803c5d17093a651406\
    7a90327d51b022eaefae7dcd12939eb7b644505702";

#[test]
fn golden_vectors() {
    let signer = SigningKey::from_seed(&unhex(SEED).try_into().unwrap());
    assert_eq!(hex(&sign1(&signer, b"", CONTENT)), SIGN1);
    assert_eq!(hex(&sign(&[&signer, &key(7)], CONTENT)), SIGN);
    assert_eq!(valid(&unhex(SIGN1), &[&signer]), [signer.id()]);
    assert_eq!(valid(&unhex(SIGN), &[&signer, &key(7)]), [signer.id(), key(7).id()]);
}

/// The keys whose signatures in `bytes` verify.
fn valid(bytes: &[u8], keys: &[&SigningKey]) -> Vec<KeyId> {
    let Ok(envelope) = parse(bytes, LIMIT) else { return vec![] };
    let by = |key: &SigningKey| {
        let indices = 0..envelope.signatures.len();
        let own = |index: &usize| envelope.signatures[*index].kid == key.id();
        indices.filter(own).any(|index| envelope.verifies(index, &key.public()))
    };
    keys.iter().filter(|key| by(key)).map(|key| key.id()).collect()
}

/// An envelope put together by hand, from its body without the tag.
fn raw(tag: &[u8], body: &[&[u8]]) -> Vec<u8> {
    [tag, &body.concat()].concat()
}

fn refused(bytes: &[u8]) -> Reason {
    parse(bytes, LIMIT).unwrap_err().reason()
}

#[test]
fn what_is_signed_comes_back_as_it_was() {
    let bytes = sign(&[&key(1), &key(2)], b"payload");
    let envelope = parse(&bytes, LIMIT).unwrap();
    assert_eq!((envelope.structure, envelope.payload), (Structure::Sign, &b"payload"[..]));
    assert_eq!(valid(&bytes, &[&key(1), &key(2), &key(3)]), [key(1).id(), key(2).id()]);
    let single = sign1(&key(1), b"", b"payload");
    assert_eq!(valid(&single, &[&key(1), &key(2)]), [key(1).id()]);
}

#[test]
fn byte_strings_have_the_shortest_length() {
    for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
        let bytes = vec![7; length];
        let mut out = vec![];
        byte_string(&mut out, &bytes);
        assert_eq!(out, codec::encode(&Bytes::new(&bytes)), "{length} bytes");
        let message = sign1_message(b"p", b"aad", &bytes);
        let parts = ("Signature1", Bytes::new(b"p"), Bytes::new(b"aad"), Bytes::new(&bytes));
        assert_eq!(message, codec::encode(&parts), "{length} bytes");
    }
    let parts = [&b"b"[..], b"s", b"", b"payload"].map(Bytes::new);
    let [body, signer, aad, payload] = parts;
    let expected = codec::encode(&("Signature", body, signer, aad, payload));
    assert_eq!(sign_message(b"b", b"s", b"", b"payload"), expected);
}

#[test]
fn external_data_is_signed_too() {
    let bytes = sign1(&key(1), b"context", b"payload");
    let envelope = parse(&bytes, LIMIT).unwrap();
    assert!(envelope.verifies_with(0, &key(1).public(), b"context"));
    assert!(!envelope.verifies_with(0, &key(1).public(), b""));
    assert!(!envelope.verifies_with(1, &key(1).public(), b"context"));
}

#[test]
fn signatures_are_added_without_touching_the_rest() {
    let one = sign(&[&key(1)], b"payload");
    let two = add_signature(&one, LIMIT, &key(2)).unwrap();
    assert_eq!(two, sign(&[&key(1), &key(2)], b"payload"));
    assert_eq!(add_signature(&two, LIMIT, &key(2)), Ok(two.clone()));
    let again = add_signature(&two, LIMIT, &key(1)).unwrap();
    assert_eq!(parse(&again, LIMIT).unwrap().signatures.len(), 2);
    let single = sign1(&key(1), b"", b"payload");
    assert!(matches!(add_signature(&single, LIMIT, &key(2)), Err(CoseError::Shape(_))));
}

#[test]
fn signatures_are_limited() {
    let keys: Vec<_> = (0..SIGNATURES_MAX as u8).map(key).collect();
    let full = sign(&keys.iter().collect::<Vec<_>>(), b"");
    assert!(full.len() <= OVERHEAD_MAX, "{}", full.len());
    assert_eq!(valid(&full, &keys.iter().collect::<Vec<_>>()).len(), SIGNATURES_MAX);
    let error = add_signature(&full, LIMIT, &key(99)).unwrap_err();
    assert_eq!(error, CoseError::Signatures(33));
}

/// What others may write: algorithm −19, other protected headers, a protected `kid`.
#[test]
fn headers_of_other_writers_are_taken_as_they_are() {
    let signer = key(1);
    let kid = [&[0x58, 0x20][..], signer.id().as_bytes()].concat();
    let protected = [&[0xa2, 0x01, 0x32, 0x04][..], &kid].concat();
    let value = signer.sign(&sign1_message(&protected, b"", b"x"));
    let head = [&[0x58, protected.len() as u8][..], &protected].concat();
    let bytes = raw(&TAG_SIGN1, &[&[0x84], &head, &[0xa0, 0x41, b'x', 0x58, 0x40], &value]);
    assert_eq!(valid(&bytes, &[&signer]), [signer.id()]);
}

#[test]
fn an_unknown_algorithm_is_kept_but_never_verifies() {
    let signer = key(1);
    let protected = [0xa1, 0x01, 0x26];
    let value = signer.sign(&sign1_message(&protected, b"", b"x"));
    let header = codec::encode(&kid_header(&signer.id()));
    let head = [&[0x84, 0x43][..], &protected, &header].concat();
    let bytes = raw(&TAG_SIGN1, &[&head, &[0x41, b'x', 0x58, 0x40], &value]);
    assert!(!parse(&bytes, LIMIT).unwrap().signatures[0].ed25519);
    assert_eq!(valid(&bytes, &[&signer]), []);
}

/// Each is a signed message with one thing changed, so that nothing but that thing is wrong.
#[test]
fn what_rfc_9052_forbids_is_refused() {
    let header = codec::encode(&kid_header(&key(1).id()));
    let signature = [&[0x58, 0x40][..], &[7; 64]].concat();
    let message = |protected: &[u8], unprotected: &[u8], payload: &[u8]| {
        raw(&TAG_SIGN1, &[&[0x84], protected, unprotected, payload, &signature])
    };
    let alg = [0x43, 0xa1, 0x01, 0x27];
    let payload = [0x41, b'x'];
    assert!(parse(&message(&alg, &header, &payload), LIMIT).is_ok());

    let detached = message(&alg, &header, &[0xf6]);
    assert_eq!(parse(&detached, LIMIT), Err(CoseError::Detached));
    let text = message(&alg, &header, &[0x61, b'x']);
    assert_eq!(refused(&text), Reason::Malformed);
    let critical = message(&[0x47, 0xa2, 0x01, 0x27, 0x02, 0x81, 0x18, 0x63], &header, &payload);
    assert_eq!(parse(&critical, LIMIT), Err(CoseError::Critical));
    let unprotected_alg =
        message(&[0x40], &[&[0xa2, 0x01, 0x27][..], &header[1..]].concat(), &payload);
    assert_eq!(refused(&unprotected_alg), Reason::Malformed);
    let no_alg = message(&[0x40], &header, &payload);
    assert_eq!(refused(&no_alg), Reason::Malformed);
    let no_kid = message(&alg, &[0xa0], &payload);
    assert_eq!(refused(&no_kid), Reason::Malformed);
    let short_kid = message(&alg, &[0xa1, 0x04, 0x41, 1], &payload);
    assert_eq!(refused(&short_kid), Reason::Malformed);
    let duplicate_header = message(&[0x45, 0xa2, 0x01, 0x27, 0x01, 0x27], &header, &payload);
    assert_eq!(refused(&duplicate_header), Reason::Malformed);
    let long_head = message(&alg, &header, &[0x58, 1, b'x']);
    assert_eq!(refused(&long_head), Reason::Malformed);
    let indefinite = message(&alg, &header, &[0x5f, 0x41, b'x', 0xff]);
    assert_eq!(refused(&indefinite), Reason::Malformed);
    let trailing = [&message(&alg, &header, &payload)[..], &[0]].concat();
    assert_eq!(refused(&trailing), Reason::Malformed);
    assert_eq!(parse(&message(&alg, &header, &payload)[1..], LIMIT), Err(CoseError::Tag));
    let five_parts = raw(&TAG_SIGN1, &[&[0x85], &alg, &header, &payload, &signature, &[0]]);
    assert_eq!(refused(&five_parts), Reason::Malformed);
}

#[test]
fn size_comes_before_everything_else() {
    let bytes = sign1(&key(1), b"", &[0; 100]);
    let error = parse(&bytes, bytes.len() - 1).unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge);
    assert!(parse(&bytes, bytes.len()).is_ok());
}

proptest! {
    /// No change of a byte leaves both signatures valid, or a valid one over another payload.
    #[test]
    fn no_byte_can_be_changed(
        payload: Vec<u8>, index: prop::sample::Index, flip in 1..=255u8, single: bool,
    ) {
        let (alice, bob) = (key(1), key(2));
        let original = match single {
            true => sign1(&alice, b"", &payload),
            false => sign(&[&alice, &bob], &payload),
        };
        let before = valid(&original, &[&alice, &bob]);
        let mut bytes = original.clone();
        let index = index.index(bytes.len());
        bytes[index] ^= flip;
        let after = valid(&bytes, &[&alice, &bob]);
        prop_assert!(after.len() < before.len(), "byte {} of {}", index, hex(&original));
        if !after.is_empty() {
            prop_assert_eq!(parse(&bytes, LIMIT).unwrap().payload, &payload[..]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, single: bool) {
        let tag: &[u8] = if single { &TAG_SIGN1 } else { &TAG_SIGN };
        let _ = parse(&raw(tag, &[&bytes]), LIMIT);
        let _ = parse(&bytes, LIMIT);
        // The reader alone, without the check before it.
        let mut reader = Reader::new(&bytes);
        while reader.label().is_ok() {}
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() && Header::read(&mut reader).is_ok() {}
    }

    #[test]
    fn a_cut_anywhere_is_refused(cut: prop::sample::Index) {
        let bytes = sign(&[&key(1), &key(2)], b"payload");
        prop_assert!(parse(&bytes[..cut.index(bytes.len())], LIMIT).is_err());
    }
}
