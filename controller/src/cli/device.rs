//! `tidegate device`: the devices of the fleet, and how new ones get in.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use tidegate_wire::{DeviceId, Labels, Version};

use super::connection::Connection;
use super::text::{Table, ago, doubts, duration, labels, now_ms, right, show_labels, time};
use super::{say, say_json};
use crate::api::types::{
    DeviceDetail, DeviceModel, DeviceSummary, DeviceTokenRequest, ReasonText, RejectedCount,
    RevokeDevice, TransitionView,
};

const EXAMPLES: &str = "\
Examples:
  tidegate device token --uses 10 --expires 24h --labels site=oslo,hw=pi4
  tidegate device list
  tidegate device show pi4-0007
  tidegate device revoke pi4-0007 --why 'stolen'
  tidegate device remove pi4-0007";

/// Look at devices, let new ones in, remove old ones.
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
    /// List the fleet's devices.
    List,
    /// Show one device: its models, what they answered, its last steps.
    Show {
        /// The device.
        device: DeviceId,
    },
    /// Shut a device out, at once and for good: stolen, or no longer trusted.
    ///
    /// Its connections are cut, its certificates count no more, and neither its id nor its key can
    /// enrol again. `tidegate device remove` frees the id for another device; the key stays out.
    Revoke {
        /// The device.
        device: DeviceId,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Forget a device.
    ///
    /// It can no longer connect, and no rollout counts it. What it runs goes on running. With a new
    /// invitation it may enrol again, unless it was revoked.
    Remove {
        /// The device.
        device: DeviceId,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        why: String,
    },
    /// Make an invitation that lets new devices in.
    ///
    /// It is shown this once: put it into `enrol_token` of the agent's configuration. It says where
    /// the controller is and how to recognise it, and holds the secret that lets devices in.
    Token {
        /// Labels for every device that comes with it, over what it says of itself.
        #[arg(long, value_name = "K=V,…", value_parser = labels, default_value = "", hide_default_value = true)]
        labels: Labels,
        /// Devices that it lets in.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it is good for.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
        expires: Duration,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        why: String,
    },
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { connection, command } = options;
    let client = connection.client()?;
    match command {
        Command::List => {
            let list = client.devices().await?;
            if connection.json {
                say_json(&list)?;
            } else if list.devices.is_empty() {
                say("no devices yet: `tidegate device token` lets some in")?;
            } else {
                say(table(&list.devices, now_ms()))?;
            }
        }
        Command::Show { device } => {
            let detail = client.device(&device).await?;
            if connection.json { say_json(&detail)? } else { show(&detail)? }
        }
        Command::Remove { device, why } => {
            client.remove_device(&device, &why).await?;
            if connection.json {
                say_json(&serde_json::json!({ "removed": device }))?;
            } else {
                say(format_args!("removed {device}"))?;
            }
        }
        Command::Revoke { device, why } => {
            client.revoke_device(&device, &RevokeDevice { why }).await?;
            if connection.json {
                say_json(&serde_json::json!({ "revoked": device }))?;
            } else {
                say(format_args!("{device} is shut out"))?;
            }
        }
        Command::Token { labels, uses, expires, why } => {
            let request =
                DeviceTokenRequest { labels, uses, expires_seconds: expires.as_secs(), why };
            let issued = client.device_token(&request).await?;
            if connection.json {
                say_json(&issued)?;
            } else {
                say(&issued.token)?;
                let until = issued.expires_ms.map_or("revoked".to_owned(), time);
                let devices = if uses == 1 { "1 device".into() } else { format!("{uses} devices") };
                eprintln!("lets {devices} in until {until} UTC; it is not shown again");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(devices: &[DeviceSummary], now_ms: u64) -> Table {
    let header = ["DEVICE", "ONLINE", "SEEN", "LABELS", "MODEL", "ACTIVE", "STATE", "NOTE"];
    let mut table = Table::new(&header);
    for device in devices {
        let seen = device.seen_ms.map_or("never".to_owned(), |ms| ago(ms, now_ms));
        let online = if device.online { "yes" } else { "no" }.to_owned();
        let mut first = vec![device.device.to_string(), online, seen, show_labels(&device.labels)];
        if device.models.is_empty() {
            first.extend([String::new(), String::new(), String::new(), warning(device)]);
            table.row(first);
            continue;
        }
        for model in &device.models {
            let DeviceModel { model, state, active, reason, .. } = model;
            let note =
                reason.as_ref().map_or_else(|| warning(device), |reason| reason.text.clone());
            first.extend([model.to_string(), version(active), state.to_string(), note]);
            table.row(std::mem::replace(&mut first, vec![String::new(); 4]));
        }
    }
    table
}

fn warning(device: &DeviceSummary) -> String {
    match &device.revoked {
        Some(revoked) => format!("revoked by {}: {}", revoked.by, revoked.why),
        None => device.warnings.last().cloned().unwrap_or_default(),
    }
}

fn version(version: &Option<Version>) -> String {
    version.as_ref().map_or_else(|| "-".to_owned(), Version::to_string)
}

fn reason(reason: &Option<ReasonText>) -> String {
    reason.as_ref().map(|reason| format!("{} ({})", reason.text, reason.code)).unwrap_or_default()
}

fn show(detail: &DeviceDetail) -> anyhow::Result<()> {
    let now_ms = now_ms();
    let device = &detail.summary;
    let online = match (device.online, device.seen_ms) {
        (true, _) => "online".to_owned(),
        (false, Some(ms)) => format!("offline, last heard of {}", ago(ms, now_ms)),
        (false, None) => "offline, never heard of".to_owned(),
    };
    say(format_args!("device   {} ({online})", device.device))?;
    say(format_args!("labels   {}", show_labels(&device.labels)))?;
    say(format_args!("agent    {}", device.agent))?;
    say(format_args!("api      {}", device.api))?;
    say(format_args!("joined   {} UTC", time(device.joined_ms)))?;
    if let Some(revoked) = &device.revoked {
        let (at, by, why) = (time(revoked.at_ms), &revoked.by, &revoked.why);
        say(format_args!("revoked  {at} UTC by {by}: {why}"))?;
    } else if let Some(expires) = device.certificate_expires_ms {
        say(format_args!("renewed  certificate good until {} UTC", time(expires)))?;
    }
    say(format_args!(
        "reports  {} stored, {} waiting on the device, {} dropped by it",
        detail.reports.received, device.spooled, device.dropped
    ))?;
    for RejectedCount { place, reason, count } in &detail.rejected {
        say(format_args!("refused  {count} × {reason} ({place})"))?;
    }
    device.warnings.iter().try_for_each(|warning| say(format_args!("warning  {warning}")))?;
    let mut models = Table::new(&["MODEL", "GENERATION", "STATE", "ACTIVE", "CANDIDATE", "WHY"]);
    for model in &device.models {
        models.row([
            model.model.to_string(),
            model.generation.0.to_string(),
            model.state.to_string(),
            version(&model.active),
            version(&model.candidate),
            reason(&model.reason),
        ]);
    }
    section(&models)?;
    section(&served(detail, now_ms))?;
    section(&steps(&detail.transitions))
}

fn served(detail: &DeviceDetail, now_ms: u64) -> Table {
    let mut served = Table::new(&[
        "MODEL", "VERSION", "ANSWERED", "FAILED", "REFUSED", "DOUBTED", "RIGHT", "MEDIAN", "LAST",
    ]);
    for entry in &detail.served {
        served.row([
            entry.model.to_string(),
            entry.version.to_string(),
            entry.rows.to_string(),
            entry.errors.to_string(),
            entry.bad_inputs.to_string(),
            doubts(&entry.humility),
            right(&entry.feedback),
            if entry.rows == 0 { "-".into() } else { format!("{:.1} µs", entry.median_us) },
            ago(entry.last_ms, now_ms),
        ]);
    }
    served
}

fn steps(transitions: &[TransitionView]) -> Table {
    let mut steps = Table::new(&["TIME (UTC)", "MODEL", "VERSION", "WENT TO", "ANSWERING", "WHY"]);
    for step in transitions {
        let why = [reason(&step.reason), step.detail.clone()];
        let why: Vec<String> = why.into_iter().filter(|text| !text.is_empty()).collect();
        steps.row([
            time(step.at_ms),
            step.model.to_string(),
            version(&step.version),
            step.state.to_string(),
            version(&step.active),
            why.join(": "),
        ]);
    }
    steps
}

/// A table below an empty line, if there is anything in it.
fn section(table: &Table) -> anyhow::Result<()> {
    if table.is_empty() { Ok(()) } else { say(format_args!("\n{table}")) }
}
