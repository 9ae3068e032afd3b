//! What a person watches: one line per event, and a bar per wave.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::types::{RolloutDetail, WaveStage};

/// Lines and bars on standard error, so that `--json` leaves standard output to the summary.
pub struct Screen {
    bars: MultiProgress,
}

/// The bars of one rollout and what has been said about it.
pub struct RolloutScreen<'a> {
    screen: &'a Screen,
    waves: Vec<ProgressBar>,
    said: BTreeMap<String, String>,
    stages: Vec<WaveStage>,
}

/// Above so many devices, only failures get a line of their own.
const NAMED_DEVICES_MAX: usize = 20;

impl Screen {
    /// An empty screen.
    pub fn new() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()) }
    }

    /// A chapter's heading.
    pub fn heading(&self, text: &str) {
        self.print(&format!("\n== {text}"));
    }

    /// One line about one event.
    pub fn line(&self, text: &str) {
        self.print(&format!("   {text}"));
    }

    fn print(&self, text: &str) {
        // Without a terminal the bars draw nothing and swallow lines with it.
        if self.bars.is_hidden() {
            eprintln!("{text}");
        } else {
            let _ = self.bars.println(text);
        }
    }

    /// A bar for something that counts to `length`.
    pub fn bar(&self, label: &str, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("   {prefix:<14} {bar:30} {pos}/{len} {msg}");
        let bar = ProgressBar::new(length).with_prefix(label.to_owned());
        self.bars.add(bar.with_style(style.expect("a valid template")))
    }

    /// Bars for a rollout that begins.
    pub fn rollout(&self) -> RolloutScreen<'_> {
        let (waves, said, stages) = (Vec::new(), BTreeMap::new(), Vec::new());
        RolloutScreen { screen: self, waves, said, stages }
    }
}

impl RolloutScreen<'_> {
    /// Shows what has changed.
    pub fn show(&mut self, rollout: &RolloutDetail) {
        let version = &rollout.artifact.version;
        for (index, wave) in rollout.progress.iter().enumerate() {
            if self.waves.len() <= index {
                let label = format!("wave {}", index + 1);
                self.waves.push(self.screen.bar(&label, 0));
                self.stages.push(WaveStage::Planned);
            }
            let bar = &self.waves[index];
            bar.set_length(wave.counts.members.into());
            bar.set_position(wave.counts.committed.into());
            bar.set_message(format!("{} ({})", wave.stage.name(), wave.size));
            let before = std::mem::replace(&mut self.stages[index], wave.stage);
            if before != wave.stage {
                self.say_stage(index, before, wave.stage, wave.counts.members);
            }
        }
        let few = rollout.devices.len() <= NAMED_DEVICES_MAX;
        for device in &rollout.devices {
            let worth_a_line = match device.state.as_str() {
                "failed" | "timed-out" => true,
                "committed" | "shadow" | "trial" => few,
                _ => false,
            };
            let id = device.device.to_string();
            if !worth_a_line || self.said.get(&id) == Some(&device.state) {
                continue;
            }
            let line = match (&device.reason, device.state.as_str()) {
                (Some(reason), _) => {
                    let figures = device.detail.split([';', '(']).next().unwrap_or_default();
                    let figures = figures.trim();
                    format!("{id} turned {version} down: {} ({figures})", reason.text)
                }
                (None, "shadow") => format!("{id} shows {version} its live inputs in the shadow"),
                (None, "trial") => format!("{id} lets {version} answer, on probation"),
                (None, state) => format!("{id} {state} {version}"),
            };
            self.screen.line(&line);
            self.said.insert(id, device.state.clone());
        }
    }

    fn say_stage(&self, index: usize, before: WaveStage, stage: WaveStage, members: u32) {
        let wave = index + 1;
        let text = match (before, stage) {
            (_, WaveStage::Open) if index == 0 => format!("wave 1 opens: {members} devices"),
            (_, WaveStage::Open) => format!("wave {wave} opens: {members} devices in all"),
            (_, WaveStage::Soaking) => format!("wave {wave} has committed; it soaks"),
            (_, WaveStage::Done) => format!("wave {wave} is done"),
            (WaveStage::Planned, WaveStage::Stopped) => format!("wave {wave} stays closed"),
            (_, WaveStage::Stopped) => format!("wave {wave} is stopped"),
            (_, WaveStage::Planned | WaveStage::Soaked) => return,
        };
        self.screen.line(&text);
    }
}

impl Drop for RolloutScreen<'_> {
    fn drop(&mut self) {
        for bar in &self.waves {
            bar.finish_and_clear();
        }
    }
}
