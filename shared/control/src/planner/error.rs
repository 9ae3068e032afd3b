//! Why an operator's wish is not carried out.

use alloc::string::String;

use tidegate_rollout::{CommandError, PolicyError, RolloutId, StartError};
use tidegate_wire::{ModelName, Version};

use crate::journal::JournalError;

/// Why an operator's wish was not carried out. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    /// There is no such rollout.
    #[error("there is no rollout {0}: `tidegate rollout history` lists them")]
    NoRollout(RolloutId),
    /// There is no such version.
    #[error("no signed release of {model} is called {version}: push and publish it first")]
    NoVersion {
        /// The model.
        model: ModelName,
        /// What was asked for.
        version: Version,
    },
    /// The version waits for publishers' signatures.
    #[error(
        "{model}@{version} waits for the signature of {missing}: they run \
         `tidegate model sign {model}@{version} --key FILE`, then it can be rolled out"
    )]
    Pending {
        /// The model.
        model: ModelName,
        /// What was asked for.
        version: Version,
        /// Who must still sign.
        missing: String,
    },
    /// Root was given to other publishers, who have not signed yet.
    #[error(
        "the fleet's publishers were changed and have not signed the release metadata since, so \
         devices install nothing new: they run `tidegate model renew --key FILE`"
    )]
    Unsigned,
    /// A newer rollout of the model counts.
    #[error("rollout {id} is not the newest of {model}: rollout {newest} is")]
    Older {
        /// What was asked for.
        id: RolloutId,
        /// The model.
        model: ModelName,
        /// Which one counts.
        newest: RolloutId,
    },
    /// The publishers allow nothing so old any more.
    #[error(
        "{model}@{version} is release {release}, below the floor, {floor}: devices would refuse \
         it; push it again under a new version if it is still wanted"
    )]
    BelowFloor {
        /// The model.
        model: ModelName,
        /// What was asked for.
        version: Version,
        /// Its number.
        release: u64,
        /// The lowest that may be installed.
        floor: u64,
    },
    /// The policy is wrong.
    #[error("the policy is refused: {0}")]
    Policy(#[from] PolicyError),
    /// The rollout cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The command does not apply now.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The checker refused what came of the command.
    #[error("the plan for it was refused by the checker: {0}")]
    Violation(String),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
