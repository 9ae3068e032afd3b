//! Verifies envelopes that anybody made. Shared with the test of the golden vectors.

use std::path::Path;

use tidegate_trust::codec::Signed;
use tidegate_trust::{PublicKey, cose};

/// The most bytes that a vector may have.
const LIMIT: usize = 64 * 1024;

/// A signed file, and who must have signed it.
pub struct Vector {
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Public keys.
    pub signers: Vec<PublicKey>,
}

/// The vectors that a folder's index names.
///
/// # Errors
/// A sentence with the file that is missing or the line that is no line of an index.
pub fn read(directory: &Path) -> Result<Vec<Vector>, String> {
    let load = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let index = String::from_utf8(load("index")?).map_err(|error| format!("index: {error}"))?;
    let vector = |line: &str| {
        let no_line = || format!("index: not a file and its signers: {line:?}");
        let (name, keys) = line.split_once(' ').ok_or_else(no_line)?;
        let key = |text| unhex(text).and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
        let signers = keys.split(',').map(key).collect::<Option<_>>().ok_or_else(no_line)?;
        Ok(Vector { name: name.to_owned(), bytes: load(name)?, signers })
    };
    index.lines().map(vector).collect()
}

/// Whether every signer's signature is there and verifies.
///
/// # Errors
/// Why not.
pub fn check(vector: &Vector) -> Result<(), String> {
    let envelope = cose::parse(&vector.bytes, LIMIT).map_err(|error| error.to_string())?;
    for key in &vector.signers {
        let mut claims = envelope.signers().enumerate().filter(|(_, kid)| *kid == key.id());
        if !claims.any(|(index, _)| envelope.verifies(index, key)) {
            return Err(format!("no valid signature by {}", key.id()));
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}
