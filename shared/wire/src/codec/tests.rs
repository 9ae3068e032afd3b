use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    zeta: u64,
    a: i32,
    #[serde(with = "serde_bytes")]
    blob: Vec<u8>,
    ratio: f64,
    maybe: Option<bool>,
}

/// Pins the bytes, so that the CBOR library can be exchanged without a change on the wire.
#[test]
fn encoded_bytes_are_pinned() {
    let sample = Sample { zeta: 500, a: -3, blob: vec![1, 2], ratio: 1.5, maybe: None };
    let bytes = encode(&sample);
    let expected = b"\xa5\x61a\x22\x64blob\x42\x01\x02\x64zeta\x19\x01\xf4\x65maybe\xf6\
                     \x65ratio\xf9\x3e\x00";
    assert_eq!(bytes, expected);
    assert_eq!(decode::<Sample>(&bytes, 64), Ok(sample));
}

#[test]
fn unknown_fields_are_skipped() {
    let newer = b"\xa2\x61a\x05\x61b\x82\x01\x02";
    #[derive(Debug, PartialEq, Deserialize)]
    struct Older {
        a: u8,
    }
    assert_eq!(decode::<Older>(newer, 64), Ok(Older { a: 5 }));
}

#[test]
fn size_is_checked_before_anything_else() {
    assert_eq!(decode::<u8>(b"\xff\xff", 1), Err(DecodeError::TooLarge { len: 2, limit: 1 }));
}

#[test]
fn only_deterministic_bytes_are_read() {
    let refused: [(&[u8], &str); 9] = [
        (b"\x18\x05", "shortest"),
        (b"\x1b\0\0\0\0\0\0\0\x05", "shortest"),
        (b"\x9f\x01\xff", "indefinite"),
        (b"\x5f\x41a\xff", "indefinite"),
        (b"\x05\x05", "after the end"),
        (b"\x82\x01", "truncated"),
        (b"\xa2\x61a\x01\x61a\x02", "twice"),
        (b"\xa2\x61b\x01\x61a\x02", "out of order"),
        (b"\x62\xc3\x28", "UTF-8"),
    ];
    for (bytes, why) in refused {
        let error = decode::<serde::de::IgnoredAny>(bytes, 64).unwrap_err();
        let DecodeError::NotDeterministic { what, .. } = error else { panic!("{error:?}") };
        assert!(what.contains(why), "{bytes:x?}: {what}");
    }
}

#[test]
fn hostile_lengths_and_nesting_cost_nothing() {
    let endless_array = b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(decode::<Vec<u8>>(endless_array, 64).is_err());
    let endless_text = b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(decode::<String>(endless_text, 64).is_err());
    let deep = vec![0x81; 100_000];
    assert!(decode::<serde::de::IgnoredAny>(&deep, 1 << 20).is_err());
}

