//! Carries plans out: asks the pure planner, has its plan checked, journals it, signs the
//! directive, sends it. It decides nothing itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_rollout::{
    Act, ArtifactFacts, CommandError, Comparison, Decision, Evidence, FleetView, Plan, Policy,
    PolicyError, Rollout, RolloutId, Start, StartError, World, cancel, check, pause, plan, promote,
    resume, revert, start,
};
use tidegate_trust::{sign_directive, verify_directive};
use tidegate_wire::directive::{LIMIT_ALL, Rule};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, FleetId, Generation, Labels, ModelName, Version};

use crate::api::types::{DecisionView, RolloutCommand, RolloutStart};
use crate::clock;
use crate::expiry::{Expiries, Told};
use crate::journal::JournalError;
use crate::ledger::{Decided, Ledger};
use crate::link::{Announcements, Link};
use crate::release::Releases;
use crate::state::{Issued, Record, SignedDirective, State};
use crate::telemetry::Telemetry;

/// The planner's name in the audit log.
const PLANNER: &str = "planner";

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

/// Carries plans out.
pub struct Planner {
    fleet: FleetId,
    ledger: Arc<Ledger>,
    telemetry: Arc<Telemetry>,
    releases: Arc<Releases>,
    link: Link,
    last: Mutex<BTreeMap<RolloutId, Last>>,
    /// The root under which directives were looked at last.
    signed_under: AtomicU64,
    /// What expires besides the release metadata.
    expiries: Expiries,
    told: Told,
}

/// What was decided last about a rollout, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Last {
    /// What, and what it waits for.
    pub decision: DecisionView,
    /// What was compared.
    pub comparisons: Vec<Comparison>,
}

/// The model whose directive a decision changed, if it did.
type Sent = Option<ModelName>;

impl Planner {
    /// Plans with what `telemetry` and `releases` know.
    pub fn new(
        fleet: FleetId,
        ledger: Arc<Ledger>,
        telemetry: Arc<Telemetry>,
        releases: Arc<Releases>,
        link: Link,
        expiries: Expiries,
    ) -> Self {
        let (last, signed_under, told) = Default::default();
        Self { fleet, ledger, telemetry, releases, link, last, signed_under, expiries, told }
    }

    /// Plans every model's newest rollout once, and renews signatures that grow old. Blocks.
    pub fn tick(&self) {
        match self.releases.renew() {
            Ok(true) => self.stamp(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "release metadata cannot be signed anew"),
        }
        if let Err(error) = self.sign_anew() {
            tracing::error!(%error, "directives cannot be signed with the new director key");
        }
        self.warn();
        self.link.settle(self);
        let newest: Vec<RolloutId> =
            self.ledger.state().latest_rollouts().iter().map(|entry| entry.rollout.id).collect();
        self.telemetry.keep_evidence(&newest);
        for id in newest {
            if let Err(error) = self.plan_one(id) {
                tracing::error!(rollout = id.0, %error, "a rollout could not be planned");
            }
        }
    }

    /// Logs what expires soon.
    fn warn(&self) {
        let mut expiries = self.releases.expiries();
        expiries.extend(self.expiries.watched());
        for warning in self.told.news(&expiries, clock::now()) {
            tracing::warn!("{warning}");
        }
    }

    /// Signs every model's newest directive with the director's key if another one signed it, and
    /// sends it again: the same words, so that no device does anything else than before.
    ///
    /// # Errors
    /// If the journal fails; the next tick tries again.
    pub fn sign_anew(&self) -> Result<(), JournalError> {
        let trusted = self.releases.trusted();
        let root = trusted.root().version;
        if self.signed_under.load(Ordering::Relaxed) == root {
            return Ok(());
        }
        let signed = self.ledger.decide(PLANNER, |state, _| {
            let foreign = state.directives.iter().filter(|(model, issued)| {
                verify_directive(&trusted, &issued.signed, model).is_err()
            });
            let sign = |(_, issued): (&ModelName, &Issued)| {
                let directive = issued.directive.clone();
                let signed = sign_directive(&self.releases.keys().director, &directive);
                SignedDirective { directive, signed }
            };
            let directives: Vec<_> = foreign.map(sign).collect();
            let models: Vec<_> = directives.iter().map(|one| one.directive.model.clone()).collect();
            if directives.is_empty() {
                return Ok::<_, JournalError>(Decided::nothing(models));
            }
            let record = Record::DirectivesSigned { directives };
            Ok(Decided::one(record, "the director's key was replaced", models))
        })?;
        self.signed_under.store(root, Ordering::Relaxed);
        signed.into_iter().for_each(|model| self.send(Some(model)));
        Ok(())
    }

    /// Sends the newest timestamp.
    pub fn stamp(&self) {
        let newest = || self.releases.timestamp().map(|bytes| (Topic::Timestamp, bytes));
        self.link.announce(|| newest().into_iter().collect());
    }

