//! Signs what the firmware verifies, on the host, and puts the memory map where the linker looks.

use std::path::{Path, PathBuf};

use tidegate_trust::release::{self, Keyring, Roster, sign_metadata};
use tidegate_trust::{Requirements, SigningKey, Trusted, sign_directive};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::{Generation, Labels};

const EXPIRES: u64 = 2_000_000_000;
const ISSUED: u64 = 1_800_000_000;
const ARTIFACTS: u32 = 4;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("memory.x"), include_bytes!("memory.x"))?;
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=build.rs");
    vectors(&out)
}

/// Two of three publishers; root 2 replaces one of them, and the online keys as well.
fn vectors(out: &Path) -> Result<(), Failure> {
    let [a, b, c, d] = [1, 2, 3, 4].map(key);
    let old = roster([&a, &b, &c], [10, 11, 12]);
    let new = roster([&b, &c, &d], [20, 21, 22]);
    let [online, director] = [key(21), key(22)];
    let root = release::initial("oslo".parse()?, &old, EXPIRES)?;
    let next = release::rotate(&root, &new, EXPIRES)?;
    let root = sign_metadata(&root, &[&a, &b]);
    let trusted: Trusted = Trusted::from_root(root.clone())?;

    let mut targets = release::first_targets("oslo".parse()?, EXPIRES);
    let (model, mut newest) = ("digits".parse()?, None);
    for minor in 0..ARTIFACTS {
        let version = format!("1.{minor}.0").parse()?;
        let manifest = format!("manifest {minor}");
        let needs = Requirements { memory_mib_min: Some(1), ..Requirements::default() };
        newest = Some(targets.add_artifact(&model, &version, manifest.as_bytes(), needs)?);
    }
    let signed_targets = sign_metadata(&targets, &[&b, &d]);
    let snapshot = release::next_snapshot(&trusted, &targets, &signed_targets, EXPIRES);
    let signed_snapshot = sign_metadata(&snapshot, &[&key(20)]);
    let timestamp = release::next_timestamp(&trusted, &snapshot, &signed_snapshot, ISSUED, EXPIRES);
    let rule = Rule {
        selector: Labels::new(),
        include: vec!["mcu-1".parse()?],
        exclude: vec![],
        salt: [7; 16],
        limit: LIMIT_ALL,
        artifact: newest.ok_or("no artifact")?,
        since: Generation(1),
    };
    let directive = Directive {
        fleet: "oslo".parse()?,
        model,
        generation: Generation(1),
        issued: ISSUED,
        expires: EXPIRES,
        rules: vec![rule],
        reason: None,
    };
    let files = [
        ("root-1", root),
        ("root-2", sign_metadata(&next, &[&a, &b, &d])),
        ("timestamp", sign_metadata(&timestamp, &[&online])),
        ("targets", signed_targets),
        ("directive", sign_directive(&director, &directive)),
    ];
    for (name, bytes) in files {
        std::fs::write(out.join(name), bytes)?;
    }
    Ok(())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn roster(publishers: [&SigningKey; 3], online: [u8; 3]) -> Roster {
    let keys = publishers.map(SigningKey::public).to_vec();
    let two = Keyring { keys, threshold: 2 };
    let [snapshot, timestamp, director] =
        online.map(|seed| Keyring { keys: vec![key(seed).public()], threshold: 1 });
    Roster { root: two.clone(), targets: two, snapshot, timestamp, director }
}
