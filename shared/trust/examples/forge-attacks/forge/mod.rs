//! Attacks as bytes: what a device trusts, what the attacker serves and says, and what must become
//! of it.

mod controller;
mod encoding;
mod fleet;
mod mirror;
mod model;
mod readme;
mod rollback;
mod roots;
mod scene;
mod signatures;

use std::collections::BTreeMap;

use scene::Folder;

/// Every file of `tests/attacks` by its path there.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let folders = folders();
    let mut files = BTreeMap::from([
        ("README.md".to_string(), readme::readme(&folders)),
        // No tool may take line ends for its own.
        (".gitattributes".to_string(), b"* -text\n".to_vec()),
    ]);
    let mut put = |path: String, bytes: Vec<u8>| {
        assert!(files.insert(path.clone(), bytes).is_none(), "{path} twice");
    };
    for (name, bytes) in fleet::installed().files() {
        put(format!("installed/{name}"), bytes);
    }
    for folder in folders {
        for (name, bytes) in folder.files {
            put(format!("{}/{name}", folder.name), bytes);
        }
    }
    files
}

fn folders() -> Vec<Folder> {
    let mut folders = [
        scene::honest(),
        signatures::attacks(),
        roots::attacks(),
        rollback::attacks(),
        controller::attacks(),
        mirror::attacks(),
        encoding::attacks(),
    ]
    .concat();
    folders.sort_by_key(|folder| folder.name);
    folders
}
