//! What a model must show on a device before it is committed. The publisher signs these limits
//! with the manifest; the defaults are safe for a small classifier.

use serde::{Deserialize, Serialize};

/// Limits of the self-test: the candidate is loaded and answers its golden set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfTestPolicy {
    /// Absolute tolerance of golden outputs. 1e-4 is what engines differ by in f32 on one graph.
    pub atol: f64,
    /// Relative tolerance of golden outputs, added to `atol`.
    pub rtol: f64,
    /// Share of golden rows, 0 to 1, whose largest output must be at the same place.
    pub argmax_share_min: f64,
    /// Milliseconds that loading may take; a slow SD card needs seconds.
    pub load_ms_max: u32,
    /// Mebibytes by which loading may raise the agent's resident memory.
    pub rss_mib_max: u32,
}

impl Default for SelfTestPolicy {
    fn default() -> Self {
        Self {
            atol: 1e-4,
            rtol: 1e-3,
            argmax_share_min: 1.0,
            load_ms_max: 30_000,
            rss_mib_max: 256,
        }
    }
}

/// Limits of the shadow: the candidate sees live inputs beside the active model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowPolicy {
    /// Percent of live inputs that the candidate also sees.
    pub sample_percent: u8,
    /// Comparisons before a verdict. At 50 the 95 % Wilson bound is within 14 points at worst.
    pub samples_min: u32,
    /// Seconds to wait for them. After that the shadow is inconclusive, says so, and the trial
    /// decides.
    pub seconds_max: u32,
    /// Percent of answers that must agree. The candidate is rejected once the agreement is below
    /// this with 95 % confidence.
    pub agreement_percent_min: u8,
    /// Percent of the active model's mean latency that the candidate's may reach.
    pub latency_percent_max: u32,
}

impl Default for ShadowPolicy {
    fn default() -> Self {
        Self {
            sample_percent: 10,
            samples_min: 50,
            seconds_max: 600,
            agreement_percent_min: 80,
            latency_percent_max: 500,
        }
    }
}

/// Limits of the trial: the candidate answers, on probation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrialPolicy {
    /// Seconds of probation at least.
    pub seconds_min: u32,
    /// Answers before a verdict. A device without live inputs stays on trial.
    pub samples_min: u32,
    /// Percent of inferences that may fail.
    pub error_percent_max: u8,
    /// Percent of input values that may lie outside the range that the model was made for.
    pub out_of_range_percent_max: u8,
    /// Percent of the previous model's mean latency that the candidate's may reach.
    pub latency_percent_max: u32,
    /// Starts that a candidate may use up before it is given up as a crash loop.
    pub attempts_max: u8,
}

impl Default for TrialPolicy {
    fn default() -> Self {
        Self {
            seconds_min: 600,
            samples_min: 100,
            error_percent_max: 1,
            out_of_range_percent_max: 10,
            latency_percent_max: 500,
            attempts_max: 3,
        }
    }
}

/// Everything that a candidate must show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gates {
    /// Golden set.
    pub self_test: SelfTestPolicy,
    /// Live inputs, answers thrown away.
    pub shadow: ShadowPolicy,
    /// Live inputs, on probation.
    pub trial: TrialPolicy,
}
