//! `tidegate model`: check, release and look at models.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_wire::{Digest, ModelName, Version};

use super::connection::Connection;
use super::publisher::{Signing, say_posted};
use super::sign::{self, Consent};
use super::text::{Table, doubts, now_ms, right, size};
use super::{forbid, progress, root, say, say_json};
use crate::api::types::{
    Answers, ModelDetail, ModelSummary, ReleaseState, TargetsPosted, VersionSummary, listed,
};
use crate::bundle::check::{self, Checked};
use crate::bundle::memory::{Publisher, Supersede};
use crate::bundle::{Bundle, publish};
use crate::client::Client;
use crate::keys;

const EXAMPLES: &str = "\
Examples:
  tidegate model check ./digits/1.1.0
  tidegate model push ./digits/1.1.0 --key ./keys/publisher.pem
  tidegate model pack ./digits/1.1.0 ./packed && tidegate-agent --serve ./packed
  tidegate model revoke digits@1.1.0 --reason 'wrong labels' --key ./keys/publisher.pem
  tidegate model floor digits --version 1.0.0 --key ./keys/publisher.pem
  tidegate model list
  tidegate model show digits@1.1.0 --json

A model's folder has a model.toml, a model file, a golden set and a reference sample:
  name = \"digits\"
  version = \"1.1.0\"
  model = \"model.onnx\"         # weights in files beside it are put into it
  # engine = \"tract-onnx\"      # what runs it; chosen by the tool if left out
  golden = \"golden.npz\"        # arrays input.<tensor> and output.<tensor>: what must come out
  reference = \"reference.npz\"  # the training rows, for drift; may be left out
  card = \"card.md\"             # for people; may be left out
  task = \"classification\"      # or regression, embedding, generation
  [[inputs]]
  name = \"pixels\"
  datatype = \"FP32\"            # FP32, FP64, INT64, INT32, UINT8, BYTES (text)
  shape = [-1, 64]             # -1 is the batch
  [[outputs]]
  name = \"probabilities\"
  datatype = \"FP32\"
  shape = [-1, 10]
  [gates.shadow]               # what it must show on a device; may be left out
  agreement_percent_min = 80
  [requirements]               # what a device must have; may be left out
  memory_mib_min = 64          # also agent_min = \"0.1.0\", opset (else the file's), labels
