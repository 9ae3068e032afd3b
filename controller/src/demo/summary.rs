//! What the demo has to show for itself: one JSON object, or one table.

use std::fmt::Write as _;

use serde::Serialize;

/// Everything that happened.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// In the order in which they ran.
    pub rollouts: Vec<RolloutResult>,
    /// All devices together.
    pub fleet: FleetResult,
    /// One per device.
    pub devices: Vec<DeviceResult>,
    /// What should have happened and did not; empty if all is well.
    pub failures: Vec<String>,
    /// Wall time of the whole demo.
    pub seconds: f64,
}

/// One rollout.
#[derive(Debug, Serialize)]
pub struct RolloutResult {
    /// The model.
    pub model: String,
    /// The version before; none for the first install.
    pub from: Option<String>,
    /// The version that was rolled out.
    pub to: String,
    /// `completed` or `reverted`.
    pub outcome: String,
    /// Why it was reverted.
    pub reason: Option<String>,
    /// The waves that were opened.
    pub waves: Vec<WaveResult>,
    /// Devices that answered an application with the new version, on trial included.
    pub devices_that_ever_served: Vec<String>,
    /// From start to end.
    pub seconds: f64,
}

/// One wave.
#[derive(Debug, Serialize)]
pub struct WaveResult {
    /// As the policy has it.
    pub size: String,
    /// Devices that it took, earlier waves included.
    pub members: u32,
    /// Those among them that committed.
    pub committed: u32,
    /// Those among them that turned it down.
    pub failed: u32,
}

/// All devices together.
#[derive(Debug, Serialize)]
pub struct FleetResult {
    /// How many.
    pub devices: u32,
    /// Answers that the applications got.
    pub inferences: u64,
    /// Requests of the applications that got no answer.
    pub inferences_failed: u64,
    /// Reports that the devices put into their spools.
    pub reports_spooled: u64,
    /// Different reports that the controller has stored.
    pub reports_delivered: u64,
    /// Spooled and not stored.
    pub reports_lost: u64,
    /// Counted more than once.
    pub reports_duplicated: u64,
}

/// One device.
#[derive(Debug, Serialize)]
pub struct DeviceResult {
    /// Its name.
    pub device: String,
    /// The version that it answered with first.
    pub before: String,
    /// The version that it answers with now.
    pub after: String,
    /// Where it is with the model.
    pub state: String,
    /// The last reason for which it turned a version down.
    pub reason: String,
    /// Answers that its application got.
    pub inferences: u64,
    /// Its reports that the controller has stored.
    pub reports: u64,
}

impl Summary {
    /// The table at the end.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let header = ["device", "before", "after", "state", "answered", "reports", "turned down"];
        let rows = self.devices.iter().map(|row| {
            let DeviceResult { device, before, after, state, reason, inferences, reports } = row;
            let (inferences, reports) = (inferences.to_string(), reports.to_string());
            [device, before, after, state, &inferences, &reports, reason].map(String::clone)
        });
        let rows: Vec<_> = [header.map(str::to_owned)].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        for row in &rows {
            let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at)));
            let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        let FleetResult { inferences, inferences_failed, .. } = self.fleet;
        let FleetResult { reports_spooled, reports_delivered, .. } = self.fleet;
        let FleetResult { reports_lost, reports_duplicated, .. } = self.fleet;
        let _ = writeln!(
            text,
            "\n  {inferences} answers, {inferences_failed} failed; {reports_spooled} reports \
             spooled, {reports_delivered} delivered, {reports_lost} lost, {reports_duplicated} \
             counted twice; {:.0} s",
            self.seconds
        );
        text
    }
}