/// One of each kind that serde knows and our messages use.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Holds(u32),
    Pair(u8, Option<String>),
    Named {
        id: Vec<i64>,
        #[serde(default)]
        extra: (),
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct All {
    kinds: Vec<Kind>,
    salt: [u8; 4],
    whole: f64,
    single: f32,
    signed: (i8, i64),
    yes: bool,
    tree: BTreeMap<u64, BTreeMap<String, bool>>,
    letter: char,
}

fn all() -> All {
    let named = Kind::Named { id: vec![i64::MIN, -1, 0, i64::MAX], extra: () };
    All {
        kinds: vec![Kind::Plain, Kind::Holds(7), Kind::Pair(1, None), named],
        salt: [1, 2, 3, 255],
        whole: f64::MAX,
        single: -0.1,
        signed: (-128, -129),
        yes: true,
        tree: BTreeMap::from([(1 << 40, BTreeMap::from([("a".into(), false)]))]),
        letter: 'ø',
    }
}

#[test]
fn every_kind_of_value_comes_back_and_serde_cbor_reads_the_same() {
    let bytes = encode(&all());
    assert_eq!(decode::<All>(&bytes, 1024), Ok(all()));
    assert_eq!(serde_cbor::from_slice::<All>(&bytes).unwrap(), all());
}

/// RFC 8949, appendix A.
#[test]
fn floats_of_any_width_are_read() {
    let floats: [(&[u8], f64); 12] = [
        (b"\xf9\x00\x00", 0.0),
        (b"\xf9\x3c\x00", 1.0),
        (b"\xf9\x3e\x00", 1.5),
        (b"\xf9\x7b\xff", 65504.0),
        (b"\xf9\x00\x01", 5.960464477539063e-8),
        (b"\xf9\x04\x00", 0.00006103515625),
        (b"\xf9\xc4\x00", -4.0),
        (b"\xf9\x7c\x00", f64::INFINITY),
        (b"\xfa\x47\xc3\x50\x00", 100_000.0),
        (b"\xfb\xc0\x10\x66\x66\x66\x66\x66\x66", -4.1),
        (b"\x18\x64", 100.0),
        (b"\x38\x63", -100.0),
    ];
    for (bytes, value) in floats {
        assert_eq!(decode::<f64>(bytes, 16), Ok(value), "{bytes:x?}");
    }
    assert!(decode::<f64>(b"\xf9\x7e\x00", 16).unwrap().is_nan());
}

#[test]
fn a_message_has_one_encoding_only() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair {
        a: u8,
        b: u8,
    }
    assert_eq!(decode::<Pair>(b"\xa2\x61a\x01\x61b\x02", 16), Ok(Pair { a: 1, b: 2 }));
    let others: [&[u8]; 4] = [
        b"\x82\x01\x02",               // a struct as an array
        b"\xa2\x00\x01\x01\x02",       // keys by number
        b"\xa2\x41a\x01\x41b\x02",     // keys as byte strings
        b"\xa2\x61a\xc1\x01\x61b\x02", // a tag
    ];
    for bytes in others {
        assert!(matches!(decode::<Pair>(bytes, 16), Err(DecodeError::Shape(_))), "{bytes:x?}");
    }
    let error = decode::<Kind>(b"\xa1\x65Plain\xf6", 16).unwrap_err();
    assert!(matches!(error, DecodeError::Shape(_)), "{error}");
    for bytes in [&b"\x65Holds"[..], b"\xa0", b"\xa2\x65Holds\x01\x65Plain\xf6", b"\x82\x01\x02"] {
        assert!(decode::<Kind>(bytes, 16).is_err(), "{bytes:x?}");
    }
    assert!(decode::<(u8, u8)>(b"\x83\x01\x02\x03", 16).is_err(), "more than belong there");
    assert!(decode::<u8>(b"\x19\x01\x00", 16).is_err(), "too large for its type");
    assert!(decode::<i64>(b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", 16).is_err());
}

proptest! {
    /// Whatever is read here, serde_cbor reads too, and the same.
    #[test]
    fn nothing_is_read_that_serde_cbor_would_not_read(
        change in any::<(prop::sample::Index, u8)>(), cut: prop::sample::Index,
    ) {
        let mut bytes = encode(&all());
        let index = change.0.index(bytes.len());
        bytes[index] = change.1;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(value) = decode::<All>(bytes, 1024) {
                let same = serde_cbor::from_slice::<All>(bytes).unwrap();
                prop_assert_eq!(encode(&value), encode(&same));
            }
        }
    }

    #[test]
    fn what_is_encoded_is_deterministic_and_comes_back(
        map in proptest::collection::btree_map(".{0,12}", any::<i64>(), 0..40),
        floats in proptest::collection::vec(any::<f64>().prop_filter("NaN", |x| !x.is_nan()), 0..9),
    ) {
        let value = (map, floats);
        let bytes = encode(&value);
        prop_assert_eq!(
            decode::<(BTreeMap<String, i64>, Vec<f64>)>(&bytes, 1 << 16).unwrap(),
            value
        );
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<Sample>(&bytes, 128);
        let _ = decode::<(BTreeMap<String, i64>, Vec<f64>)>(&bytes, 256);
    }
}
