//! Reads one attack folder. Also used by the agent's tests.
#![allow(dead_code)] // Each runner uses some of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_wire::{DeviceId, Digest, FleetId, ModelName, Reason, Version};

/// The fleet, device and model of every folder.
pub fn fleet() -> FleetId {
    "oslo".parse().unwrap()
}

pub fn device() -> DeviceId {
    "pi-1".parse().unwrap()
}

pub fn model() -> ModelName {
    "gauge".parse().unwrap()
}

/// The generation of the directive that every device follows before the attack.
pub const FOLLOWED: u64 = 5;

/// Where the folders are.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/trust/tests/attacks"))
        .find(|folder| folder.is_dir())
        .expect("the attack folders")
}

/// Files by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// One attack.
#[derive(Clone)]
pub struct Attack {
    pub name: String,
    pub story: Story,
    /// The device's data folder.
    pub device: Files,
    /// What the server has, by the path that it is asked for: `metadata/…`, `blobs/…`.
    pub mirror: Files,
    /// What comes on the topics of models.
    pub directives: BTreeMap<ModelName, Vec<u8>>,
}

/// `attack.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    pub title: String,
    pub holds: String,
    pub does: String,
    pub must_not: String,
    pub expect: Expect,
    /// How the server, or for `directives/…` the broker, behaves for a path.
    #[serde(default)]
    pub conduct: BTreeMap<String, Conduct>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub outcome: Outcome,
    /// What is installed.
    pub version: Option<Version>,
    pub step: Option<Step>,
    /// The reason's name, as in [`Reason`].
    pub reason: Option<String>,
    pub code: Option<u16>,
    /// Metadata that may be kept although the attack is refused.
    #[serde(default)]
    pub persists: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Installs,
    Refused,
}

/// Where an attack is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// A root was fetched.
    Root,
    Timestamp,
    Snapshot,
    Targets,
    /// A directive came: its signature, encoding, fleet and model.
    Directive,
    /// It is for us: is it newer than the one that is followed?
    Generation,
    /// It names an artifact: may that be installed here and now?
    Release,
    /// The artifact's manifest was fetched.
    Manifest,
    /// A file that the manifest names was fetched.
    File,
}

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conduct {
    /// Bytes without end.
    Endless,
    /// One byte more than there may be.
    Oversized,
    /// Half of it, as if that were all.
    Truncated,
    /// Breaks off in the middle; asked for the rest, it sends the beginning and calls it the rest.
    WrongRange,
    /// A byte now and then.
    Trickle,
    /// Nothing, on an open connection.
    Silent,
    /// An error.
    Refused,
}

impl Attack {
    pub fn read(name: &str) -> Self {
        let folder = home().join(name);
        let text = fs::read_to_string(folder.join("attack.toml"));
        let text = text.unwrap_or_else(|error| panic!("{name}/attack.toml: {error}"));
        let story: Story =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{name}/attack.toml: {error}"));
        let directives = read_folder(&folder.join("directives"));
        let model = |(path, bytes): (String, Vec<u8>)| {
            (path.strip_suffix(".cose").expect("directives are *.cose").parse().unwrap(), bytes)
        };
        let attack = Self {
            name: name.to_string(),
            story,
            device: read_folder(&folder.join("device")),
            mirror: read_folder(&folder.join("mirror")),
            directives: directives.into_iter().map(model).collect(),
        };
        let Expect { outcome, version, step, .. } = &attack.story.expect;
        let complete = match outcome {
            Outcome::Installs => version.is_some() && step.is_none(),
            Outcome::Refused => version.is_none() && step.is_some(),
        };
        assert!(complete, "{name}/attack.toml: a refusal has a step, an install a version");
        attack.reason();
        attack
    }

    /// The expected reason; None if it installs. Name and number must say the same.
    pub fn reason(&self) -> Option<Reason> {
        let Expect { reason, code, .. } = &self.story.expect;
        let (name, code) = (reason.as_ref()?, code.expect("a reason has a number"));
        let reason = Reason::from(code);
        assert_eq!(format!("{reason:?}"), *name, "{}: name and number", self.name);
        Some(reason)
    }

    pub fn conduct(&self, path: &str) -> Option<Conduct> {
        self.story.conduct.get(path).copied()
    }
}

/// All attacks, by name.
pub fn all() -> Vec<Attack> {
    let entries = fs::read_dir(home()).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.join("attack.toml").exists());
    let mut names: Vec<_> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_string()).collect();
    names.sort();
    names.iter().map(|name| Attack::read(name)).collect()
}

/// The files of the version that every device runs before the attack, as they lie in its slot.
pub fn installed() -> Files {
    read_folder(&home().join("installed"))
}

/// Its identity.
pub fn installed_artifact() -> Digest {
    Digest::of(&installed()["manifest"])
}

fn read_folder(folder: &Path) -> Files {
    let mut files = Files::new();
    collect(folder, "", &mut files);
    files
}

fn collect(folder: &Path, prefix: &str, files: &mut Files) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}
