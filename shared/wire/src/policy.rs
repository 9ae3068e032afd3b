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
    /// Times that loading is tried, at least once. A disk that was busy, or memory that another
    /// program had just then, is no fault of the model; three times in a row it is. Wrong golden
    /// outputs are not tried again: the same inputs would give them again.
    #[serde(skip_serializing_if = "is_default_tries")]
    pub tries: u8,
}

const TRIES: u8 = 3;

fn is_default_tries(tries: &u8) -> bool {
    *tries == TRIES
}

impl Default for SelfTestPolicy {
    fn default() -> Self {
        Self {
            atol: 1e-4,
            rtol: 1e-3,
            argmax_share_min: 1.0,
            load_ms_max: 30_000,
            rss_mib_max: 256,
            tries: TRIES,
        }
    }
}

/// Limits of the shadow: the candidate sees live inputs beside the active model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowPolicy {
    /// Percent of live inputs that the candidate also sees. 10 adds a tenth to the device's work.
    pub sample_percent: u8,
    /// Comparisons before a verdict. At 50 the 95 % Wilson bound is within 14 points at worst.
    pub samples_min: u32,
    /// Seconds to wait for them. After that the shadow is inconclusive, says so, and the trial
    /// decides.
    pub seconds_max: u32,
    /// Percent of answers that must agree. The candidate is rejected once the agreement is below
    /// this with 95 % confidence. 80: a better model differs where its predecessor was wrong.
    pub agreement_percent_min: u8,
    /// Percent of the active model's p95 latency that the candidate's may reach. 500: a larger
    /// model is meant to be slower; one that is five times slower was rarely meant.
    pub latency_percent_max: u32,
    /// Regression: how far two answers may be apart and still agree, absolutely.
    #[serde(skip_serializing_if = "is_default_atol")]
    pub atol: f64,
    /// The same in relation to the active model's answer, added to `atol`. 5 % is what people take
    /// for the same figure.
    #[serde(skip_serializing_if = "is_default_rtol")]
    pub rtol: f64,
    /// Embedding: the least cosine of two vectors that agree. Quantised builds of one encoder stay
    /// above 0.97; those of two encoders are near 0, and would break every index made before.
    #[serde(skip_serializing_if = "is_default_cosine")]
    pub cosine_min: f64,
    /// Seconds without a live input after which recent inputs, or else the golden set, are replayed.
    #[serde(skip_serializing_if = "is_default_idle")]
    pub idle_seconds: u32,
}

const ATOL: f64 = 1e-3;
const RTOL: f64 = 0.05;
const COSINE_MIN: f64 = 0.95;
/// An application that asks less than once a minute will not fill a shadow within its ten.
const IDLE_SECONDS: u32 = 60;

fn is_default_atol(value: &f64) -> bool {
    *value == ATOL
}

fn is_default_rtol(value: &f64) -> bool {
    *value == RTOL
}

fn is_default_cosine(value: &f64) -> bool {
    *value == COSINE_MIN
}

fn is_default_idle(value: &u32) -> bool {
    *value == IDLE_SECONDS
}

impl Default for ShadowPolicy {
    fn default() -> Self {
        Self {
            sample_percent: 10,
            samples_min: 50,
            seconds_max: 600,
            agreement_percent_min: 80,
            latency_percent_max: 500,
            atol: ATOL,
            rtol: RTOL,
            cosine_min: COSINE_MIN,
            idle_seconds: IDLE_SECONDS,
        }
    }
}

/// Limits of the trial: the candidate answers, on probation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrialPolicy {
    /// Seconds of probation at least. Ten minutes see a leak, a full queue and a warm processor.
    pub seconds_min: u32,
    /// Answers before a verdict. A device without live inputs stays on trial.
    pub samples_min: u32,
    /// Percent of inferences that may fail, and of answers that may hold a NaN or an infinity.
    pub error_percent_max: u8,
    /// Percent of input values that may lie outside the range that the model was made for. Sensors
    /// have outliers; a tenth of all values is another unit or another sensor.
    pub out_of_range_percent_max: u8,
    /// Percent of the previous model's p95 latency that the candidate's may reach.
    pub latency_percent_max: u32,
    /// Starts that a candidate may use up before it is given up as a crash loop: power may fail
    /// once or twice without its doing.
    pub attempts_max: u8,
    /// Percent of answers that a humility rule with an action may touch, or the previous model's
    /// share if that is higher. A model that doubts every second answer is of no use.
    #[serde(skip_serializing_if = "is_default_humble")]
    pub humble_percent_max: u8,
}

const HUMBLE_PERCENT_MAX: u8 = 50;

fn is_default_humble(percent: &u8) -> bool {
    *percent == HUMBLE_PERCENT_MAX
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
            humble_percent_max: HUMBLE_PERCENT_MAX,
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
