//! One attack as a folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidegate_trust::sign_directive;
use tidegate_wire::{Digest, Reason};

use super::fleet::{
    DIRECTOR, FOLLOWED, Files, Fleet, Holders, MODEL, NEW_DIRECTOR, directed, directive, installed,
    key, newer,
};
use super::model::Bundle;

/// One attack: its files by their path in the folder.
#[derive(Clone)]
pub struct Folder {
    pub name: &'static str,
    pub story: Story,
    pub expected: Expected,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What is told of an attack.
#[derive(Clone)]
pub struct Story {
    pub title: &'static str,
    /// What the attacker has.
    pub holds: &'static str,
    /// What he does with it.
    pub does: &'static str,
    /// What must not happen.
    pub must_not: &'static str,
}

/// What must become of it.
#[derive(Clone, Copy)]
pub enum Expected {
    /// The version is installed.
    Installs(&'static str),
    /// It is refused at this step, for this reason.
    Refused(&'static str, Reason),
}

/// Where the device stands, what is served and said.
#[derive(Clone, Default)]
pub struct Scene {
    files: BTreeMap<String, Vec<u8>>,
    conduct: BTreeMap<String, &'static str>,
    persists: Vec<&'static str>,
}

impl Scene {
    /// A device that trusts `files` and runs 1.0.0.
    pub fn on(files: &Files) -> Self {
        let mut scene = Self::default();
        let Files { root, timestamp, snapshot, targets } = files.clone();
        let trust = [
            ("root", root),
            ("timestamp", timestamp),
            ("snapshot", snapshot),
            ("targets", targets),
        ];
        for (role, bytes) in trust {
            scene.put(format!("device/trust/{role}"), bytes);
        }
        let followed = sign_directive(&key(DIRECTOR), &directive(FOLLOWED, &installed()));
        scene.put(format!("device/directives/{MODEL}"), followed);
        scene
    }

    /// A device as all others.
    pub fn standard() -> Self {
        Self::on(&Fleet::standard().files())
    }

    /// The mirror has these files under the versions that `fleet` gives them.
    pub fn serves(self, fleet: &Fleet, files: &Files) -> Self {
        let (snapshot, targets) = (fleet.snapshot.version, fleet.targets.version);
        self.serves_file("timestamp", files.timestamp.clone())
            .serves_file(&format!("{snapshot}.snapshot"), files.snapshot.clone())
            .serves_file(&format!("{targets}.targets"), files.targets.clone())
    }

    /// The mirror has this metadata file; one that it had before gives way.
    pub fn serves_file(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.files.insert(format!("mirror/metadata/{name}"), bytes);
        self
    }

    /// The mirror has everything of a bundle.
    pub fn serves_bundle(mut self, bundle: &Bundle) -> Self {
        for (_, bytes) in bundle.files() {
            self.put(format!("mirror/blobs/{}", Digest::of(&bytes)), bytes);
        }
        self
    }

    /// The mirror answers the question for `honest` with other bytes.
    pub fn swaps(mut self, honest: &[u8], bytes: Vec<u8>) -> Self {
        self.files.insert(format!("mirror/blobs/{}", Digest::of(honest)), bytes);
        self
    }

    /// The mirror does not have this blob.
    pub fn withholds(mut self, honest: &[u8]) -> Self {
        self.files.remove(&format!("mirror/blobs/{}", Digest::of(honest)));
        self
    }

    /// This comes on the topic of the model.
    pub fn directs(mut self, signed: Vec<u8>) -> Self {
        self.put(format!("directives/{MODEL}.cose"), signed);
        self
    }

    /// How the mirror (or, for a directive, the broker) behaves when asked for a file.
    pub fn conducts(mut self, path: impl Into<String>, conduct: &'static str) -> Self {
        self.conduct.insert(path.into(), conduct);
        self
    }

    /// Roles whose files are genuine as far as the device can tell, and may be kept.
    pub fn persists(mut self, roles: &[&'static str]) -> Self {
        self.persists = roles.to_vec();
        self
    }

    fn put(&mut self, path: String, bytes: Vec<u8>) {
        let before = self.files.insert(path.clone(), bytes);
        assert!(before.is_none(), "{path} twice");
    }

    pub fn told(self, name: &'static str, story: Story, expected: Expected) -> Folder {
        let mut files = self.files;
        let text = told(&story, expected, &self.persists, &self.conduct);
        files.insert("attack.toml".to_string(), text.into_bytes());
        Folder { name, story, expected, files }
    }
}

fn told(
    story: &Story,
    expected: Expected,
    persists: &[&str],
    conduct: &BTreeMap<String, &str>,
) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        assert!(!value.contains(['"', '\\', '\n']), "{value:?} would need escaping");
        writeln!(text, "{key} = \"{value}\"").expect("a string takes text");
    };
    line("title", story.title);
    line("holds", story.holds);
    line("does", story.does);
    line("must_not", story.must_not);
    text.push_str("\n[expect]\n");
    match expected {
        Expected::Installs(version) => {
            text.push_str(&format!("outcome = \"installs\"\nversion = \"{version}\"\n"));
        }
        Expected::Refused(step, reason) => {
            text.push_str(&format!("outcome = \"refused\"\nstep = \"{step}\"\n"));
            text.push_str(&format!("reason = \"{reason:?}\"\ncode = {}\n", reason.code()));
        }
    }
    if !persists.is_empty() {
        text.push_str(&format!("persists = {persists:?}\n"));
    }
    if !conduct.is_empty() {
        text.push_str("\n[conduct]\n");
        for (path, conduct) in conduct {
            text.push_str(&format!("\"{path}\" = \"{conduct}\"\n"));
        }
    }
    text
}

/// No attacks: what must go on working, so that a device which refuses everything is noticed.
pub fn honest() -> Vec<Folder> {
    let (fleet, online) = (Fleet::newest(), ["timestamp", "snapshot", "targets"]);
    let plain = Scene::standard()
        .serves(&fleet, &fleet.files())
        .serves_bundle(&newer())
        .directs(directed(&newer()))
        .persists(&online)
        .told(
            "honest",
            Story {
                title: "No attack: a new version",
                holds: "nobody attacks",
                does: "publishers release 1.1.0 and the director names it",
                must_not: "the new version is refused",
            },
            Expected::Installs("1.1.0"),
        );
    let rotated = fleet.rotated(&Holders::rotated());
    let files = rotated.files();
    let rotation = Scene::standard()
        .serves_file("2.root", files.root.clone())
        .serves(&rotated, &files)
        .serves_bundle(&newer())
        .directs(sign_directive(&key(NEW_DIRECTOR), &directive(FOLLOWED + 1, &newer())))
        .persists(&["root", "timestamp", "snapshot", "targets"])
        .told(
            "honest-rotation",
            Story {
                title: "No attack: new keys, then a new version",
                holds: "nobody attacks",
                does: "a publisher leaves, another joins, the controller has new keys; then the \
                       director names 1.1.0",
                must_not: "the new keys are refused, or the new version",
            },
            Expected::Installs("1.1.0"),
        );
    vec![plain, rotation]
}
