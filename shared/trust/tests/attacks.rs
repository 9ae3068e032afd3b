//! Every folder of `attacks/` against the pure cores, driven as an agent drives them.
#![allow(missing_docs)]

mod folder;
#[path = "../examples/forge-attacks/forge/mod.rs"]
mod forge;
mod shell;

use std::collections::BTreeMap;
use std::fs;

use folder::{Attack, Files, Outcome, all, home};
use shell::Device;

#[test]
fn every_attack_is_refused_where_and_why_its_folder_says() {
    for attack in all() {
        let name = &attack.name;
        let mut device = Device::before(&attack);
        let before = device.disk.clone();
        device.meets(&attack);
        let expect = &attack.story.expect;
        match expect.outcome {
            Outcome::Installs => {
                assert_eq!(device.refusals, [], "{name}");
                assert_eq!(device.version(), expect.version, "{name}");
            }
            Outcome::Refused => {
                let expected = (expect.step.unwrap(), attack.reason().unwrap());
                assert_eq!(device.refusals.first(), Some(&expected), "{name}");
                assert_eq!(device.active(), folder::installed_artifact(), "{name}");
            }
        }
        for (role, bytes) in &device.disk {
            let kept = before.get(role) == Some(bytes) || expect.persists.contains(role);
            assert!(kept, "{name}: {role} was changed");
        }
        assert_eq!(before.keys().collect::<Vec<_>>(), device.disk.keys().collect::<Vec<_>>());
    }
}

/// An attack without any stolen key costs nothing but the time that it lasts.
#[test]
fn after_an_attack_the_device_takes_what_is_honest() {
    let honest = Attack::read("honest");
    let mut tried = 0;
    for attack in all() {
        let untouched = attack.story.expect.persists.is_empty() && attack.device == honest.device;
        if untouched && attack.story.expect.outcome == Outcome::Refused {
            let mut device = Device::before(&attack);
            device.meets(&attack);
            device.refusals.clear();
            device.meets(&honest);
            assert_eq!(
                (device.refusals.as_slice(), device.version()),
                (&[][..], honest.story.expect.version.clone()),
                "{}",
                attack.name
            );
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} attacks leave no trace");
}

/// What one reads in a folder is what the program that makes them says.
#[test]
fn the_folders_are_what_the_forge_makes() {
    let made = forge::files();
    let mut found = Files::new();
    for entry in fs::read_dir(home()).unwrap() {
        read_into(&mut found, entry.unwrap().path());
    }
    let hint = "run `cargo run -p tidegate-trust --example forge-attacks`";
    assert_eq!(names(&made), names(&found), "{hint}");
    for (name, bytes) in &made {
        assert!(found[name] == *bytes, "{name} differs: {hint}");
    }
}

/// The list that the folders must cover: TUF's, Uptane's, and those on encodings.
#[test]
fn every_attack_on_the_list_has_a_folder() {
    let list = [
        "arbitrary-install",
        "clock-set-back",
        "directive-of-another-fleet",
        "drop-request",
        "duplicate-keys",
        "endless-manifest",
        "endless-model",
        "endless-root",
        "endless-snapshot",
        "endless-targets",
        "endless-timestamp",
        "expired-directive",
        "expired-root",
        "expired-snapshot",
        "expired-targets",
        "expired-timestamp",
        "fast-forward",
        "freeze",
        "honest",
        "indefinite-length",
        "key-compromise-below-threshold",
        "malicious-mirror",
        "mix-and-match",
        "oversized-directive",
        "oversized-manifest",
        "oversized-model",
        "oversized-root",
        "oversized-snapshot",
        "oversized-targets",
        "oversized-timestamp",
        "partial-bundle",
        "replayed-directive",
        "rollback-snapshot",
        "rollback-targets",
        "rollback-timestamp",
        "root-chain-gap",
        "root-replay",
        "root-signed-by-new-keys-only",
        "slow-retrieval",
        "stolen-controller-below-the-floor",
        "stolen-controller-revoked-artifact",
        "stolen-controller-unsigned-artifact",
        "trailing-bytes",
        "wrong-software",
    ];
    let names: Vec<String> = all().into_iter().map(|attack| attack.name).collect();
    for wanted in list {
        assert!(names.iter().any(|name| name.starts_with(wanted)), "no folder for {wanted}");
    }
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&String> {
    files.keys().collect()
}

fn read_into(files: &mut Files, path: std::path::PathBuf) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| read_into(files, entry.unwrap().path()));
    } else {
        let name = path.strip_prefix(home()).unwrap().to_str().unwrap().to_string();
        files.insert(name, fs::read(&path).unwrap());
    }
}
