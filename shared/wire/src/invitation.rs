//! What an operator hands to a device or a person to let them in: one line of text that says where the
//! controller is, how to recognise it, and the secret that opens the door.
//!
//! ```text
//! tgd1.<base64url of the CBOR>    an invitation, for devices
//! tgp1.<base64url of the CBOR>    a pass, for people
//! ```
//!
//! Whoever has the line talks to that controller and to no other: the TLS authority is recognised by
//! its fingerprint before anything is sent, so there is no trust on first use.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::envelope::{self, Message};

/// Bytes that only their owner may know. Shown as `***` wherever somebody prints it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl Secret {
    /// Its SHA-256: what is stored, and looked up, instead of it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// What goes into the `Authorization` header after `Bearer `.
    pub fn bearer(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Lets devices enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The controller's address, `https://host:port`.
    pub controller: String,
    /// SHA-256 of the fleet CA's certificate, DER.
    pub authority: Digest,
    /// SHA-256 of the signed root metadata that the device begins with.
    pub root: Digest,
    /// What opens the door.
    pub secret: Secret,
}

/// Lets a person or a program use the controller's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The controller's address, `https://host:port`.
    pub controller: String,
    /// SHA-256 of the fleet CA's certificate, DER.
    pub authority: Digest,
    /// What opens the door; sent as a bearer token, in base64url.
    pub secret: Secret,
}

/// The text is no invitation or pass. It is not shown, since it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTicket {
    /// It begins with something else.
    #[error("it does not begin with `{0}`")]
    Prefix(&'static str),
    /// What follows is damaged, for example cut off while copying.
    #[error("it is damaged: was all of it copied?")]
    Damaged,
}

const INVITATION: &str = "tgd1.";
const PASS: &str = "tgp1.";

impl Message for Invitation {
    const KIND: &'static str = "invitation";
    const SIZE_MAX: usize = 1024;
}

impl Message for Pass {
    const KIND: &'static str = "pass";
    const SIZE_MAX: usize = 1024;
}

impl Invitation {
    /// The line to hand over. It holds the secret.
    pub fn text(&self) -> String {
        text(INVITATION, self)
    }
}

impl Pass {
    /// The line to hand over. It holds the secret.
    pub fn text(&self) -> String {
        text(PASS, self)
    }

    /// What goes into the `Authorization` header after `Bearer `.
    pub fn bearer(&self) -> String {
        self.secret.bearer()
    }
}

impl FromStr for Invitation {
    type Err = InvalidTicket;

    fn from_str(line: &str) -> Result<Self, InvalidTicket> {
        parse(INVITATION, line)
    }
}

impl FromStr for Pass {
    type Err = InvalidTicket;

    fn from_str(line: &str) -> Result<Self, InvalidTicket> {
        parse(PASS, line)
    }
}

/// The secret in a bearer token.
///
/// # Errors
/// [`InvalidTicket::Damaged`] if it is no base64url.
pub fn secret_of_bearer(bearer: &str) -> Result<Secret, InvalidTicket> {
    URL_SAFE_NO_PAD.decode(bearer).map(Secret).map_err(|_| InvalidTicket::Damaged)
}

fn text<M: Message>(prefix: &str, message: &M) -> String {
    let mut line = String::from(prefix);
    URL_SAFE_NO_PAD.encode_string(envelope::seal(message), &mut line);
    line
}

fn parse<M: Message>(prefix: &'static str, line: &str) -> Result<M, InvalidTicket> {
    let rest = line.trim().strip_prefix(prefix).ok_or(InvalidTicket::Prefix(prefix))?;
    let bytes = URL_SAFE_NO_PAD.decode(rest).map_err(|_| InvalidTicket::Damaged)?;
    envelope::open(&bytes).map_err(|_| InvalidTicket::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn invitation() -> Invitation {
        Invitation {
            controller: "https://controller.example:8080".into(),
            authority: Digest::of(b"authority"),
            root: Digest::of(b"root"),
            secret: Secret(b"sixteen bytes...".to_vec()),
        }
    }

    #[test]
    fn an_invitation_survives_copying() {
        let line = invitation().text();
        assert!(line.starts_with("tgd1."), "{line}");
        assert_eq!(format!(" {line}\n").parse(), Ok(invitation()));
    }

    #[test]
    fn a_pass_is_no_invitation_and_a_piece_is_neither() {
        let Invitation { controller, authority, secret, .. } = invitation();
        let pass = Pass { controller, authority, secret };
        assert_eq!(pass.text().parse(), Ok(pass.clone()));
        assert_eq!(pass.text().parse::<Invitation>(), Err(InvalidTicket::Prefix("tgd1.")));
        let line = pass.text();
        assert_eq!(line[..line.len() - 3].parse::<Pass>(), Err(InvalidTicket::Damaged));
        assert_eq!(secret_of_bearer(&pass.bearer()), Ok(pass.secret));
    }

    #[test]
    fn nobody_prints_a_secret() {
        let shown = format!("{:?}", invitation());
        assert!(shown.contains("***") && !shown.contains("sixteen"), "{shown}");
    }
}
