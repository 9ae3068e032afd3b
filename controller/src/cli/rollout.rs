//! `tidegate rollout`: bring a model out, watch it, stop it, take it back.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tidegate_wire::ModelName;

use super::connection::Connection;
use super::model::ModelAndVersion;
use super::text::{Table, now_ms, span, time};
use super::watch::{self, Ended};
use super::{say, say_json};
use crate::api::types::{
    ComparisonView, DecisionView, ReasonText, RolloutAct, RolloutCommand, RolloutDetail,
    RolloutDevice, RolloutStart, RolloutStatus, RolloutSummary, WaveCounts, WaveProgress,
};
use crate::client::Client;

const EXAMPLES: &str = "\
Examples:
  tidegate rollout start digits@1.1.0 --why 'better on the test set' --watch
  tidegate rollout start digits@1.1.0 --policy careful.toml --why 'winter model'
  tidegate rollout status                 every open rollout
  tidegate rollout status digits --watch  the newest one of digits, until it ends
  tidegate rollout pause 3 --why 'line 2 is being serviced'
  tidegate rollout revert 3 --why 'complaints from Oslo'
  tidegate rollout history --model digits

A policy (every key has a default):
  control_percent = 10       # keeps the old model until the last wave, to compare with
  [[waves]]
  devices = 2
  soak_seconds = 600
  [[waves]]
  percent = 100
  [gate]
  max_failures = 1           # taken back at the first device that fails";

/// Bring a model out in waves, watch it, stop it, take it back.
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
    /// Start to bring out a released version.
    ///
    /// Without --policy: 2 devices, then 10 %, 50 % and 100 %, each healthy for ten minutes before
    /// the next, and everything taken back at the first failure.
    Start {
        /// What to bring out.
        #[arg(value_name = "NAME@VERSION")]
        model: ModelAndVersion,
        /// Waves and gates, TOML.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Stay until the rollout ends; see `status --watch`.
        #[arg(long)]
        watch: bool,
    },
    /// Show where a rollout is and what it waits for.
    ///
    /// With --watch one bar per wave moves until the rollout ends. Then the exit code is 0 if it
    /// was completed, 3 if it was taken back or cancelled.
    Status {
        /// The rollout's number, or a model for its newest rollout. Without it: all open ones.
        #[arg(value_name = "ID|NAME")]
        rollout: Option<String>,
        /// Stay until the rollout ends.
        #[arg(long)]
        watch: bool,
    },
    /// Open no further wave until it is resumed. Devices on their way go on.
    Pause(Act),
    /// Go on after a pause.
    Resume(Act),
    /// Open the next wave without waiting for the gate.
    Promote(Act),
    /// Take it back: every device returns to what it had.
    ///
    /// After a first install there is nothing to return to: devices that have it keep it, and no
    /// further device gets it.
    Revert(Act),
    /// Stop where it is: devices keep what they have.
    Cancel(Act),
    /// List rollouts, the newest first: what was in production when.
    History {
        /// Only of this model.
        #[arg(long, value_name = "NAME")]
        model: Option<ModelName>,
    },
}

