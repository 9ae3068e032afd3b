//! The command line, as the suite's CLIENT-CLI.md gives it.

use std::path::PathBuf;

use crate::error::ClientError;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Trust this root.
    Init {
        /// Where trusted metadata is kept.
        metadata: PathBuf,
        /// The file with the root.
        root: PathBuf,
    },
    /// Fetch the newest metadata.
    Refresh {
        /// Where trusted metadata is kept.
        metadata: PathBuf,
        /// Where the repository's metadata is.
        url: String,
    },
    /// Fetch the newest metadata, and then targets.
    Download(Download),
}

/// What to download.
#[derive(Debug, PartialEq, Eq)]
pub struct Download {
    /// Where trusted metadata is kept.
    pub metadata: PathBuf,
    /// Where the repository's metadata is.
    pub url: String,
    /// The targets' paths, in the order in which they are fetched.
    pub names: Vec<String>,
    /// Where the repository's targets are.
    pub base: String,
    /// Where targets are stored.
    pub targets: PathBuf,
}

/// Reads the arguments, the program's name left out.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, ClientError> {
    let (mut metadata, mut url, mut base, mut targets) = (None, None, None, None);
    let (mut names, mut words) = (Vec::new(), Vec::new());
    let mut arguments = arguments;
    while let Some(word) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| usage(&word, "needs a value"));
        match word.as_str() {
            "--metadata-dir" => metadata = Some(value()?),
            "--metadata-url" => url = Some(value()?),
            "--target-name" => names.push(value()?),
            "--target-base-url" => base = Some(value()?),
            "--target-dir" => targets = Some(value()?),
            option if option.starts_with("--") => return Err(usage(option, "is not known")),
            _ => words.push(word),
        }
    }
    let needs = |value: Option<String>, option| value.ok_or_else(|| usage(option, "is missing"));
    let metadata = PathBuf::from(needs(metadata, "--metadata-dir")?);
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["init", root] => Ok(Command::Init { metadata, root: root.into() }),
        ["refresh"] => Ok(Command::Refresh { metadata, url: needs(url, "--metadata-url")? }),
        ["download"] if names.is_empty() => Err(usage("--target-name", "is missing")),
        ["download"] => Ok(Command::Download(Download {
            metadata,
            url: needs(url, "--metadata-url")?,
            names,
            base: needs(base, "--target-base-url")?,
            targets: needs(targets, "--target-dir")?.into(),
        })),
        _ => Err(usage(&words.join(" "), "is no command")),
    }
}

fn usage(word: &str, what: &str) -> ClientError {
    ClientError::Usage(format!("'{word}' {what}"))
}
