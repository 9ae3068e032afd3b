//! What an operator asks of a rollout: waves, gates, and what may go wrong.

mod file;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use tidegate_wire::Labels;

use crate::Percent;

/// The most waves of one policy: more than anybody has asked for, few enough to show on a screen.
pub const WAVES_MAX: usize = 32;

/// How a rollout proceeds. [`Policy::parse`] reads it from TOML; the default is a safe one: 2
/// devices, 10 %, 50 %, 100 %, each soaked for ten minutes, taken back at the first failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Labels that a device must have to take part. None: every device.
    pub selector: Labels,
    /// Share of the devices that keeps the old artifact until the last wave. They lie at the top
    /// of the position range. Rounded up, but the first wave keeps at least one device.
    pub control: Percent,
    /// At least one; the last one takes everybody.
    pub waves: Vec<Wave>,
    /// When a wave is good, bad, or neither yet.
    pub gate: Gate,
    /// Milliseconds for which a directive may cause new installs. Directives are issued anew at
    /// half of it, so it only matters when the controller is gone.
    pub directive_ttl_ms: u64,
}

/// One step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// How many devices have the new artifact when it is open, those of earlier waves included.
    pub size: WaveSize,
    /// Milliseconds that it must stay healthy after enough devices have committed.
    pub soak_ms: u64,
}

/// How many devices a wave takes, those of earlier waves included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaveSize {
    /// A number, at most the whole fleet.
    Devices(u32),
    /// A share of the devices that the selector matches, rounded up.
    Percent(Percent),
}

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices(1) => f.write_str("1 device"),
            Self::Devices(count) => write!(f, "{count} devices"),
            Self::Percent(percent) => percent.fmt(f),
        }
    }
}

/// When a wave is good, bad, or neither yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Share of a wave's devices that must have committed before the next one opens. 100 % by
    /// default: every device that can be reached. With less, "completed" may mean that some
    /// devices are still on their way, or failed.
    pub min_committed: Percent,
    /// The rollout is taken back when this many devices failed or timed out, over all waves. 1 by
    /// default: a model that fails on one device of a uniform fleet seldom fails on one alone.
    pub max_failures: u32,
    /// The rollout is taken back when the share of failures among the devices that reported is
    /// above this with 95 % confidence. It matters once `max_failures` is raised for a large fleet.
    pub max_failed: Percent,
    /// Devices that must have reported before `max_failed` is applied. 5 by default: two
    /// failures among five put the share above 11.8 % with 95 % confidence.
    pub min_reported: u32,
    /// Milliseconds from the moment a device is directed to the moment it must have committed or
    /// failed. A day by default: machines that are switched off at night come back within it.
    pub device_timeout_ms: u64,
    /// What becomes of a device that was offline and had not begun when its time was up.
    pub unreached: Unreached,
    /// Predicted classes differ from the control devices'.
    pub prediction_drift: OnRegression,
    /// Top probabilities differ from the control devices'. Off by default: two versions of a model
    /// may rightly differ in confidence.
    pub confidence_drift: OnRegression,
    /// More inferences fail than on the control devices.
    pub error_rate: OnRegression,
    /// Inputs drifted from the training sample. Never taken back: going back does not repair the
    /// world.
    pub input_drift: OnInputDrift,
    /// Relative movement of each predicted class or confidence bin that is no drift. 50 % by
    /// default: devices see different rows, and what matters here (a class that vanishes, one that
    /// swallows the others) moves by more.
    pub drift_tolerance: Percent,
    /// Points by which the error share may exceed the control devices'. 1 by default, the limit of
    /// a device's own trial.
    pub error_margin: Percent,
    /// Rows that each side needs before they are compared; 50 by default, the least that a device
    /// reports (privacy).
    pub min_rows: u32,
}

/// What becomes of a device that was offline and had not begun when its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreached {
    /// It is set aside: neither good nor bad, and the wave goes on without it. It still follows the
    /// directive when it is back. The default, because one machine in storage says nothing about
    /// a model.
    SetAside,
    /// It counts as a failure.
    Fail,
}

/// What a comparison with the control devices may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRegression {
    /// Take the rollout back.
    Revert,
    /// Hold the wave and ask an operator.
    Hold,
    /// Not compared.
    Off,
}

/// What input drift may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInputDrift {
    /// Hold the wave and ask an operator.
    Hold,
    /// Nothing.
    Off,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            min_committed: Percent::ALL,
            max_failures: 1,
            max_failed: Percent::whole(10),
            min_reported: 5,
            device_timeout_ms: 24 * 3600 * 1000,
            unreached: Unreached::SetAside,
            prediction_drift: OnRegression::Revert,
            confidence_drift: OnRegression::Off,
            error_rate: OnRegression::Revert,
            input_drift: OnInputDrift::Hold,
            drift_tolerance: Percent::whole(50),
            error_margin: Percent::whole(1),
            min_rows: 50,
        }
    }
}

/// Ten minutes, as long as a device's own probation.
const SOAK_MS: u64 = 600_000;

/// Thirty days: longer than a holiday, shorter than a forgotten fleet.
const DIRECTIVE_TTL_MS: u64 = 30 * 24 * 3600 * 1000;

