//! The root of trust that a publisher goes by, kept beside the publisher's key.
//!
//! `trust init` puts it there. On a machine that has none yet, the controller's is taken on first use
//! and kept, and the user is told. A newer root is only taken if the old root's keys signed it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use tidegate_trust::Trusted;
use tidegate_trust::metadata::Role;

use crate::bundle::standing::{SignedBy, Standing, metadata_name, newest_root};
use crate::client::Client;
use crate::data_dir::write_durably;

/// The root's file name.
pub const ROOT_FILE: &str = "root.cose";

/// What the controller has, as far as it follows from the kept root; a newer root is kept.
pub async fn standing(
    client: &Client,
    key_file: &Path,
    given: Option<&Path>,
    now: u64,
) -> anyhow::Result<Standing> {
    let beside = key_file.with_file_name(ROOT_FILE);
    let file = given.unwrap_or(&beside);
    let missing = match given {
        Some(_) => Missing::Refused,
        None => Missing::TakenFromController,
    };
    let kept = kept(client, file, missing).await?;
    let standing = Standing::refresh(client, kept.clone(), now).await?;
    if standing.root != kept {
        write_durably(file, &standing.root, 0o644)?;
        eprintln!("note: the fleet's root was changed; {} is the newest again", file.display());
    }
    if standing.signed_by == SignedBy::FormerPublishers {
        let version = standing.targets.as_ref().map_or(0, |targets| targets.version);
        eprintln!(
            "note: former publishers signed the release metadata {version} that this builds on; the \
             publishers of root {} sign it now",
            standing.trusted.root().version,
        );
    }
    Ok(standing)
}

/// The newest root that follows from the one in `file`, which is replaced by it.
pub async fn newest(client: &Client, file: &Path) -> anyhow::Result<Vec<u8>> {
    let kept = kept(client, file, Missing::TakenFromController).await?;
    let newest = newest_root(client, kept.clone()).await?;
    if newest != kept {
        write_durably(file, &newest, 0o644)?;
    }
    Ok(newest)
}

/// What happens if no root is kept yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The controller's first one is taken on trust, and kept.
    TakenFromController,
    /// The file was named, so it must be there.
    Refused,
}

async fn kept(client: &Client, file: &Path, missing: Missing) -> anyhow::Result<Vec<u8>> {
    match fs::read(file) {
        Ok(bytes) => Ok(bytes),
        Err(error)
            if error.kind() == ErrorKind::NotFound && missing == Missing::TakenFromController =>
        {
            first_use(client, file).await
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the root {}", file.display()))
        }
    }
}

async fn first_use(client: &Client, file: &Path) -> anyhow::Result<Vec<u8>> {
    let root = client.metadata(&metadata_name(Role::Root, Some(1))).await?;
    let trusted: Trusted =
        Trusted::from_root(root.clone()).context("the controller's root is not valid")?;
    write_durably(file, &root, 0o644)?;
    let keys = trusted.root().roles.of(Role::Root).keys.iter();
    eprintln!(
        "note: took the root of the fleet {} from {} and keep it in {}; its root keys are {}",
        trusted.fleet(),
        client.url(),
        file.display(),
        keys.map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    Ok(root)
}
