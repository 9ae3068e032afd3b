use super::*;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey as P256};
use p256::pkcs8::EncodePublicKey;
use serde_json::json;
use tidegate_trust::workflow::{Effect, Event, Limits, Refresh};
use tidegate_trust::{SigningKey, Trusted};

/// A key of either kind, under a name of its own.
enum Pair {
    Ed25519(SigningKey),
    P256(P256),
}

impl Pair {
    fn both() -> [Self; 2] {
        [Self::Ed25519(SigningKey::from_seed(&[1; 32])), Self::P256(p256(2))]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "edwards",
            Self::P256(_) => "nist",
        }
    }

    fn public(&self) -> Value {
        let (keytype, scheme, public) = match self {
            Self::Ed25519(key) => ("ed25519", "ed25519", digits(key.public().as_bytes())),
            Self::P256(key) => {
                let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
                ("ecdsa", "ecdsa-sha2-nistp256", pem)
            }
        };
        json!({ "keytype": keytype, "scheme": scheme, "keyval": { "public": public } })
    }

    fn sign(&self, message: &[u8]) -> String {
        match self {
            Self::Ed25519(key) => digits(&key.sign(message)),
            Self::P256(key) => {
                let signature: DerSignature = key.sign(message);
                digits(signature.as_bytes())
            }
        }
    }
}

fn p256(seed: u8) -> P256 {
    P256::from_slice(&[seed; 32]).unwrap()
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file, signed by both keys.
fn signed(signed: &Value) -> Value {
    let mut canonical = Vec::new();
    let mut writer = Serializer::with_formatter(&mut canonical, CanonicalFormatter::new());
    signed.serialize(&mut writer).unwrap();
    let sign = |pair: &Pair| json!({ "keyid": pair.name(), "sig": pair.sign(&canonical) });
    json!({ "signed": signed, "signatures": Pair::both().iter().map(sign).collect::<Vec<_>>() })
}

fn bytes(file: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(file).unwrap()
}

fn common(kind: &str, mut more: Value) -> Value {
    let common = json!({
        "_type": kind, "spec_version": "1.0.31", "version": 1, "expires": "2030-01-01T00:00:00Z",
    });
    for (name, value) in common.as_object().unwrap() {
        more[name] = value.clone();
    }
    more
}

/// Both keys must sign everything. The note needs the canonical form: control characters, and
/// letters beyond ASCII.
fn root() -> Value {
    let [edwards, nist] = Pair::both().map(|pair| pair.public());
    let role = json!({ "keyids": ["edwards", "nist"], "threshold": 2 });
    common(
        "root",
        json!({
            "keys": { "edwards": edwards, "nist": nist },
            "roles": { "root": role, "timestamp": role, "snapshot": role, "targets": role },
            "x-note": "\u{1} æ \" \\ \n",
        }),
    )
}

fn refuses(root: &Value) -> TrustError {
    Trusted::<Json>::from_root(bytes(&signed(root))).unwrap_err()
}

#[test]
fn a_refresh_over_json_with_both_kinds_of_keys() {
    let mut trusted: Trusted<Json> = Trusted::from_root(bytes(&signed(&root()))).unwrap();
    let names = |file: &str| json!({ "meta": { file: { "version": 1 } } });
    let files = [
        (Role::Timestamp, common("timestamp", names("snapshot.json"))),
        (Role::Snapshot, common("snapshot", names("targets.json"))),
        (Role::Targets, common("targets", json!({ "targets": {} }))),
    ];
    let (mut refresh, _) = Refresh::start(0, trusted.clone(), Limits::default());
    let mut effects = refresh.step(Event::NotFound { role: Role::Root });
    for (role, file) in files {
        assert!(matches!(effects.last(), Some(Effect::Fetch { role: next, .. }) if *next == role));
        effects = refresh.step(Event::Fetched { role, bytes: bytes(&signed(&file)) });
    }
    assert!(matches!(effects.last(), Some(Effect::Done(_))), "{effects:?}");
    trusted = refresh.into_trusted();
    assert_eq!(trusted.targets().map(|targets| targets.version), Some(1));
}

#[test]
fn one_changed_letter_or_signature_is_one_too_few() {
    let whole = signed(&root());
    let mut other = whole.clone();
    other["signed"]["x-note"] = json!("another");
    assert!(Trusted::<Json>::from_root(bytes(&other)).is_err());
    for index in 0..2 {
        let mut other = whole.clone();
        other["signatures"][index]["sig"] = whole["signatures"][1 - index]["sig"].clone();
        let error = Trusted::<Json>::from_root(bytes(&other)).unwrap_err();
        assert!(matches!(error, TrustError::Signatures { valid: 1, threshold: 2, .. }), "{error}");
    }
}

#[test]
fn a_key_counts_once_however_often_it_is_named() {
    let mut twice = signed(&root());
    twice["signatures"][1] = twice["signatures"][0].clone();
    let error = Trusted::<Json>::from_root(bytes(&twice)).unwrap_err();
    assert_eq!(error, broken("two signatures in the name of one key"));
    let mut alias = root();
    alias["keys"]["nist"] = alias["keys"]["edwards"].clone();
    let error = Json::root(&bytes(&alias)).unwrap_err();
    assert_eq!(error, invalid(Role::Root, "a role has one key under two names"));
    let mut doubled = root();
    doubled["roles"]["root"]["keyids"] = json!(["nist", "nist"]);
    let error = Json::root(&bytes(&doubled)).unwrap_err();
    assert_eq!(error, invalid(Role::Root, "a role names a key twice"));
}

#[test]
fn an_unknown_kind_of_key_verifies_nothing() {
    let mut unknown = root();
    unknown["keys"]["nist"]["scheme"] = json!("x-unheard-of");
    let error = refuses(&unknown);
    assert!(matches!(error, TrustError::Signatures { valid: 1, .. }), "{error}");
    let mut enough = unknown;
    enough["roles"]["root"]["threshold"] = json!(1);
    assert!(Trusted::<Json>::from_root(bytes(&signed(&enough))).is_ok());
}

#[test]
fn what_is_no_root_is_refused() {
    let edits: [fn(&mut Value); 6] = [
        |root| root["_type"] = json!("targets"),
        |root| root["spec_version"] = json!("2.0.0"),
        |root| root["version"] = json!(0),
        |root| root["expires"] = json!("tomorrow"),
        |root| root["roles"]["targets"]["threshold"] = json!(0),
        |root| root["roles"]["targets"]["keyids"] = json!(["nobody"]),
    ];
    for edit in edits {
        let mut root = root();
        edit(&mut root);
        assert!(matches!(refuses(&root), TrustError::Invalid { role: Role::Root, .. }));
    }
}
