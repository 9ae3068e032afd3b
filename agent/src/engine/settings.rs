//! What the device's configuration says about engines: once for the whole process, since the
//! libraries behind them are loaded once, too.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;

/// Engines that need more than their model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnginesConfig {
    /// Threads that one run may use, where the engine can use several.
    pub threads: usize,
    /// The shared library of ONNX Runtime; without it the device does not have this engine.
    pub onnxruntime: Option<PathBuf>,
}

impl Default for EnginesConfig {
    /// One thread: on small boards a second one makes a run slower, and other requests wait for it.
    fn default() -> Self {
        Self { threads: 1, onnxruntime: None }
    }
}

static SETTINGS: OnceLock<EnginesConfig> = OnceLock::new();

/// Sets what engines that are loaded from now on go by. Only the first call in a process counts.
/// What cannot work is logged at once; models that need it will be turned down when they come.
pub fn configure(config: &EnginesConfig) {
    SETTINGS.get_or_init(|| config.clone());
    let Some(path) = &config.onnxruntime else { return };
    if !cfg!(feature = "onnxruntime") {
        tracing::error!(
            "`engines.onnxruntime` is set, but this agent was built without the engine"
        );
    } else if !path.exists() {
        tracing::error!("`engines.onnxruntime`: there is no file {}", path.display());
    }
}

/// What was configured, or the defaults.
#[cfg(feature = "onnxruntime")]
pub(super) fn settings() -> &'static EnginesConfig {
    SETTINGS.get_or_init(EnginesConfig::default)
}