#[derive(Debug, Args)]
struct Act {
    /// The rollout's number.
    id: u64,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { connection, command } = options;
    // Made when it is needed: what is wrong with the command itself is said first.
    let client = || connection.client();
    let json = connection.json;
    let (command, act) = match command {
        Command::Start { model, policy, why, watch } => {
            let start = start(model, policy, why)?;
            let client = client()?;
            let detail = client.start_rollout(&start).await?;
            return shown(&client, detail, watch, json).await;
        }
        Command::Status { rollout: None, watch: false } => {
            let open = open(&client()?).await?;
            list(&open, "no rollout is open: `tidegate rollout history` has the past ones", json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Status { rollout, watch } => {
            let client = client()?;
            let id = find(&client, rollout.as_deref()).await?;
            return shown(&client, client.rollout(id).await?, watch, json).await;
        }
        Command::History { model } => {
            let rollouts = client()?.rollouts(model.as_ref()).await?.rollouts;
            list(&rollouts, "no rollouts yet: start one with `tidegate rollout start`", json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Pause(act) => (RolloutCommand::Pause, act),
        Command::Resume(act) => (RolloutCommand::Resume, act),
        Command::Promote(act) => (RolloutCommand::Promote, act),
        Command::Revert(act) => (RolloutCommand::Revert, act),
        Command::Cancel(act) => (RolloutCommand::Cancel, act),
    };
    let why = RolloutAct { why: act.why };
    let detail = client()?.command_rollout(act.id, command, &why).await?;
    if json {
        say_json(&detail)?
    } else {
        say(headline(&detail.summary))?
    }
    Ok(ExitCode::SUCCESS)
}

fn start(
    model: ModelAndVersion,
    policy: Option<PathBuf>,
    why: String,
) -> anyhow::Result<RolloutStart> {
    let ModelAndVersion { model, version } = model;
    let Some(version) = version else {
        bail!(
            "which version of {model}? Write {model}@VERSION; `tidegate model show {model}` has them"
        );
    };
    let policy_toml = match policy {
        None => None,
        Some(file) => {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read the policy {name}"))?;
            // The server checks it as well; here the file has a name.
            tidegate_rollout::Policy::parse(&text).with_context(|| name)?;
            Some(text)
        }
    };
    Ok(RolloutStart { model, version, policy_toml, why })
}

async fn shown(
    client: &Client,
    detail: RolloutDetail,
    watch: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if watch {
        return Ok(match watch::watch(client, detail, json).await? {
            Ended::Completed => ExitCode::SUCCESS,
            Ended::TakenBack => ExitCode::from(3),
        });
    }
    if json {
        say_json(&detail)?
    } else {
        show(&detail)?
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(client: &Client) -> anyhow::Result<Vec<RolloutSummary>> {
    let mut rollouts = client.rollouts(None).await?.rollouts;
    rollouts.retain(|rollout| rollout.status.is_open());
    Ok(rollouts)
}

/// The number of the rollout that is meant: by number, by model, or the only open one.
async fn find(client: &Client, wanted: Option<&str>) -> anyhow::Result<u64> {
    let Some(wanted) = wanted else {
        return match open(client).await?.as_slice() {
            [only] => Ok(only.id),
            [] => bail!("no rollout is open: give the number of a past one"),
            several => {
                let known: Vec<String> = several
                    .iter()
                    .map(|rollout| format!("{} ({})", rollout.id, rollout.model))
                    .collect();
                bail!("several rollouts are open: give one of {}", known.join(", "))
            }
        };
    };
    if let Ok(id) = wanted.parse() {
        return Ok(id);
    }
    let model: ModelName =
        wanted.parse().context("neither the number of a rollout nor the name of a model")?;
    let rollouts = client.rollouts(Some(&model)).await?.rollouts;
    let newest = rollouts.iter().map(|rollout| rollout.id).max();
    newest
        .with_context(|| format!("{model} has had no rollout: `tidegate rollout history` has all"))
}

fn list(rollouts: &[RolloutSummary], none: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return say_json(&rollouts);
    }
    if rollouts.is_empty() { say(none) } else { say(table(rollouts)) }
}

/// Rollouts, one a line.
pub fn table(rollouts: &[RolloutSummary]) -> Table {
    let header =
        ["ID", "MODEL", "FROM", "TO", "STATUS", "WAVE", "COMMITTED", "STARTED (UTC)", "BY", "WHY"];
    let mut table = Table::new(&header);
    for rollout in rollouts {
        let wave = rollout.wave.map_or(0, |wave| wave + 1);
        let why = match &rollout.reason {
            Some(reason) => reason_and_detail(Some(reason), &rollout.detail),
            None => rollout.why.clone(),
        };
        table.row([
            rollout.id.to_string(),
            rollout.model.to_string(),
            rollout.from.as_ref().map_or("-".into(), ToString::to_string),
            rollout.to.to_string(),
            rollout.status.name().into(),
            format!("{wave}/{}", rollout.waves),
            format!("{}/{}", rollout.committed, rollout.members),
            time(rollout.started_ms),
            rollout.by.clone(),
            why,
        ]);
    }
    table
}

/// What it is.
pub fn title(rollout: &RolloutSummary) -> String {
    let RolloutSummary { id, model, from, to, .. } = rollout;
    let from = from.as_ref().map_or("nothing".to_owned(), ToString::to_string);
    format!("rollout {id}: {model} {from} → {to}")
}

/// One line that says what it is and how it stands.
pub fn headline(rollout: &RolloutSummary) -> String {
    let status = rollout.status;
    let took = rollout.ended_ms.unwrap_or_else(now_ms).saturating_sub(rollout.started_ms);
    let mut line = format!("{}, {}, {}", title(rollout), status.name(), span(took));
    let why = reason_and_detail(rollout.reason.as_ref(), &rollout.detail);
    if status != RolloutStatus::Completed && !why.is_empty() {
        line.push_str(&format!(": {why}"));
    }
    line
}

/// A reason with the figures behind it.
pub fn reason_and_detail(reason: Option<&ReasonText>, detail: &str) -> String {
    match reason {
        None => detail.to_owned(),
        Some(reason) if detail.is_empty() => reason.text.clone(),
        Some(reason) => format!("{} ({detail})", reason.text),
    }
}

fn show(detail: &RolloutDetail) -> anyhow::Result<()> {
    let summary = &detail.summary;
    say(headline(summary))?;
    say(format_args!("started by {}: {}", summary.by, summary.why))?;
    let mut waves =
        Table::new(&["WAVE", "SIZE", "STAGE", "COMMITTED", "FAILED", "ON THEIR WAY", "OFFLINE"]);
    for WaveProgress { wave, size, stage, counts, soak_left_ms, .. } in &detail.progress {
        let soak = soak_left_ms.map(|ms| format!(", {} left", span(ms))).unwrap_or_default();
        waves.row([
            (wave + 1).to_string(),
            size.clone(),
            format!("{}{soak}", stage.name()),
            format!("{}/{}", counts.committed, counts.members),
            (counts.failed + counts.timed_out).to_string(),
            on_their_way(counts),
            (counts.offline + counts.set_aside).to_string(),
        ]);
    }
    say(format_args!("\n{waves}"))?;
    let decision = decision_text(&detail.decision);
    if !decision.is_empty() {
        say(format_args!("\n{decision}"))?;
    }
    detail.decision.holds.iter().try_for_each(|hold| say(format_args!("  waits: {hold}")))?;
    let mut comparisons = Table::new(&["COMPARED", "OUTCOME", "FIGURES"]);
    for ComparisonView { metric, outcome, text } in &detail.comparisons {
        // The text is a sentence of its own, which starts with the metric.
        let figures = text.strip_prefix(metric.as_str()).and_then(|text| text.strip_prefix(": "));
        let figures = figures.unwrap_or(text).to_owned();
        comparisons.row([metric.clone(), outcome.clone(), figures]);
    }
    if !comparisons.is_empty() {
        say(format_args!("\n{comparisons}"))?;
    }
    let mut devices = Table::new(&["DEVICE", "WAVE", "ONLINE", "STATE", "ACTIVE", "WHY"]);
    detail.devices.iter().for_each(|device| devices.row(cells(device)));
    say(format_args!("\n{devices}"))
}

/// What was decided last. What a hold waits for is listed on its own.
pub fn decision_text(decision: &DecisionView) -> String {
    if decision.holds.is_empty() { decision.text.clone() } else { "on hold".to_owned() }
}

/// `3 fetching, 1 trial, 2 not started`.
pub fn on_their_way(counts: &WaveCounts) -> String {
    let working = counts.working.iter();
    let mut parts: Vec<String> =
        working.map(|entry| format!("{} {}", entry.devices, entry.state)).collect();
    if counts.not_started > 0 {
        parts.push(format!("{} not started", counts.not_started));
    }
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

fn cells(device: &RolloutDevice) -> [String; 6] {
    let wave = match (device.wave, device.control) {
        (Some(wave), _) => (wave + 1).to_string(),
        (None, true) => "control".into(),
        (None, false) => "-".into(),
    };
    [
        device.device.to_string(),
        wave,
        if device.online { "yes" } else { "no" }.into(),
        device.state.clone(),
        device.active.as_ref().map_or("-".into(), ToString::to_string),
        reason_and_detail(device.reason.as_ref(), &device.detail),
    ]
}
