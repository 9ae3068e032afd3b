//! The fleet as the planner sees it.

use alloc::vec::Vec;

use tidegate_wire::directive::matches;
use tidegate_wire::report::ModelStatus;
use tidegate_wire::{ArtifactRef, DeviceId, Generation, Labels, Reason, State};

/// Every enrolled device, each once, in the order of their ids: the same fleet always looks the
/// same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetView {
    devices: Vec<DeviceView>,
    heard_since_ms: u64,
}

/// One device with regard to one rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    /// Its name.
    pub id: DeviceId,
    /// Its labels, as the controller knows them.
    pub labels: Labels,
    /// When it enrolled, Unix milliseconds. Its timeout does not begin before.
    pub joined_ms: u64,
    /// Whether it is connected.
    pub presence: Presence,
    /// How far it is with the rollout's new artifact.
    pub progress: Progress,
}

/// Whether a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Its session is up.
    Online,
    /// The broker has said goodbye on its behalf, or it has never been seen.
    Offline,
}

/// How far a device is with a rollout's new artifact. That it took too long is for the planner to
/// say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has not begun, as far as is known.
    Untouched,
    /// It is on its way.
    Working(State),
    /// It runs the artifact and has committed it, in this rollout or before.
    Committed,
    /// It turned the artifact down, before or after it answered.
    Failed(Reason),
}

impl Progress {
    /// What a device's status means for the artifact `to`, whose rollout began with the directive
    /// `since`.
    ///
    /// An earlier attempt that failed does not count: a device that has not heard of `since` yet is
    /// untouched.
    pub fn of(status: &ModelStatus, to: &ArtifactRef, since: Generation) -> Self {
        let is = |artifact: &Option<ArtifactRef>| {
            artifact.as_ref().is_some_and(|artifact| artifact.digest == to.digest)
        };
        // On trial the artifact already answers, but that is no success yet.
        let on_trial = status.state == State::Trial && status.candidate.is_none();
        let about_it = is(&status.candidate) || (on_trial && is(&status.active));
        match status.state {
            State::Rejected | State::Reverted
                if status.generation >= since && (about_it || status.candidate.is_none()) =>
            {
                return Self::Failed(status.reason.unwrap_or(Reason::Other(0)));
            }
            State::Rejected | State::Reverted | State::Idle | State::Committed => {}
            working if about_it => return Self::Working(working),
            _ => {}
        }
        if is(&status.active) { Self::Committed } else { Self::Untouched }
    }
}

impl FleetView {
    /// Sorts the devices by id; of several with one id only the first remains.
    pub fn new(mut devices: Vec<DeviceView>) -> Self {
        devices.sort_by(|a, b| a.id.cmp(&b.id));
        devices.dedup_by(|later, first| later.id == first.id);
        Self { devices, heard_since_ms: 0 }
    }

    /// The fleet of a controller that hears its devices since then, Unix milliseconds. What happened
    /// before is not known yet, so no timeout and no soak begins earlier: a controller that was away
    /// neither blames devices for its own silence nor takes silence for health.
    pub fn heard_since(self, heard_since_ms: u64) -> Self {
        Self { heard_since_ms, ..self }
    }

    /// Since when the controller hears its devices, Unix milliseconds.
    pub fn heard_since_ms(&self) -> u64 {
        self.heard_since_ms
    }

    /// All devices, by id.
    pub fn devices(&self) -> &[DeviceView] {
        &self.devices
    }

    /// The devices that have every label that `selector` asks for.
    pub fn matching<'a>(&'a self, selector: &'a Labels) -> impl Iterator<Item = &'a DeviceView> {
        self.devices.iter().filter(move |device| matches(selector, &device.labels))
    }
}

impl FromIterator<DeviceView> for FleetView {
    fn from_iter<I: IntoIterator<Item = DeviceView>>(devices: I) -> Self {
        Self::new(devices.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_wire::Digest;

    fn artifact(version: &str) -> ArtifactRef {
        ArtifactRef { digest: Digest::of(version.as_bytes()), version: version.parse().unwrap() }
    }

    fn progress(state: State, active: &str, candidate: Option<&str>, generation: u64) -> Progress {
        let status = ModelStatus {
            model: "digits".parse().unwrap(),
            generation: Generation(generation),
            state,
            active: Some(artifact(active)),
            candidate: candidate.map(artifact),
            reason: Some(Reason::Disagreement),
        };
        Progress::of(&status, &artifact("2"), Generation(5))
    }

    #[test]
    fn a_status_is_read_with_regard_to_the_rollouts_artifact() {
        let failed = Progress::Failed(Reason::Disagreement);
        assert_eq!(progress(State::Idle, "1", None, 5), Progress::Untouched);
        assert_eq!(progress(State::Idle, "2", None, 1), Progress::Committed);
        assert_eq!(progress(State::Committed, "2", None, 5), Progress::Committed);
        let trial = Progress::Working(State::Trial);
        assert_eq!(progress(State::Trial, "1", Some("2"), 5), trial);
        assert_eq!(progress(State::Trial, "2", Some("2"), 5), trial);
        assert_eq!(progress(State::Trial, "2", None, 5), trial);
        assert_eq!(progress(State::Trial, "1", Some("3"), 5), Progress::Untouched);
        assert_eq!(progress(State::Rejected, "1", Some("2"), 5), failed);
        assert_eq!(progress(State::Reverted, "1", None, 6), failed);
        assert_eq!(progress(State::Rejected, "1", Some("3"), 6), Progress::Untouched);
    }

    #[test]
    fn an_earlier_failure_does_not_count() {
        assert_eq!(progress(State::Rejected, "1", Some("2"), 4), Progress::Untouched);
    }
}