impl Default for Policy {
    fn default() -> Self {
        let percent = |percent| WaveSize::Percent(Percent::whole(percent));
        let sizes = [WaveSize::Devices(2), percent(10), percent(50), percent(100)];
        Self {
            selector: Labels::new(),
            control: Percent::ZERO,
            waves: sizes.map(|size| Wave { size, soak_ms: SOAK_MS }).to_vec(),
            gate: Gate::default(),
            directive_ttl_ms: DIRECTIVE_TTL_MS,
        }
    }
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No TOML, an unknown key, or a value of the wrong type. The text names line and key.
    #[error("the policy cannot be read: {0}")]
    Toml(String),
    /// A value is outside its range.
    #[error("{key} = {value}: {expected}")]
    Range {
        /// The key's full name.
        key: String,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// There is no wave.
    #[error("waves: at least one wave is needed, for example [[waves]] percent = 100")]
    NoWaves,
    /// There are too many.
    #[error("waves: {0} waves are more than {WAVES_MAX}")]
    TooManyWaves(usize),
    /// A wave has no size, or two.
    #[error("waves[{0}]: give either `devices` or `percent`")]
    WaveSize(usize),
    /// A wave is not larger than the one before.
    #[error("waves[{wave}] = {size} does not rise above waves[{}] = {previous}", wave - 1)]
    NotRising {
        /// Its index, from 0.
        wave: usize,
        /// How large it is.
        size: WaveSize,
        /// How large the one before is.
        previous: WaveSize,
    },
    /// The last wave does not take everybody.
    #[error("waves[{wave}] = {size} is the last wave and must be percent = 100")]
    LastWave {
        /// Its index, from 0.
        wave: usize,
        /// How large it is.
        size: WaveSize,
    },
}

impl Policy {
    /// Reads a policy. Keys that are absent have their defaults; unknown keys are errors.
    ///
    /// # Errors
    /// [`PolicyError`] names the key and what it may be.
    ///
    /// ```
    /// use tidegate_rollout::{Policy, PolicyError};
    ///
    /// let policy = Policy::parse("
    ///     control_percent = 10      # keeps the old model until the last wave; 0
    ///     directive_ttl_seconds = 2_592_000
    ///     [selector]                # labels that a device must have; none
    ///     site = 'oslo'
    ///     [defaults]
    ///     soak_seconds = 600        # of every wave that does not say otherwise
    ///     [[waves]]
    ///     devices = 2
    ///     soak_seconds = 0.5
    ///     [[waves]]
    ///     percent = 12.5
    ///     [[waves]]
    ///     percent = 100
    ///     [gate]                    # every key with its default
    ///     min_committed_percent = 100
    ///     max_failures = 1
    ///     max_failed_percent = 10
    ///     min_reported = 5
    ///     device_timeout_seconds = 86_400
    ///     unreached = 'set-aside'        # or 'fail'
    ///     prediction_drift = 'revert'    # or 'hold', 'off'
    ///     confidence_drift = 'off'       # or 'revert', 'hold'
    ///     error_rate = 'revert'          # or 'hold', 'off'
    ///     input_drift = 'hold'           # or 'off'
    ///     drift_tolerance_percent = 50
    ///     error_margin_percent = 1
    ///     min_rows = 50
    /// ")?;
    /// assert_eq!(policy.waves[0].soak_ms, 500);
    /// # Ok::<(), PolicyError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        file::read(text)
    }

    /// Checks what holds between the waves: they rise, and the last one takes everybody.
    ///
    /// # Errors
    /// [`PolicyError`] names the wave.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if self.waves.len() > WAVES_MAX {
            return Err(PolicyError::TooManyWaves(self.waves.len()));
        }
        for (index, pair) in self.waves.windows(2).enumerate() {
            let (previous, size) = (pair[0].size, pair[1].size);
            if !may_rise(previous, size) {
                return Err(PolicyError::NotRising { wave: index + 1, size, previous });
            }
        }
        match self.waves.last().map(|wave| wave.size) {
            None => Err(PolicyError::NoWaves),
            Some(WaveSize::Percent(Percent::ALL)) => Ok(()),
            Some(size) => Err(PolicyError::LastWave { wave: self.waves.len() - 1, size }),
        }
    }

    /// Whether `wave`, counted from 0, is the last one.
    pub fn is_last(&self, wave: usize) -> bool {
        wave + 1 >= self.waves.len()
    }

    /// A policy of one wave that takes everybody, for a first install.
    pub fn at_once(soak_ms: u64) -> Self {
        let everybody = Wave { size: WaveSize::Percent(Percent::ALL), soak_ms };
        Self { waves: vec![everybody], ..Self::default() }
    }
}

/// Whether the second size can be larger. A number against a share depends on the fleet: there the
/// planner never takes fewer devices than the wave before. Nothing rises above everybody.
fn may_rise(before: WaveSize, after: WaveSize) -> bool {
    match (before, after) {
        (WaveSize::Devices(a), WaveSize::Devices(b)) => a < b,
        (WaveSize::Percent(a), WaveSize::Percent(b)) => a < b,
        (before, _) => before != WaveSize::Percent(Percent::ALL),
    }
}
