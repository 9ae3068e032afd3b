//! What is installed and what it has answered.

use super::ApiError;
use crate::serving::{Readiness, Serving, Statistics};

/// Triton's word for a model's state in the repository index.
pub(crate) fn state_name(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "READY",
        Readiness::Loading => "LOADING",
        Readiness::Unavailable => "UNAVAILABLE",
    }
}

/// Of one model, or of all that answer.
///
/// # Errors
/// 404 or 503 if the model that is asked for does not answer.
pub(crate) fn statistics_of(
    serving: &Serving,
    model: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<Statistics>, ApiError> {
    if let Some(model) = model {
        return Ok(vec![serving.statistics(model, version)?]);
    }
    let listed = serving.index();
    let ready = listed.iter().filter(|listed| listed.readiness == Readiness::Ready);
    // One that has gone since is left out.
    Ok(ready.filter_map(|listed| serving.statistics(listed.model.as_str(), None).ok()).collect())
}
