//! `tidegate model revoke` and `floor`: what publishers forbid, signed on this machine like a
//! release.

use anyhow::{Context, bail};
use serde_json::json;
use tidegate_wire::{ModelName, Version};

use super::connection::Connection;
use super::model::ModelAndVersion;
use super::publisher::{Signing, say_posted};
use super::text::now_ms;
use super::{say, say_json};
use crate::bundle::publish;

/// The longest reason: devices report it, and it stands in the metadata for good.
const REASON_BYTES_MAX: usize = 500;

/// Says that a version never runs again, anywhere.
pub(super) async fn revoke(
    connection: &Connection,
    wanted: &ModelAndVersion,
    reason: &str,
    signing: &Signing,
) -> anyhow::Result<()> {
    let ModelAndVersion { model, version } = wanted;
    let Some(version) = version else {
        bail!("say which version is revoked, as in {model}@1.2.0");
    };
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        bail!("--reason has 1 to {REASON_BYTES_MAX} bytes, not {}", reason.trim().len());
    }
    let name = format!("{model}@{version}");
    let publisher = signing.publisher()?;
    let client = connection.client()?;
    let standing = signing.standing(&client).await?;
    let named = standing.targets.as_ref().and_then(|it| it.named(model, version).map(|a| (it, a)));
    let known = named.and_then(|(targets, artifact)| targets.revocation(&artifact.digest));
    if let Some(revocation) = known {
        let known = &revocation.reason;
        return match connection.json {
            true => say_json(&json!({ "revoked": name, "reason": known, "posted": null })),
            false => say(format_args!("{name} was revoked before ({known}); nothing changed")),
        };
    }
    let now = now_ms() / 1000;
    let change = |targets: &mut tidegate_trust::Targets| targets.revoke(model, version, reason);
    let (_, posted) = publish::propose(&client, &standing, &publisher, now, change).await?;
    if connection.json {
        return say_json(&json!({ "revoked": name, "reason": reason, "posted": posted }));
    }
    say_posted(&posted, &format!("revoked {name}: no device runs it any more"), &name)
}

/// What a floor stands on.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Lowest {
    /// The lowest release that may still be installed, by its number in `model list`.
    #[arg(value_name = "RELEASE")]
    release: Option<u64>,
    /// The lowest that may still be installed, by its version.
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
}

/// Says that nothing older is installed any more.
pub(super) async fn floor(
    connection: &Connection,
    model: &ModelName,
    lowest: &Lowest,
    signing: &Signing,
) -> anyhow::Result<()> {
    let publisher = signing.publisher()?;
    let client = connection.client()?;
    let standing = signing.standing(&client).await?;
    let releases = standing.targets.as_ref().and_then(|targets| targets.artifacts.get(model));
    let releases = releases.with_context(|| format!("no version of {model} was released yet"))?;
    let release = match (&lowest.version, lowest.release) {
        (Some(version), _) => match releases.get(version) {
            Some(entry) => entry.release,
            None => bail!("{model}@{version} was never released"),
        },
        (None, release) => release.context("say which release is the lowest")?,
    };
    let before = standing.targets.as_ref().map_or(0, |targets| targets.floor(model));
    if before == release {
        return match connection.json {
            true => say_json(&json!({ "model": model, "floor": release, "posted": null })),
            false => {
                say(format_args!("the floor of {model} is release {release}; nothing changed"))
            }
        };
    }
    let now = now_ms() / 1000;
    let change = |targets: &mut tidegate_trust::Targets| targets.raise_floor(model, release);
    let (_, posted) = publish::propose(&client, &standing, &publisher, now, change).await?;
    if connection.json {
        return say_json(&json!({ "model": model, "floor": release, "posted": posted }));
    }
    let done = format!(
        "no device installs a release of {model} below {release} any more; what runs already goes \
         on, and a trial that fails may go back to it"
    );
    say_posted(&posted, &done, &model.to_string())
}
