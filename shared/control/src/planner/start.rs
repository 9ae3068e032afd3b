//! The start of a rollout, and why there is none.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};
use tidegate_rollout::{Policy, RolloutId, Start};
use tidegate_trust::Targets;
use tidegate_wire::directive::{LIMIT_ALL, Rule};
use tidegate_wire::{ArtifactRef, FleetId, Generation, Labels, ModelName, Version};

use super::{PlannerError, facts};
use crate::Decided;
use crate::state::{Record, State};

/// The wish for a rollout: `POST /v1/rollouts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutStart {
    /// The model.
    pub model: ModelName,
    /// The signed version that it is to have.
    pub version: Version,
    /// The policy as TOML; without it the default policy.
    #[serde(default)]
    pub policy_toml: Option<String>,
    /// Why, for the audit log.
    pub why: String,
}

/// What the release metadata says, as far as a start needs it.
#[derive(Debug, Clone)]
pub struct Released<'a> {
    /// The newest targets metadata.
    pub targets: Option<&'a Targets>,
    /// Who must still sign the version that is asked for, if it waits for signatures.
    pub waits_for: Option<String>,
    /// Whether devices believe it.
    pub publishers: Publishers,
}

/// Whether the publishers that count have signed the release metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishers {
    /// They have.
    Signed,
    /// Root was given to other publishers, who have not signed yet: devices install nothing new.
    Awaited,
}

/// What every rollout of a controller gets.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The fleet.
    pub fleet: FleetId,
    /// Random bytes, by which devices are put in an order.
    pub salt: [u8; 16],
}

/// Starts a rollout at `now_ms`, Unix milliseconds; planning it opens its first wave.
///
/// # Errors
/// [`PlannerError`] names the running rollout, the unknown version or who must still sign.
pub fn start(
    state: &State,
    wish: RolloutStart,
    released: &Released<'_>,
    setting: Setting,
    now_ms: u64,
) -> Result<Decided<RolloutId>, PlannerError> {
    let RolloutStart { model, version, policy_toml, why } = wish;
    let policy = match &policy_toml {
        Some(text) => Policy::parse(text)?,
        None => Policy::default(),
    };
    let (targets, to) = allowed(&model, version, released)?;
    let issued = state.directives.get(&model).map(|issued| &issued.directive);
    let standing = issued.map(|directive| directive.rules.clone()).unwrap_or_default();
    let (id, facts) = (state.next_rollout(), facts(targets, &model));
    let latest = state.latest(&model).map(|entry| &entry.rollout);
    let request = Start {
        id,
        fleet: setting.fleet,
        from: assigned(&standing, &policy.selector).cloned(),
        to,
        policy,
        salt: setting.salt,
        standing,
        last: issued.map_or(Generation(0), |directive| directive.generation),
        model,
    };
    let rollout = Box::new(tidegate_rollout::start(request, latest, &facts, now_ms)?);
    Ok(Decided::one(Record::RolloutStarted { rollout }, why, id))
}

/// The artifact that a version names, if devices would take it.
fn allowed<'a>(
    model: &ModelName,
    version: Version,
    released: &Released<'a>,
) -> Result<(&'a Targets, ArtifactRef), PlannerError> {
    let model = model.clone();
    let named = released.targets.and_then(|all| Some((all, all.named(&model, &version)?)));
    let Some((targets, to)) = named else {
        return Err(match released.waits_for.clone() {
            Some(missing) => PlannerError::Pending { model, version, missing },
            None => PlannerError::NoVersion { model, version },
        });
    };
    if released.publishers == Publishers::Awaited {
        return Err(PlannerError::Unsigned);
    }
    let floor = targets.floor(&model);
    match targets.entry(&model, &to).map(|entry| entry.release) {
        Some(release) if release < floor => {
            Err(PlannerError::BelowFloor { model, version, release, floor })
        }
        _ => Ok((targets, to)),
    }
}

/// What standing rules assign to the devices that a selector takes: the first rule that takes all
/// of them.
fn assigned<'a>(standing: &'a [Rule], selector: &Labels) -> Option<&'a ArtifactRef> {
    let takes_all = |rule: &&Rule| {
        rule.limit == LIMIT_ALL
            && rule.selector.iter().all(|(key, value)| selector.get(key) == Some(value))
    };
    standing.iter().find(takes_all).map(|rule| &rule.artifact)
}
