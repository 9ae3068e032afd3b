//! Every kind of message that is signed, by keys from fixed seeds.

use std::collections::BTreeMap;
use std::path::Path;

use tidegate_trust::release::{self, Keyring, Roster, sign_metadata};
use tidegate_trust::{PublicKey, Requirements, SigningKey, Trusted, sign_directive, sign_enrol};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::enrol::EnrolRequest;
use tidegate_wire::invitation::Secret;
use tidegate_wire::{Digest, Generation, Labels};

/// When everything expires, Unix seconds.
const EXPIRES: u64 = 2_000_000_000;
/// When everything is signed, Unix seconds.
const ISSUED: u64 = 1_800_000_000;

/// Writes all vectors and their index.
pub fn write(directory: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut index = String::new();
    for (name, (bytes, keys)) in vectors()? {
        let file = format!("{name}.cose");
        std::fs::write(directory.join(&file), bytes).map_err(failed)?;
        let keys: Vec<_> = keys.iter().map(hex).collect();
        index += &format!("{file} {}\n", keys.join(","));
    }
    std::fs::write(directory.join("index"), index).map_err(failed)
}

fn hex(key: &PublicKey) -> String {
    key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

type Vectors = BTreeMap<String, (Vec<u8>, Vec<PublicKey>)>;

fn vectors() -> Result<Vectors, String> {
    let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
    let publishers = [key(1), key(2), key(3)];
    let [snapshot_key, timestamp_key, director, device] = [10, 11, 12, 20].map(key);
    let ring = |keys: &[SigningKey]| Keyring {
        keys: keys.iter().map(SigningKey::public).collect(),
        threshold: 1,
    };
    let single = |key: &SigningKey| Keyring { keys: vec![key.public()], threshold: 1 };
    let roster = Roster {
        root: ring(&publishers),
        targets: ring(&publishers),
        snapshot: single(&snapshot_key),
        timestamp: single(&timestamp_key),
        director: single(&director),
    };
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let fleet: tidegate_wire::FleetId = "oslo".parse().map_err(|e| said(&e))?;
    let root = release::initial(fleet.clone(), &roster, EXPIRES).map_err(|e| said(&e))?;
    let mut targets = release::first_targets(fleet, EXPIRES);
    let (model, version) = ("digits".parse().map_err(|e| said(&e))?, "1.0.0");
    let version = version.parse().map_err(|e| said(&e))?;
    let open = Requirements::default();
    let added = targets.add_artifact(&model, &version, b"a manifest", open);
    let artifact = added.map_err(|e| said(&e))?;

    let mut all = Vectors::new();
    for count in 1..=publishers.len() {
        let signers: Vec<_> = publishers[..count].iter().collect();
        let keys: Vec<_> = signers.iter().map(|key| key.public()).collect();
        all.insert(format!("root-{count}"), (sign_metadata(&root, &signers), keys.clone()));
        all.insert(format!("targets-{count}"), (sign_metadata(&targets, &signers), keys));
    }
    let trusted: Trusted = Trusted::from_root(all["root-1"].0.clone()).map_err(|e| said(&e))?;
    let signed_targets = &all["targets-1"].0;
    let snapshot = release::next_snapshot(&trusted, &targets, signed_targets, EXPIRES);
    let signed_snapshot = sign_metadata(&snapshot, &[&snapshot_key]);
    let timestamp = release::next_timestamp(&trusted, &snapshot, &signed_snapshot, ISSUED, EXPIRES);
    let signed_timestamp = sign_metadata(&timestamp, &[&timestamp_key]);
    all.insert("snapshot".into(), (signed_snapshot, vec![snapshot_key.public()]));
    all.insert("timestamp".into(), (signed_timestamp, vec![timestamp_key.public()]));

    let everyone = Rule {
        selector: Labels::new(),
        include: vec![],
        exclude: vec![],
        salt: [7; 16],
        limit: LIMIT_ALL,
        artifact,
        since: Generation(1),
    };
    let directive = Directive {
        fleet: root.fleet.clone(),
        model,
        generation: Generation(1),
        issued: ISSUED,
        expires: EXPIRES,
        rules: vec![everyone],
        reason: None,
    };
    let signed = sign_directive(&director, &directive);
    all.insert("directive".into(), (signed, vec![director.public()]));
    all.insert("enrol".into(), (enrol(&device)?, vec![device.public()]));
    Ok(all)
}

fn enrol(device: &SigningKey) -> Result<Vec<u8>, String> {
    let request = EnrolRequest {
        device: "pi-1".parse().map_err(|error| format!("{error}"))?,
        labels: Labels::new(),
        public_key: device.public().as_bytes().to_vec(),
        certificate_request: b"PKCS#10".to_vec(),
        secret: Some(Secret(b"let me in".to_vec())),
        root: Digest::of(b"root"),
        agent: "0.1.0".into(),
    };
    Ok(sign_enrol(device, &request))
}
