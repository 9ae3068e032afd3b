//! One envelope from two that sign the same bytes.

use alloc::vec::Vec;

use super::{CoseError, SIGNATURES_MAX, Structure, assemble, parse};
use crate::key::KeyId;

/// `base` with the signatures of `more` whose signers it lacks; of all signatures only those whose
/// signer `keep` takes. Nothing is verified.
///
/// # Errors
/// [`CoseError`] if they are no COSE_Sign envelopes over the same payload, or have more than
/// [`SIGNATURES_MAX`] signatures together.
pub fn merge(
    base: &[u8],
    more: &[u8],
    limit: usize,
    keep: impl Fn(&KeyId) -> bool,
) -> Result<Vec<u8>, CoseError> {
    let (base, more) = (parse(base, limit)?, parse(more, limit)?);
    if base.structure != Structure::Sign || more.structure != Structure::Sign {
        return Err(CoseError::Shape("only a COSE_Sign message takes more signatures"));
    }
    if base.payload != more.payload || base.protected != more.protected {
        return Err(CoseError::Shape("the two do not sign the same bytes"));
    }
    let mut kept = Vec::new();
    for signature in base.signatures.iter().chain(&more.signatures) {
        let known = kept.iter().any(|(kid, _)| *kid == signature.kid);
        if !known && keep(&signature.kid) {
            kept.push((signature.kid, signature.item));
        }
    }
    if kept.len() > SIGNATURES_MAX {
        return Err(CoseError::Signatures(kept.len() as u64));
    }
    let items: Vec<&[u8]> = kept.into_iter().map(|(_, item)| item).collect();
    Ok(assemble(base.protected, base.payload, &items))
}
