//! Keys as they are given on the command line: `anna=anna.pem.pub`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::bail;
use tidegate_trust::{KeyId, PublicKey};

use crate::keys;
use crate::release::KeyNames;

/// `NAME=FILE`, or `FILE`, whose name up to the first dot is the key's name then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// What people call it.
    pub name: String,
    /// Its file, private or public.
    pub file: PathBuf,
}

impl FromStr for NamedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = match text.split_once('=') {
            Some((name, file)) => (name.to_owned(), PathBuf::from(file)),
            None => {
                let name = Path::new(text).file_name().unwrap_or_default().to_string_lossy();
                (name.split('.').next().unwrap_or_default().to_owned(), PathBuf::from(text))
            }
        };
        KeyNames::default()
            .give(KeyId(tidegate_wire::Digest([0; 32])), &name)
            .map_err(|error| format!("{error}; write NAME=FILE"))?;
        match file.as_os_str().is_empty() {
            true => Err(format!("{text:?} names no file: write NAME=FILE")),
            false => Ok(Self { name, file }),
        }
    }
}

/// Reads the public keys and gives them their names. No key and no name may come twice.
pub(super) fn read(keys: &[NamedKey], names: &mut KeyNames) -> anyhow::Result<Vec<PublicKey>> {
    let mut found: Vec<(PublicKey, &NamedKey)> = Vec::new();
    for named in keys {
        let key = keys::read_public(&named.file)?;
        if let Some((_, twin)) = found.iter().find(|(other, _)| *other == key) {
            let (one, other) = (&twin.name, &named.name);
            bail!("{one} and {other} are the same key: everybody needs a key of their own");
        }
        if found.iter().any(|(_, twin)| twin.name == named.name) {
            bail!("{} is given twice with two keys: each name stands for one", named.name);
        }
        names.give(key.id(), &named.name)?;
        found.push((key, named));
    }
    Ok(found.into_iter().map(|(key, _)| key).collect())
}

/// Refuses a threshold that nobody can meet.
pub(super) fn reachable(option: &str, threshold: u32, keys: usize) -> anyhow::Result<()> {
    match threshold {
        0 => bail!("{option} 0: at least one signature must be needed"),
        more if more as usize > keys => {
            bail!(
                "{option} {threshold}: no more than {keys} could sign, since there are no more keys"
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_or_taken_from_the_file() {
        let parse = |text: &str| text.parse::<NamedKey>();
        let named = |name: &str, file: &str| NamedKey { name: name.into(), file: file.into() };
        assert_eq!(parse("anna=k/x.pem"), Ok(named("anna", "k/x.pem")));
        assert_eq!(parse("k/anna.pem.pub"), Ok(named("anna", "k/anna.pem.pub")));
        assert!(parse("=x.pem").is_err());
        assert!(parse("a b=x.pem").unwrap_err().contains("NAME=FILE"));
        assert!(parse("anna=").is_err());
    }

    #[test]
    fn one_person_is_not_two() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("anna.pem");
        keys::generate(&file).unwrap();
        let named = |name: &str, file: &Path| NamedKey { name: name.into(), file: file.into() };
        let both = [named("anna", &file), named("bob", &keys::public_path(&file))];
        let error = read(&both, &mut KeyNames::default()).unwrap_err().to_string();
        assert!(error.starts_with("anna and bob are the same key"), "{error}");
        assert!(reachable("--threshold", 3, 2).is_err());
        assert!(reachable("--threshold", 2, 2).is_ok());
    }
}
