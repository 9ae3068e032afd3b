//! `tidegate model sign`, `withdraw` and `renew`: releases that need more than one signature.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::json;
use tidegate_trust::Targets;
use tidegate_trust::metadata::Role;
use tidegate_trust::release::{Addition, Draft, add_signature, additions, verify_targets_draft};
use tidegate_wire::envelope;
use tidegate_wire::manifest::Manifest;

use super::connection::Connection;
use super::model::ModelAndVersion;
use super::publisher::{Signing, say_posted};
use super::text::now_ms;
use super::{say, say_json};
use crate::api::types::{PendingRelease, TargetsPosted, Withdraw, listed};
use crate::bundle::publish;
use crate::bundle::standing::Standing;
use crate::client::Client;

/// Whether somebody is asked before a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// At the terminal.
    Asked,
    /// Given on the command line.
    Given,
}

impl Consent {
    pub(super) fn of(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Asked }
    }

    /// Asks, unless it was given.
    pub(super) fn obtain(self, question: &str) -> anyhow::Result<()> {
        if self == Self::Given {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("nothing was signed: there is no terminal to ask at, so add --yes to agree");
        }
        eprint!("{question} [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => bail!("nothing was signed"),
        }
    }
}

/// Adds a signature to the release that waits, if it is about `wanted`.
pub(super) async fn sign(
    connection: &Connection,
    wanted: &ModelAndVersion,
    signing: &Signing,
    consent: Consent,
) -> anyhow::Result<()> {
    let publisher = signing.publisher()?;
    let client = connection.client()?;
    let standing = signing.standing(&client).await?;
    publish::may_publish(&standing.trusted, &publisher.key)?;
    let name = name(wanted);
    let (pending, bytes) = match fetch(&client).await? {
        Some(found) => found,
        None if released(&standing, wanted) => {
            return say(format_args!("{name} is released already; nothing to sign"));
        }
        None => bail!("no release waits for signatures: `tidegate model list` shows what there is"),
    };
    let draft = verify_targets_draft(&standing.trusted, standing.targets.as_ref(), &bytes)
        .context("what the controller wants signed is refused")?;
    let adds = additions(standing.targets.as_ref(), &draft.targets);
    let about = |addition: &Addition| {
        let version = addition.version();
        *addition.model() == wanted.model
            && (wanted.version.is_none() || version.is_none() || version == wanted.version.as_ref())
    };
    if !adds.is_empty() && !adds.iter().any(about) {
        let waits = adds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        bail!("{name} does not wait for signatures; what waits: {waits}");
    }
    let described = describe(&client, &standing, &draft, &adds).await?;
    if !connection.json {
        explain(&pending, &standing, &draft, &described)?;
    }
    consent.obtain("Sign this?")?;
    let posted = add(&client, &publisher, &draft, &bytes).await?;
    if connection.json {
        return say_json(&json!({ "signed": described, "posted": posted }));
    }
    say_posted(&posted, &format!("{name}: enough publishers signed, it counts now"), &name)
}

async fn add(
    client: &Client,
    publisher: &crate::bundle::memory::Publisher,
    draft: &Draft,
    bytes: &[u8],
) -> anyhow::Result<TargetsPosted> {
    publisher.remember(draft.targets.clone())?;
    Ok(client.post_targets(add_signature::<Targets>(bytes, &publisher.key)?).await?)
}

async fn fetch(client: &Client) -> anyhow::Result<Option<(PendingRelease, Vec<u8>)>> {
    let Some(pending) = client.pending().await?.pending else { return Ok(None) };
    Ok(Some((pending, client.draft().await?)))
}

fn released(standing: &Standing, wanted: &ModelAndVersion) -> bool {
    let targets = standing.targets.as_ref();
    let version = wanted.version.as_ref();
    targets.zip(version).is_some_and(|(targets, v)| targets.named(&wanted.model, v).is_some())
}