    fn plan_one(&self, id: RolloutId) -> Result<(), JournalError> {
        let (sent, last) = self.ledger.decide(PLANNER, |state, now_ms| {
            let entry = state.rollouts.get(&id).filter(|entry| entry.fault.is_none());
            let Some(entry) = entry else {
                return Ok::<_, JournalError>(Decided::nothing((None, None)));
            };
            let rollout = &entry.rollout;
            if let Some(plan) = self.nothing_to_do(state, rollout, now_ms) {
                return Ok(Decided::nothing((None, Some(Last::of(&plan)))));
            }
            let seen = self.look(state, rollout);
            let plan = plan(rollout, &seen.world(), now_ms);
            let last = Some(Last::of(&plan));
            if let Err(violation) = check(rollout, &plan, &seen.fleet, &seen.facts) {
                tracing::error!(rollout = id.0, %violation, "a plan was refused by the checker");
                let violation = format!("{plan}: {violation}");
                let fault = Record::RolloutFaulted { id, violation };
                return Ok(Decided::one(fault, "the checker refused the plan", (None, last)));
            }
            if plan.next == *rollout && plan.directive.is_none() {
                return Ok(Decided::nothing((None, last)));
            }
            let (record, sent) = self.record(plan);
            Ok(Decided::one(record, "", (sent, last)))
        })?;
        if let Some(last) = last {
            self.remember(id, last);
        }
        self.send(sent);
        Ok(())
    }

    /// The plan for a rollout that is over and whose directive is fresh, as nearly always: it asks
    /// for no device.
    fn nothing_to_do(&self, state: &State, rollout: &Rollout, now_ms: u64) -> Option<Plan> {
        if rollout.is_open() {
            return None;
        }
        let facts = self.releases.facts(&rollout.model);
        let directed = directed(state, &rollout.model);
        let (fleet, evidence) = (FleetView::default(), Evidence::default());
        let seen = Seen { fleet, evidence, facts, directed };
        let plan = plan(rollout, &seen.world(), now_ms);
        plan.directive.is_none().then_some(plan)
    }

    /// Starts a rollout; the next tick opens its first wave.
    ///
    /// # Errors
    /// [`PlannerError`] names the running rollout, the unknown version or the wrong key.
    pub fn start(&self, who: &str, wish: RolloutStart) -> Result<RolloutId, PlannerError> {
        let RolloutStart { model, version, policy_toml, why } = wish;
        let policy = match &policy_toml {
            Some(text) => Policy::parse(text)?,
            None => Policy::default(),
        };
        let targets = self.releases.targets();
        let named = targets.as_ref().and_then(|targets| targets.named(&model, &version));
        let Some(to) = named else {
            return Err(match self.releases.awaited(&model, &version) {
                Some(pending) => {
                    let missing = pending.signatures.waits_for();
                    PlannerError::Pending { model, version, missing }
                }
                None => PlannerError::NoVersion { model, version },
            });
        };
        if self.releases.wants_publishers() {
            return Err(PlannerError::Unsigned);
        }
        let floor = targets.as_ref().map_or(0, |targets| targets.floor(&model));
        let entry = targets.as_ref().and_then(|targets| targets.entry(&model, &to));
        if let Some(release) = entry.map(|entry| entry.release).filter(|release| *release < floor) {
            return Err(PlannerError::BelowFloor { model, version, release, floor });
        }
        let (facts, salt) = (self.releases.facts(&model), clock::random());
        self.ledger.decide(who, |state, now_ms| {
            let issued = state.directives.get(&model).map(|issued| &issued.directive);
            let standing = issued.map(|directive| directive.rules.clone()).unwrap_or_default();
            let id = state.next_rollout();
            let request = Start {
                id,
                fleet: self.fleet.clone(),
                model: model.clone(),
                from: assigned(&standing, &policy.selector).cloned(),
                to,
                policy,
                salt,
                standing,
                last: issued.map_or(Generation(0), |directive| directive.generation),
            };
            let latest = state.latest(&model).map(|entry| &entry.rollout);
            let rollout = Box::new(start(request, latest, &facts, now_ms)?);
            Ok(Decided::one(Record::RolloutStarted { rollout }, why, id))
        })
    }

