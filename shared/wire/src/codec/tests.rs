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

proptest! {
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
