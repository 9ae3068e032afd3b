//! Operators' tokens: who gets one, when it is good, and that somebody always keeps the keys.
//!
//! A token is 256 random bits, of which only the SHA-256 is kept. No slow hash is needed: those
//! make it dear to try the passwords that people think of, and here there are 2^256 to try, all
//! equally likely.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_wire::Digest;

use super::{Record, State};
use crate::access::{ApiRole, TokenRequest, TokenState};

/// The longest name of an operator.
const NAME_MAX: usize = 64;

/// The longest that a token with an end may last: ten years of seconds.
const SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

/// Who the journal names for what no token did.
const RESERVED: [&str; 3] = ["planner", "controller", LOCAL];

/// Who acts on the data folder itself, without a token.
pub const LOCAL: &str = "local";

/// An operator's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: ApiRole,
    /// Who made it.
    pub by: String,
    /// When, Unix milliseconds.
    pub issued_ms: u64,
    /// Before which it is not good, Unix milliseconds.
    pub from_ms: Option<u64>,
    /// From which it is not good any more, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// When it was revoked, Unix milliseconds.
    pub revoked_ms: Option<u64>,
}

/// Why a token is not made or revoked. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The name would not do in the journal.
    #[error(
        "{0:?} is no operator's name: use 1 to {NAME_MAX} of A-Z, a-z, 0-9, '.', '-', '_', '@', '+'"
    )]
    Name(String),
    /// The name means somebody else in the journal.
    #[error("{0} is how the audit log calls the controller's own acts: choose another name")]
    Reserved(String),
    /// Somebody has it.
    #[error(
        "{0} has a token already: choose another name, or take it back first with \
         `tidegate token revoke {0} --why …`"
    )]
    Taken(String),
    /// It would last too short or too long.
    #[error("expires_seconds = {0}: use 1 to {SECONDS_MAX}, or leave it out")]
    Seconds(u64),
    /// There is none.
    #[error("{0} has no token: `tidegate token list` shows them")]
    Unknown(String),
    /// Nobody could make tokens any more.
    #[error(
        "{0} has the last admin token that is good: without it nobody could make tokens any more. \
         Make another one first with `tidegate token create NAME --role admin --why …`"
    )]
    LastAdmin(String),
}

impl Token {
    /// Whether it is good at a time.
    pub fn state(&self, now_ms: u64) -> TokenState {
        if self.revoked_ms.is_some() {
            TokenState::Revoked
        } else if self.expires_ms.is_some_and(|end| end <= now_ms) {
            TokenState::Expired
        } else if self.from_ms.is_some_and(|begin| now_ms < begin) {
            TokenState::Early
        } else {
            TokenState::Valid
        }
    }

    fn is_admin(&self, now_ms: u64) -> bool {
        self.role == ApiRole::Admin && self.state(now_ms) == TokenState::Valid
    }
}

/// Whether an operator may be called so.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_@+".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(is_plain)
}

/// Decides on a new token whose secret has this SHA-256. Says when it expires, too.
///
/// # Errors
/// [`TokenError`] names the field.
pub fn issue(
    state: &State,
    now_ms: u64,
    request: &TokenRequest,
    token: Digest,
) -> Result<(Record, Option<u64>), TokenError> {
    let TokenRequest { name, role, from_ms, expires_seconds, why: _ } = request;
    if !is_name(name) {
        return Err(TokenError::Name(name.chars().take(NAME_MAX).collect()));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(TokenError::Reserved(name.clone()));
    }
    let ended = [TokenState::Expired, TokenState::Revoked];
    let has_one = |held: &Token| held.name == *name && !ended.contains(&held.state(now_ms));
    if state.tokens.values().any(has_one) {
        return Err(TokenError::Taken(name.clone()));
    }
    let expires_ms = match expires_seconds {
        Some(seconds) if !(1..=SECONDS_MAX).contains(seconds) => {
            return Err(TokenError::Seconds(*seconds));
        }
        Some(seconds) => Some(from_ms.unwrap_or(now_ms).saturating_add(seconds * 1000)),
        None => None,
    };
    let (name, role, from_ms) = (name.clone(), *role, *from_ms);
    Ok((Record::TokenIssued { name, token, role, from_ms, expires_ms }, expires_ms))
}

