//! Watches a rollout until it ends: bars on a terminal, lines elsewhere, objects for programs.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::rollout::{decision_text, headline, on_their_way, title};
use super::say;
use super::text::span;
use crate::api::types::{RolloutDetail, RolloutStatus, WaveProgress, WaveStage};
use crate::client::{Client, ClientError};

/// How often the controller is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the controller may be away before the watch gives up: a restart takes seconds.
const PATIENCE: u32 = 60;

/// How a watched rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everybody has the new artifact.
    Completed,
    /// Everybody was directed back, or an operator stopped it.
    TakenBack,
}

/// Shows `detail` and what becomes of it, until the rollout ends.
pub async fn watch(client: &Client, detail: RolloutDetail, json: bool) -> anyhow::Result<Ended> {
    let id = detail.summary.id;
    let mut view: Box<dyn View> = match (json, std::io::stderr().is_terminal()) {
        (true, _) => Box::new(Objects { last: None }),
        (false, true) => Box::new(Bars::new(&detail)),
        (false, false) => Box::new(Lines { last: Vec::new() }),
    };
    let mut detail = detail;
    loop {
        view.show(&detail)?;
        if !detail.summary.status.is_open() {
            view.close();
            break;
        }
        tokio::time::sleep(INTERVAL).await;
        detail = patiently(client, id).await?;
    }
    if !json {
        say(headline(&detail.summary))?;
    }
    Ok(match detail.summary.status {
        RolloutStatus::Completed => Ended::Completed,
        _ => Ended::TakenBack,
    })
}

/// Asks again for a while when the controller is away.
async fn patiently(client: &Client, id: u64) -> Result<RolloutDetail, ClientError> {
    let mut tries = 0;
    loop {
        match client.rollout(id).await {
            Err(error) if error.is_transient() && tries < PATIENCE => {
                tries += 1;
                tokio::time::sleep(INTERVAL).await;
            }
            answer => return answer,
        }
    }
}

trait View {
    fn show(&mut self, detail: &RolloutDetail) -> anyhow::Result<()>;
    fn close(&mut self) {}
}

/// One bar per wave, a line for the decision and one for each thing that it waits for.
struct Bars {
    screen: MultiProgress,
    waves: Vec<ProgressBar>,
    decision: ProgressBar,
    holds: Vec<ProgressBar>,
}

impl Bars {
    fn new(detail: &RolloutDetail) -> Self {
        let screen = MultiProgress::new();
        let heading = screen.add(text_line());
        heading.set_message(title(&detail.summary));
        let bar = |wave: &WaveProgress| {
            let bar = screen.add(ProgressBar::new(1));
            bar.set_style(style("  {prefix:<24} {bar:30} {pos:>3}/{len:<3} {msg}"));
            bar.set_prefix(format!("wave {} ({})", wave.wave + 1, wave.size));
            bar
        };
        let waves = detail.progress.iter().map(bar).collect();
        let decision = screen.add(text_line());
        // Its line stays on the screen with the others.
        heading.abandon();
        Self { waves, decision, holds: Vec::new(), screen }
    }
}

impl View for Bars {
    fn show(&mut self, detail: &RolloutDetail) -> anyhow::Result<()> {
        for (bar, wave) in self.waves.iter().zip(&detail.progress) {
            bar.set_length(u64::from(wave.counts.members));
            bar.set_position(u64::from(wave.counts.committed));
            bar.set_message(wave_text(wave));
        }
        self.decision.set_message(decision_text(&detail.decision));
        let holds = &detail.decision.holds;
        while self.holds.len() < holds.len() {
            self.holds.push(self.screen.add(text_line()));
        }
        for spare in self.holds.drain(holds.len()..) {
            self.screen.remove(&spare);
        }
        for (line, hold) in self.holds.iter().zip(holds) {
            line.set_message(format!("  waits: {hold}"));
        }
        Ok(())
    }

    fn close(&mut self) {
        self.holds.iter().for_each(ProgressBar::finish_and_clear);
        self.waves.iter().for_each(ProgressBar::abandon);
        self.decision.abandon();
    }
}

fn text_line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    line.set_style(style("{wide_msg}"));
    line
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ")
}

/// A line whenever something changed, for logs.
struct Lines {
    last: Vec<Line>,
}

/// What is said, and what it is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    key: String,
    text: String,
}

impl View for Lines {
    fn show(&mut self, detail: &RolloutDetail) -> anyhow::Result<()> {
        let lines = lines(detail);
        let known = |line: &&Line| self.last.iter().any(|last| last.key == line.key);
        lines.iter().filter(|line| !known(line)).try_for_each(|line| say(&line.text))?;
        self.last = lines;
        Ok(())
    }
}