/// What is new, one line each, with digests. Manifests are checked: that they are of the artifact
/// that they are signed for.
async fn describe(
    client: &Client,
    standing: &Standing,
    draft: &Draft,
    adds: &[Addition],
) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for addition in adds {
        match addition {
            Addition::Artifact { model, version, digest } => {
                let bytes = client.blob(*digest).await?;
                let entry = draft.targets.artifacts.get(model).and_then(|all| all.get(version));
                let length = entry.map_or(0, |entry| entry.length);
                tidegate_trust::file::verify(&bytes, length, *digest)
                    .with_context(|| format!("the manifest of {model}@{version} is refused"))?;
                let manifest: Manifest = envelope::open(&bytes)
                    .with_context(|| format!("the manifest of {model}@{version} is refused"))?;
                if manifest.model != *model || manifest.version != *version {
                    let (of, at) = (&manifest.model, &manifest.version);
                    bail!("the manifest of {model}@{version} is that of {of}@{at}");
                }
                lines.push(format!("{addition}  artifact {digest}"));
            }
            Addition::Revocation { .. } | Addition::Floor { .. } => {
                lines.push(addition.to_string())
            }
        }
    }
    if lines.is_empty() {
        let models = standing.targets.as_ref().map_or(0, |targets| targets.artifacts.len());
        lines.push(format!("renews the releases of {models} models, adds nothing"));
    }
    Ok(lines)
}

fn explain(
    pending: &PendingRelease,
    standing: &Standing,
    draft: &Draft,
    described: &[String],
) -> anyhow::Result<()> {
    let base = standing.targets.as_ref().map_or(0, |targets| targets.version);
    let (fleet, version) = (standing.trusted.fleet(), draft.targets.version);
    say(format_args!(
        "release metadata {version} of {fleet}, after version {base}, nothing removed"
    ))?;
    described.iter().try_for_each(|line| say(format_args!("  {line}")))?;
    let expires = super::text::time(draft.targets.expires.saturating_mul(1000));
    say(format_args!("good until {expires}"))?;
    // Names are the controller's words; who signed was checked here.
    let valid = &draft.signers.valid;
    let signed = pending.signatures.signed.iter().filter(|label| valid.contains(&label.key));
    let signed: Vec<_> = signed.cloned().collect();
    say(format_args!(
        "signed by {} ({} of {})",
        listed(&signed),
        valid.len(),
        draft.signers.threshold
    ))
}

/// Signs the newest release metadata anew with a later expiry, or with new publishers' keys.
pub(super) async fn renew(connection: &Connection, signing: &Signing) -> anyhow::Result<()> {
    let publisher = signing.publisher()?;
    let client = connection.client()?;
    let standing = signing.standing(&client).await?;
    if standing.targets.is_none() {
        bail!("nothing was released yet, so there is nothing to renew");
    }
    let now = now_ms() / 1000;
    let (_, posted) = publish::propose(&client, &standing, &publisher, now, |_| Ok(())).await?;
    if connection.json {
        return say_json(&posted);
    }
    let models = standing.targets.iter().flat_map(|targets| targets.artifacts.keys());
    let model = models.map(ToString::to_string).next().unwrap_or_default();
    say_posted(&posted, "the release metadata is renewed", &model)
}

/// Drops the release that waits.
pub(super) async fn withdraw(connection: &Connection, why: String) -> anyhow::Result<()> {
    let client = connection.client()?;
    let Some(pending) = client.pending().await?.pending else {
        bail!("no release waits for signatures");
    };
    client.withdraw(&Withdraw { targets: pending.targets, why }).await?;
    if connection.json {
        return say_json(&pending);
    }
    say(format_args!("withdrawn: {} ({} {})", pending.line(), Role::Targets, pending.targets))
}

fn name(wanted: &ModelAndVersion) -> String {
    match &wanted.version {
        Some(version) => format!("{}@{version}", wanted.model),
        None => wanted.model.to_string(),
    }
}
