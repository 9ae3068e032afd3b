//! Messages that independent COSE libraries signed: `interop/run.py --golden` made them.

#[path = "../examples/cose-vectors/check.rs"]
mod check;

use std::path::Path;

use check::{Vector, check, read};

fn golden() -> Vec<Vector> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/golden")).unwrap()
}

#[test]
fn what_other_libraries_signed_verifies() {
    let vectors = golden();
    let makers = |maker: &str| vectors.iter().filter(|one| one.name.starts_with(maker)).count();
    assert!(makers("pycose-") >= 3 && makers("cwt-") >= 4, "too few golden vectors");
    for vector in &vectors {
        assert_eq!(check(vector), Ok(()), "{}", vector.name);
    }
}

#[test]
fn no_byte_of_what_other_libraries_signed_can_be_changed() {
    for mut vector in golden() {
        for index in 0..vector.bytes.len() {
            vector.bytes[index] ^= 1;
            assert!(check(&vector).is_err(), "{} with byte {index} changed", vector.name);
            vector.bytes[index] ^= 1;
        }
    }
}
