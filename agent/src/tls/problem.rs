//! What a failed handshake means, and what to do about it, in words for people.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::AuthorityMissing;

/// What went wrong with TLS, if `error` or what caused it was that. It says what to do next.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(of(tls));
        }
        // An I/O error hides what it was made from, except from those who ask for it.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(told) = inner.and_then(|inner| explain(inner as &(dyn Error + 'static))) {
            return Some(told);
        }
        next = error.source();
    }
    None
}

/// What a device's controller or broker may mean by hanging up, if `error` or what caused it was that.
pub fn hung_up(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
            return Some(
                "it hung up: it is stopping, or this device was removed or revoked, which \
                 `tidegate device list` says"
                    .to_string(),
            );
        }
        next = error.source();
    }
    None
}

fn of(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS there: is this the right port?".to_string()
        }
        other => format!("TLS failed: {other}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    let missing = match error {
        CertificateError::Other(other) => other.0.downcast_ref::<AuthorityMissing>(),
        _ => None,
    };
    if let Some(missing) = missing {
        return format!(
            "it is not the controller that the token is for ({missing}): check the address, or \
             ask for a new token"
        );
    }
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate does not come from this fleet's authority: the address leads to \
             another controller, or somebody stands in between"
                .to_string()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is for {}, not for {}: use one of these names, or add this one to \
             `names` in the controller's configuration",
            presented.join(", "),
            expected.to_str()
        ),
        CertificateError::ExpiredContext { .. } | CertificateError::Expired => format!(
            "its certificate has expired, by this machine's clock ({error}): check both clocks; a \
             controller makes itself a new certificate when it starts"
        ),
        other => format!("its certificate is not accepted: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRevoked => {
            "it says that this device's certificate was revoked".to_string()
        }
        AlertDescription::CertificateExpired => {
            "it says that this device's certificate has expired".to_string()
        }
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::UnknownCA
        // What a stack says of a certificate that an authority of the same name did not sign.
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => {
            format!("it does not accept this device's certificate ({alert:?})")
        }
        other => format!("it ended the TLS handshake ({other:?})"),
    }
}
