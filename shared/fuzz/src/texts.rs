//! What people and brokers hand over as text: invitations, passes, bearer tokens, names, topics.

use tidegate_trust::PublicKey;
use tidegate_wire::enrol::EnrolRequest;
use tidegate_wire::invitation::{Invitation, Pass, Secret, secret_of_bearer};
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest, FleetId, Labels, ModelName, Version};

use crate::messages::parsed;

/// Any text is refused or comes back as it was.
pub fn texts(bytes: &[u8]) {
    let _ = PublicKey::from_bytes(bytes).map(|key| assert_eq!(key.as_bytes(), bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(invitation) = text.parse::<Invitation>() {
        assert_eq!(invitation.text().parse(), Ok(invitation));
    }
    if let Ok(pass) = text.parse::<Pass>() {
        assert_eq!(pass.text().parse(), Ok(pass.clone()));
        assert_eq!(secret_of_bearer(&pass.bearer()), Ok(pass.secret));
    }
    if let Ok(secret) = secret_of_bearer(text) {
        assert_eq!(secret.bearer(), text, "two texts for one secret");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    name::<DeviceId>(text);
    name::<FleetId>(text);
    name::<ModelName>(text);
    name::<Version>(text);
    let fleet: FleetId = parsed("oslo");
    for name in [text.to_string(), format!("tidegate/oslo/{text}")] {
        if let Some(topic) = Topic::parse(&fleet, &name) {
            assert_eq!(topic.name(&fleet), name, "two names for one topic");
            assert!(!name.contains(['+', '#', '\0']), "a topic with a wildcard");
        }
    }
}

/// What is a name is one in paths, topics and shells too.
fn name<T: std::str::FromStr + ToString>(text: &str) {
    let Ok(name) = text.parse::<T>() else { return };
    assert_eq!(name.to_string(), text);
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    assert!(text.chars().all(harmless) && !text.is_empty() && text != "." && text != "..");
}

pub(crate) fn invitation() -> Invitation {
    Invitation {
        controller: "https://controller.example:8080".to_string(),
        authority: Digest::of(b"authority"),
        root: Digest::of(b"root"),
        secret: Secret(b"sixteen bytes...".to_vec()),
    }
}

pub(crate) fn pass() -> Pass {
    let Invitation { controller, authority, secret, .. } = invitation();
    Pass { controller, authority, secret }
}

pub(crate) fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        device: parsed("pi4.0001"),
        labels: Labels::from([("site".to_string(), "oslo".to_string())]),
        public_key: vec![7; 32],
        certificate_request: b"PKCS#10".to_vec(),
        secret: Some(Secret(b"let me in".to_vec())),
        root: Digest::of(b"root"),
        agent: "0.1.0".to_string(),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        invitation().text(),
        pass().text(),
        pass().bearer(),
        Digest::of(b"digest").to_string(),
        "pi4.0001".to_string(),
        "1.2.0-rc.1+b7".to_string(),
        "device/pi4.0001/report".to_string(),
        "directive/digits".to_string(),
        "timestamp".to_string(),
        "timestamp/more".to_string(),
        "device/pi4.0001/report/more".to_string(),
        "tidegate/oslo/device/pi4.0001/ack".to_string(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
