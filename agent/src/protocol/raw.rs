//! Tensors as raw bytes: little-endian, row-major; a string is its length (u32) and its bytes.

use tidegate_wire::tensor::Datatype;

use crate::engine::Values;

/// Reads `count` values of `datatype`, which must be all of `bytes`.
///
/// # Errors
/// What is wrong, in words that follow the tensor's name.
pub(crate) fn read_raw(bytes: &[u8], datatype: Datatype, count: usize) -> Result<Values, String> {
    match datatype.width() {
        Some(width) if count.checked_mul(width) == Some(bytes.len()) => {}
        Some(width) => {
            let needed = count.saturating_mul(width);
            return Err(format!("{} raw bytes given, its shape needs {needed}", bytes.len()));
        }
        None => check_strings(bytes, count)?,
    }
    Ok(Values::from_le_bytes(datatype, bytes))
}

fn check_strings(mut bytes: &[u8], count: usize) -> Result<(), String> {
    let mut found = 0_usize;
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        let string = rest.split_at_checked(usize::try_from(length).unwrap_or(usize::MAX));
        let Some((_, rest)) = string else {
            let text = format!("string {found} has {length} bytes, but only {}", rest.len());
            return Err(format!("{text} follow its length"));
        };
        (found, bytes) = (found + 1, rest);
    }
    if !bytes.is_empty() {
        return Err(format!("{} bytes are left over behind string {found}", bytes.len()));
    }
    if found != count {
        return Err(format!("{found} strings given, its shape needs {count}"));
    }
    Ok(())
}

/// How many bytes `values` have as raw bytes.
pub(crate) fn byte_len(values: &Values) -> usize {
    match (values, values.datatype().width()) {
        (Values::Bytes(strings), _) => strings.iter().map(|string| 4 + string.len()).sum(),
        (_, width) => values.len() * width.unwrap_or(0),
    }
}