/// Decides to take a token back. Says when the last admin token that is left expires, if all do.
///
/// # Errors
/// [`TokenError::Unknown`], or [`TokenError::LastAdmin`] if nobody could make tokens afterwards.
pub fn revoke(state: &State, now_ms: u64, name: &str) -> Result<(Record, Option<u64>), TokenError> {
    let of_name = |token: &&Token| token.name == name && token.revoked_ms.is_none();
    let mut going = state.tokens.values().filter(of_name).peekable();
    if going.peek().is_none() {
        return Err(TokenError::Unknown(name.to_owned()));
    }
    let admin_goes = going.any(|token| token.is_admin(now_ms));
    let left = state.tokens.values();
    let left: Vec<&Token> =
        left.filter(|token| token.name != name && token.is_admin(now_ms)).collect();
    if admin_goes && left.is_empty() {
        return Err(TokenError::LastAdmin(name.to_owned()));
    }
    let until: Option<Vec<u64>> = left.iter().map(|token| token.expires_ms).collect();
    let until = until.and_then(|ends| ends.into_iter().max()).filter(|_| admin_goes);
    Ok((Record::TokenRevoked { name: name.to_owned() }, until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    use crate::Entry;

    fn wish(name: &str, role: ApiRole, expires_seconds: Option<u64>) -> TokenRequest {
        TokenRequest { name: name.into(), role, from_ms: None, expires_seconds, why: "".into() }
    }

    /// Journals what was decided at `at_ms`.
    fn apply(state: &mut State, at_ms: u64, what: Record) {
        let (who, why, previous) = ("admin".into(), String::new(), Digest([0; 32]));
        state.apply(&Entry { seq: 1, at_ms, who, why, previous, what });
    }

    fn issued(state: &mut State, at_ms: u64, wish: &TokenRequest) {
        let digest = Digest::of(format!("{}{at_ms}", wish.name).as_bytes());
        let (record, _) = issue(state, at_ms, wish, digest).unwrap();
        apply(state, at_ms, record);
    }

    #[test]
    fn a_token_is_good_from_its_beginning_to_its_end() {
        let mut state = State::default();
        let request =
            TokenRequest { from_ms: Some(2000), ..wish("anna", ApiRole::Viewer, Some(3)) };
        issued(&mut state, 1000, &request);
        let token = state.tokens.values().next().unwrap();
        let states = [1999, 2000, 4999, 5000].map(|now| token.state(now));
        use TokenState::*;
        assert_eq!(states, [Early, Valid, Valid, Expired]);
        assert_eq!(
            issue(&state, 4999, &request, Digest([1; 32])),
            Err(TokenError::Taken("anna".into()))
        );
        assert!(issue(&state, 5000, &request, Digest([1; 32])).is_ok(), "it has expired");
    }

    #[test]
    fn names_that_would_mislead_a_reader_of_the_journal_are_refused() {
        let state = State::default();
        let long = "x".repeat(NAME_MAX + 1);
        for name in ["", "anna berta", "device:pi", "anna\n", "\u{430}nna", &long] {
            let refused = issue(&state, 0, &wish(name, ApiRole::Viewer, None), Digest([1; 32]));
            assert!(matches!(refused, Err(TokenError::Name(_))), "{name:?}");
        }
        for name in RESERVED {
            let refused = issue(&state, 0, &wish(name, ApiRole::Viewer, None), Digest([1; 32]));
            assert_eq!(refused, Err(TokenError::Reserved(name.into())));
        }
        for seconds in [0, SECONDS_MAX + 1, u64::MAX] {
            let wish = wish("anna", ApiRole::Viewer, Some(seconds));
            assert_eq!(issue(&state, 0, &wish, Digest([1; 32])), Err(TokenError::Seconds(seconds)));
        }
    }

    #[test]
    fn the_last_admin_stays() {
        let mut state = State::default();
        issued(&mut state, 0, &wish("anna", ApiRole::Admin, None));
        issued(&mut state, 0, &wish("berta", ApiRole::Operator, None));
        assert_eq!(revoke(&state, 1, "anna"), Err(TokenError::LastAdmin("anna".into())));
        assert!(revoke(&state, 1, "berta").is_ok());
        assert_eq!(revoke(&state, 1, "carla"), Err(TokenError::Unknown("carla".into())));
        // Another admin whose time is limited: allowed, and the limit is told.
        issued(&mut state, 0, &wish("dora", ApiRole::Admin, Some(60)));
        assert_eq!(revoke(&state, 60_000, "anna"), Err(TokenError::LastAdmin("anna".into())));
        let (record, until) = revoke(&state, 1, "anna").unwrap();
        assert_eq!(until, Some(60_000));
        apply(&mut state, 5, record);
        assert_eq!(revoke(&state, 6, "anna"), Err(TokenError::Unknown("anna".into())));
        let token = state.tokens.values().find(|token| token.name == "anna").unwrap();
        assert_eq!((token.state(6), token.revoked_ms), (TokenState::Revoked, Some(5)));
    }
}