Models that take text: model.safetensors with config.json and tokenizer.json beside it (a sentence
encoder of the BERT type), or a .gguf (a language model of the Llama type). Their tensors are BYTES, and
their golden set may be a golden.json with the same arrays:
  [text]                       # all of it may be left out
  pooling = \"mean\"             # encoders: mean or cls; else as modules.json says
  normalize = true             # encoders
  tokens_max = 256             # encoders: cut there; language models: write so many by default
  context_max = 2048           # language models: tokens of prompt and answer together
  stop = [\"User:\"]             # language models: the text ends before";

/// Check, release and look at models.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a model's folder as `push` does, without uploading anything.
    ///
    /// Loads the model with the engine that devices have, and compares its answers to the golden
    /// inputs with the golden outputs.
    Check {
        /// The model's folder, with its model.toml.
        dir: PathBuf,
    },
    /// Check a model and write what devices would fetch into a folder.
    ///
    /// `tidegate-agent --serve FOLDER` answers with it as a device would, without a fleet.
    Pack {
        /// The model's folder, with its model.toml.
        dir: PathBuf,
        /// The folder to write; it is made, and must not exist.
        folder: PathBuf,
    },
    /// Check a model, upload it and sign its release.
    ///
    /// The signature is made on this machine; the key never leaves it. Pushing twice changes
    /// nothing. Nothing runs anywhere until a rollout is started.
    Push {
        /// The model's folder, with its model.toml.
        dir: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Sign a release that waits for your signature.
    ///
    /// What is signed is checked on this machine first and shown: nothing is removed, versions rise,
    /// manifests are those of their artifacts.
    Sign {
        /// What waits: model@version, or the model.
        #[arg(value_name = "NAME[@VERSION]")]
        model: ModelAndVersion,
        #[command(flatten)]
        signing: Signing,
        /// Do not ask before signing.
        #[arg(long)]
        yes: bool,
    },
    /// Drop the release that waits for signatures.
    Withdraw {
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Sign the release metadata anew, unchanged: before it expires, or after the publishers changed.
    Renew {
        #[command(flatten)]
        signing: Signing,
    },
    /// Say that a version never runs again, on any device.
    ///
    /// Devices that run it move to what lies in their other slot as soon as they hear of it, or
    /// answer with nothing; its rollout is taken back. It cannot be undone: push the model again
    /// under a new version. With a threshold it waits for other publishers, as a push does.
    Revoke {
        /// What is revoked: model@version.
        #[arg(value_name = "NAME@VERSION")]
        model: ModelAndVersion,
        /// Why, for the metadata, the devices' reports and whoever lists the model.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Say that nothing older than a release is installed any more. Floors only rise.
    ///
    /// Devices refuse older releases before they download them, however well they are signed. What
    /// runs already goes on, and a device whose trial of a newer version fails may still go back to
    /// the one before. To end a version for good, revoke it.
    Floor {
        /// The model.
        model: ModelName,
        #[command(flatten)]
        lowest: forbid::Lowest,
        #[command(flatten)]
        signing: Signing,
    },
    /// List the released models.
    List,
    /// Show one model, or one version of it.
    Show {
        /// The model, or model@version.
        #[arg(value_name = "NAME[@VERSION]")]
        model: ModelAndVersion,
    },
}

/// `NAME` or `NAME@VERSION`.
#[derive(Debug, Clone)]
pub struct ModelAndVersion {
    /// The model.
    pub model: ModelName,
    /// The version, if one was given.
    pub version: Option<Version>,
}

impl FromStr for ModelAndVersion {
    type Err = tidegate_wire::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (model, version) = match text.split_once('@') {
            Some((model, version)) => (model, Some(version.parse()?)),
            None => (text, None),
        };
        Ok(Self { model: model.parse()?, version })
    }
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { connection, command } = options;
    let needs_controller = !matches!(command, Command::Check { .. } | Command::Pack { .. });
    match command {
        Command::Check { dir } => check(&dir, connection.json)?,
        Command::Pack { dir, folder } => pack(&dir, &folder, connection.json)?,
        Command::Push { dir, signing } => push(&connection, &dir, &signing).await?,
        Command::Sign { model, signing, yes } => {
            sign::sign(&connection, &model, &signing, Consent::of(yes)).await?;
        }
        Command::Withdraw { why } => sign::withdraw(&connection, why).await?,
        Command::Renew { signing } => sign::renew(&connection, &signing).await?,
        Command::Revoke { model, reason, signing } => {
            forbid::revoke(&connection, &model, &reason, &signing).await?;
        }
        Command::Floor { model, lowest, signing } => {
            forbid::floor(&connection, &model, &lowest, &signing).await?;
        }
        Command::List => {
            let list = connection.client()?.models().await?;
            if connection.json {
                say_json(&list)?;
            } else if list.models.is_empty() {
                say("no models yet: release one with `tidegate model push DIR --key FILE`")?;
            } else {
                say(table(&list.models))?;
            }
        }
        Command::Show { model } => show(&connection, &model).await?,
    }
    if needs_controller {
        connection.warn().await;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(dir: &Path, json: bool) -> anyhow::Result<()> {
    let bundle = Bundle::read(dir)?;
    let checked = check::check(&bundle)?;
    if json {
        return say_json(&described(&bundle, &checked));
    }
    say_checked(&bundle, &checked)?;
    say("nothing was uploaded: `tidegate model push` does that")
}

fn pack(dir: &Path, folder: &Path, json: bool) -> anyhow::Result<()> {
    let bundle = Bundle::read(dir)?;
    let checked = check::check(&bundle)?;
    bundle.write(folder).with_context(|| format!("cannot write {}", folder.display()))?;
    if json {
        return say_json(&described(&bundle, &checked));
    }
    say_checked(&bundle, &checked)?;
    say(format_args!("written; try it: tidegate-agent --serve {}", folder.display()))
}

/// Checks, uploads and releases the model in `dir`, quietly; the root of trust lies beside the key.
///
/// # Errors
/// Says what is wrong with the folder, the key or the controller.
pub async fn publish(client: &Client, dir: &Path, key_file: &Path) -> anyhow::Result<Digest> {
    let key = keys::read_private(key_file)?;
    let supersede = Supersede::Never;
    let publisher = Publisher { key, file: key_file.to_owned(), supersede };
    let bundle = Bundle::read(dir)?;
    check::check(&bundle)?;
    let now = now_ms() / 1000;
    let standing = root::standing(client, key_file, None, now).await?;
    let quiet = Arc::new(|_| {});
    let published = publish::publish(client, &standing, &publisher, &bundle, now, quiet).await?;
    Ok(published.artifact.digest)
}

async fn push(connection: &Connection, dir: &Path, signing: &Signing) -> anyhow::Result<()> {
    // Everything that can be wrong here, before anything that needs the network.
    let publisher = signing.publisher()?;
    let bundle = Bundle::read(dir)?;
    let checked = check::check(&bundle)?;
    let client = connection.client()?;
    if !connection.json {
        say_checked(&bundle, &checked)?;
    }
    let standing = signing.standing(&client).await?;
    let (bar, on_upload) = progress::upload_bar(connection.json);
    let now = now_ms() / 1000;
    let published = publish::publish(&client, &standing, &publisher, &bundle, now, on_upload);
    let published = published.await;
    bar.finish_and_clear();
    let published = published?;
    if connection.json {
        let mut value = described(&bundle, &checked);
        value["release"] = json!(published.release);
        value["targets"] = json!(published.targets);
        value["released_before"] = json!(published.posted.is_none());
        value["posted"] = json!(published.posted);
        value["uploaded_bytes"] = json!(published.uploaded);
        return say_json(&value);
    }
    let name = format!("{}@{}", bundle.manifest.model, bundle.manifest.version);
    let uploaded = size(published.uploaded);
    let Some(posted) = &published.posted else {
        return say(format_args!(
            "{name} was released before; nothing changed ({uploaded} uploaded)"
        ));
    };
    let done = format!("released {name} as release {}, {uploaded} uploaded", published.release);
    say_posted(posted, &done, &name)?;
    match posted {
        TargetsPosted::Published(_) => {
            say(format_args!("next: tidegate rollout start {name} --why '…'"))
        }
        TargetsPosted::Pending(_) => Ok(()),
    }
}

fn say_checked(bundle: &Bundle, checked: &Checked) -> anyhow::Result<()> {
    let (model, version) = (&bundle.manifest.model, &bundle.manifest.version);
    say(format_args!("{model}@{version}  {}", size(bundle.length())))?;
    say(format_args!("artifact {}", bundle.digest()))?;
    say(format_args!("needs {}", bundle.requirements))?;
    say(format_args!(
        "golden set: {} rows as expected, off by at most {:.1e}; loaded in {:.1} ms, {:.1} µs a row",
        checked.rows,
        checked.worst,
        checked.load.as_secs_f64() * 1e3,
        checked.per_row.as_secs_f64() * 1e6,
    ))?;
    bundle.rewrites.iter().try_for_each(|line| say(format_args!("model file: {line}")))?;
    bundle.notes.iter().try_for_each(|note| say(format_args!("note: {note}")))
}

fn described(bundle: &Bundle, checked: &Checked) -> serde_json::Value {
    json!({
        "model": bundle.manifest.model,
        "version": bundle.manifest.version,
        "digest": bundle.digest(),
        "bytes": bundle.length(),
        "needs": bundle.requirements.to_string(),
        "golden_rows": checked.rows,
        "golden_worst": checked.worst,
        "load_ms": checked.load.as_secs_f64() * 1e3,
        "row_us": checked.per_row.as_secs_f64() * 1e6,
        "engine": bundle.manifest.engine,
        "rewrites": bundle.rewrites,
        "notes": bundle.notes,
    })
}

async fn show(connection: &Connection, wanted: &ModelAndVersion) -> anyhow::Result<()> {
    let mut detail = connection.client()?.model(&wanted.model).await?;
    if let Some(version) = &wanted.version {
        let versions = &mut detail.summary.versions;
        let known: Vec<String> = versions.iter().map(|found| found.version.to_string()).collect();
        versions.retain(|found| found.version == *version);
        if versions.is_empty() {
            let (model, known) = (&wanted.model, known.join(", "));
            anyhow::bail!("{model} has no version {version}, only {known}");
        }
        detail.rollouts.retain(|rollout| rollout.to == *version);
    }
    if connection.json {
        return say_json(&detail);
    }
    say(table(std::slice::from_ref(&detail.summary)))?;
    say_digests(&detail)?;
    let answers = answers(&detail.summary);
    if !answers.is_empty() {
        say("")?;
        say(answers)?;
    }
    if !detail.rollouts.is_empty() {
        say("")?;
        say(super::rollout::table(&detail.rollouts))?;
    }
    Ok(())
}

fn say_digests(detail: &ModelDetail) -> anyhow::Result<()> {
    if let Some(directive) = &detail.directive {
        say(format_args!("\ndirected: generation {}", directive.generation.0))?;
    }
    say("")?;
    let mut table = Table::new(&["VERSION", "ARTIFACT (SHA-256 of the manifest)", "SIGNED BY"]);
    for version in &detail.summary.versions {
        let signed = listed(&version.signatures.signed);
        table.row([version.version.to_string(), version.digest.to_string(), signed]);
    }
    say(table)
}

/// What the versions that answered anyone answered, on all devices together.
fn answers(model: &ModelSummary) -> Table {
    let header = ["VERSION", "ANSWERED", "FAILED", "REFUSED", "DOUBTED", "RIGHT"];
    let mut table = Table::new(&header);
    for VersionSummary { version, answers, .. } in &model.versions {
        if *answers != Answers::default() {
            table.row([
                version.to_string(),
                answers.rows.to_string(),
                answers.errors.to_string(),
                answers.bad_inputs.to_string(),
                doubts(&answers.humility),
                right(&answers.feedback),
            ]);
        }
    }
    table
}

fn table(models: &[ModelSummary]) -> Table {
    let header = ["MODEL", "VERSION", "RELEASE", "SIZE", "ENGINE", "DEVICES", "NOTE"];
    let mut table = Table::new(&header);
    for model in models {
        for version_summary in &model.versions {
            let VersionSummary { version, release, bytes, engine, devices, .. } = version_summary;
            let note = note(version_summary);
            table.row([
                model.model.to_string(),
                version.to_string(),
                release.to_string(),
                size(*bytes),
                engine.clone(),
                devices.to_string(),
                note,
            ]);
        }
    }
    table
}

fn note(version: &VersionSummary) -> String {
    let VersionSummary { revoked, state, signatures, .. } = version;
    match (revoked, state) {
        (Some(why), _) => format!("revoked: {why}"),
        (None, ReleaseState::Pending) => {
            let (signed, missing) = (listed(&signatures.signed), signatures.waits_for());
            format!("signed by {signed}; waits for {missing}")
        }
        (None, ReleaseState::Released) => String::new(),
    }
}