/// What there is to say now.
fn lines(detail: &RolloutDetail) -> Vec<Line> {
    let waves = detail.progress.iter().filter(|wave| wave.stage != WaveStage::Planned);
    let mut lines: Vec<Line> = waves
        .map(|wave| {
            let WaveProgress { wave, size, stage, counts, .. } = wave;
            let (committed, members, stage) = (counts.committed, counts.members, stage.name());
            let wave = wave + 1;
            let text = format!("wave {wave} ({size}): {stage}, {committed}/{members} committed");
            Line { key: text.clone(), text }
        })
        .collect();
    let holds = detail.decision.holds.iter().map(|hold| format!("  waits: {hold}"));
    for text in
        [decision_text(&detail.decision)].into_iter().chain(holds).filter(|text| !text.is_empty())
    {
        // Seconds and samples count up and down all the time; the words are what matters.
        let key = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        lines.push(Line { key, text });
    }
    lines
}

/// One JSON object a line whenever something changed.
struct Objects {
    last: Option<RolloutDetail>,
}

impl View for Objects {
    fn show(&mut self, detail: &RolloutDetail) -> anyhow::Result<()> {
        if self.last.as_ref() != Some(detail) {
            say(serde_json::to_string(detail)?)?;
            self.last = Some(detail.clone());
        }
        Ok(())
    }
}

fn wave_text(wave: &WaveProgress) -> String {
    let counts = &wave.counts;
    let soak = wave.soak_left_ms.map(|ms| format!(", {} left", span(ms))).unwrap_or_default();
    let mut text = format!("{}{soak}", wave.stage.name());
    if matches!(wave.stage, WaveStage::Planned | WaveStage::Done) {
        return text;
    }
    let way = on_their_way(counts);
    if way != "-" {
        text.push_str(&format!(" · {way}"));
    }
    for (count, what) in [
        (counts.failed, "failed"),
        (counts.timed_out, "timed out"),
        (counts.offline, "offline"),
        (counts.set_aside, "set aside"),
    ] {
        if count > 0 {
            text.push_str(&format!(" · {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::DecisionView;
    use serde_json::json;

    fn detail(committed: u32, hold: &str) -> RolloutDetail {
        let counts = json!({ "members": 2, "committed": committed, "failed": 0, "timed_out": 0,
            "set_aside": 0, "offline": 0, "not_started": 2 - committed, "working": [] });
        let wave = json!({ "wave": 0, "size": "2 devices", "stage": "open", "soak_left_ms": null,
            "opened_ms": 0, "committed_ms": null, "counts": counts });
        let mut detail: RolloutDetail = serde_json::from_value(json!({
            "id": 1, "model": "digits", "from": "1.0.0", "to": "1.1.0", "status": "running",
            "reason": null, "detail": "", "wave": 0, "waves": 1, "members": 2,
            "committed": committed, "failed": 0, "started_ms": 0, "ended_ms": null, "by": "admin",
            "why": "test", "artifact": { "digest": "00".repeat(32), "version": "1.1.0" },
            "generation": 2, "progress": [wave], "decision": { "kind": "", "text": "", "holds": [] },
            "comparisons": [], "devices": []
        }))
        .unwrap();
        let holds = vec![hold.to_owned()];
        detail.decision = DecisionView { kind: "hold".into(), text: "hold".into(), holds };
        detail
    }

    #[test]
    fn a_line_comes_when_words_or_counts_change_and_not_every_second() {
        let first = lines(&detail(0, "soaks for 9 s"));
        let texts: Vec<&str> = first.iter().map(|line| line.text.as_str()).collect();
        let wave = "wave 1 (2 devices): open, 0/2 committed";
        assert_eq!(texts, [wave, "on hold", "  waits: soaks for 9 s"]);
        let keys = |lines: &[Line]| lines.iter().map(|line| line.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&first), keys(&lines(&detail(0, "soaks for 8 s"))));
        assert_ne!(keys(&first), keys(&lines(&detail(1, "soaks for 8 s"))));
        assert_ne!(keys(&first), keys(&lines(&detail(0, "one device is offline"))));
    }

    #[test]
    fn a_wave_says_what_its_devices_do() {
        let mut wave = detail(1, "").progress.remove(0);
        (wave.counts.failed, wave.soak_left_ms) = (1, Some(3_000));
        assert_eq!(wave_text(&wave), "open, 3 s left · 1 not started · 1 failed");
    }
}
