//! The controller's clock and its source of secrets: the only places that ask the operating system.

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_wire::invitation::Secret;

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix seconds.
pub fn now() -> u64 {
    now_ms() / 1000
}

/// Random bytes of the operating system.
///
/// # Panics
/// If it has none: nothing can be made secret then.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// A secret of 256 random bits.
pub fn secret() -> Secret {
    Secret(random::<32>().to_vec())
}