    /// Does to a rollout what an operator wishes.
    ///
    /// # Errors
    /// [`PlannerError`] says why it does not apply.
    pub fn command(
        &self,
        who: &str,
        id: RolloutId,
        command: RolloutCommand,
        why: &str,
    ) -> Result<(), PlannerError> {
        let sent = self.ledger.decide(who, |state, now_ms| {
            let entry = state.rollouts.get(&id).ok_or(PlannerError::NoRollout(id))?;
            let rollout = &entry.rollout;
            let newest = state.latest(&rollout.model).map_or(id, |entry| entry.rollout.id);
            if newest != id {
                let model = rollout.model.clone();
                return Err(PlannerError::Older { id, model, newest });
            }
            let act = Act { by: who.to_owned(), why: why.to_owned() };
            let seen = self.look(state, rollout);
            let done = |next: Rollout| (changed(next, command), None);
            let (record, sent) = match command {
                RolloutCommand::Pause => done(pause(rollout, act)?),
                // A rollout whose plan was refused is resumed by planning it again.
                RolloutCommand::Resume if entry.fault.is_some() && rollout.is_open() => {
                    done(resume(rollout).unwrap_or_else(|_| rollout.clone()))
                }
                RolloutCommand::Resume => done(resume(rollout)?),
                RolloutCommand::Cancel => done(cancel(rollout, act, now_ms)?),
                RolloutCommand::Promote => {
                    let plan = promote(rollout, act, &seen.world(), now_ms)?;
                    self.reviewed(rollout, plan, &seen)?
                }
                RolloutCommand::Revert => {
                    let plan = revert(rollout, act, &seen.facts, now_ms)?;
                    self.reviewed(rollout, plan, &seen)?
                }
            };
            Ok(Decided::one(record, why, sent))
        })?;
        self.send(sent);
        Ok(())
    }

    /// What was decided last about a rollout; nothing before the first tick.
    pub fn last(&self, id: RolloutId) -> Last {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&id).cloned().unwrap_or_default()
    }

    fn reviewed(
        &self,
        rollout: &Rollout,
        plan: Plan,
        seen: &Seen,
    ) -> Result<(Record, Sent), PlannerError> {
        check(rollout, &plan, &seen.fleet, &seen.facts)
            .map_err(|violation| PlannerError::Violation(violation.to_string()))?;
        self.remember(rollout.id, Last::of(&plan));
        Ok(self.record(plan))
    }

    fn record(&self, plan: Plan) -> (Record, Sent) {
        let decision = plan.to_string();
        let directive = plan.directive.map(|directive| {
            let signed = sign_directive(&self.releases.keys().director, &directive);
            SignedDirective { directive, signed }
        });
        let rollout = Box::new(plan.next);
        let sent = directive.as_ref().map(|_| rollout.model.clone());
        (Record::RolloutChanged { rollout, decision, directive }, sent)
    }

    /// Sends a model's newest directive, which need not be the caller's: somebody may have decided
    /// again since.
    fn send(&self, sent: Sent) {
        let Some(model) = sent else { return };
        self.link.announce(|| {
            let state = self.ledger.state();
            let newest = state.directives.get(&model).map(|issued| issued.signed.clone());
            newest.map(|signed| (Topic::Directive(model), signed)).into_iter().collect()
        });
    }

    fn remember(&self, id: RolloutId, last: Last) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(id, last);
    }

    /// What is known now with regard to a rollout.
    fn look(&self, state: &State, rollout: &Rollout) -> Seen {
        let reference = self.releases.reference(&rollout.to.digest);
        Seen {
            fleet: self.telemetry.fleet_view(state, rollout),
            evidence: self.telemetry.evidence(rollout, reference.as_deref()),
            facts: self.releases.facts(&rollout.model),
            directed: directed(state, &rollout.model),
        }
    }
}

struct Seen {
    fleet: FleetView,
    evidence: Evidence,
    facts: ArtifactFacts,
    directed: Vec<Rule>,
}

impl Seen {
    fn world(&self) -> World<'_> {
        let Self { fleet, evidence, facts, directed } = self;
        World { fleet, evidence, facts, directed }
    }
}

impl Last {
    fn of(plan: &Plan) -> Self {
        let kind = match &plan.decision {
            Decision::OpenFirstWave => "start",
            Decision::Advance { .. } | Decision::Promote { .. } => "advance",
            Decision::Hold(_) => "hold",
            Decision::Revert(_) => "revert",
            Decision::Complete => "complete",
            Decision::Renew | Decision::Withdraw => "renew",
            Decision::Nothing(_) => "ended",
        };
        let holds = plan.decision.holds().iter().map(ToString::to_string).collect();
        let decision = DecisionView { kind: kind.into(), text: plan.to_string(), holds };
        Self { decision, comparisons: plan.comparisons.clone() }
    }
}

fn changed(next: Rollout, command: RolloutCommand) -> Record {
    let decision = format!("{} by an operator", command.name());
    Record::RolloutChanged { rollout: Box::new(next), decision, directive: None }
}

/// The rules of a model's newest directive.
fn directed(state: &State, model: &ModelName) -> Vec<Rule> {
    let issued = state.directives.get(model);
    issued.map(|issued| issued.directive.rules.clone()).unwrap_or_default()
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

impl Announcements for Planner {
    fn retained(&self) -> Vec<(Topic, Vec<u8>)> {
        let timestamp = self.releases.timestamp().map(|bytes| (Topic::Timestamp, bytes));
        let state = self.ledger.state();
        let directives = state.directives.iter();
        let directives = directives
            .map(|(model, issued)| (Topic::Directive(model.clone()), issued.signed.clone()));
        timestamp.into_iter().chain(directives).collect()
    }
}
