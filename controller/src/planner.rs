//! Carries plans out: what [`tidegate_control::planner`] decides is journaled, then sent. It decides
//! nothing itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_control::announce;
use tidegate_control::planner::{
    PLANNER, Planned, Publishers, Released, Setting, Surroundings, command, plan_rollout,
    sign_anew, start,
};
use tidegate_rollout::{Act, ArtifactFacts, Evidence, FleetView, Rollout, RolloutId};
use tidegate_trust::sign_directive;
use tidegate_wire::directive::Directive;
use tidegate_wire::topic::Topic;
use tidegate_wire::{FleetId, ModelName};

pub use tidegate_control::planner::{Last, PlannerError};

use crate::api::types::{RolloutCommand, RolloutStart};
use crate::clock;
use crate::expiry::{Expiries, Told};
use crate::journal::JournalError;
use crate::ledger::Ledger;
use crate::link::{Announcements, Link};
use crate::release::Releases;
use crate::state::State;
use crate::telemetry::Telemetry;

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
    told: Mutex<Told>,
}

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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in told.news(&expiries, clock::now()) {
            tracing::warn!("{warning}");
        }
    }

    /// Signs every model's newest directive with the director's key if another one signed it, and
    /// sends it again.
    ///
    /// # Errors
    /// If the journal fails; the next tick tries again.
    pub fn sign_anew(&self) -> Result<(), JournalError> {
        let trusted = self.releases.trusted();
        let root = trusted.root().version;
        if self.signed_under.load(Ordering::Relaxed) == root {
            return Ok(());
        }
        let signed = self
            .ledger
            .decide(PLANNER, |state, _| Ok::<_, JournalError>(sign_anew(state, &trusted, self)))?;
        self.signed_under.store(root, Ordering::Relaxed);
        signed.into_iter().for_each(|model| self.send(model));
        Ok(())
    }

    /// Sends the newest timestamp.
    pub fn stamp(&self) {
        let newest = || self.releases.timestamp().map(|bytes| (Topic::Timestamp, bytes));
        self.link.announce(|| newest().into_iter().collect());
    }

    fn plan_one(&self, id: RolloutId) -> Result<(), JournalError> {
        let planned = self.ledger.decide(PLANNER, |state, now_ms| {
            Ok::<_, JournalError>(plan_rollout(state, id, self, now_ms))
        })?;
        self.follow(id, planned);
        Ok(())
    }

    /// Starts a rollout; the next tick opens its first wave.
    ///
    /// # Errors
    /// [`PlannerError`] names the running rollout, the unknown version or the wrong key.
    pub fn start(&self, who: &str, wish: RolloutStart) -> Result<RolloutId, PlannerError> {
        let targets = self.releases.targets();
        let awaited = self.releases.awaited(&wish.model, &wish.version);
        let released = Released {
            targets: targets.as_ref(),
            waits_for: awaited.map(|pending| pending.signatures.waits_for()),
            publishers: match self.releases.wants_publishers() {
                true => Publishers::Awaited,
                false => Publishers::Signed,
            },
        };
        let setting = Setting { fleet: self.fleet.clone(), salt: clock::random() };
        self.ledger.decide(who, |state, now_ms| start(state, wish, &released, setting, now_ms))
    }

    /// Does to a rollout what an operator wishes.
    ///
    /// # Errors
    /// [`PlannerError`] says why it does not apply.
    pub fn command(
        &self,
        who: &str,
        id: RolloutId,
        wish: RolloutCommand,
        why: &str,
    ) -> Result<(), PlannerError> {
        let act = Act { by: who.to_owned(), why: why.to_owned() };
        let planned =
            self.ledger.decide(who, |state, now_ms| command(state, id, wish, act, self, now_ms))?;
        self.follow(id, planned);
        Ok(())
    }

    /// What was decided last about a rollout; nothing before the first tick.
    pub fn last(&self, id: RolloutId) -> Last {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&id).cloned().unwrap_or_default()
    }

    /// Does what follows from what was journaled.
    fn follow(&self, id: RolloutId, planned: Planned) {
        if let Some(last) = planned.last {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(id, last);
        }
        if let Some(model) = planned.sent {
            self.send(model);
        }
    }

    /// Sends a model's newest directive, which need not be the caller's: somebody may have decided
    /// again since.
    fn send(&self, model: ModelName) {
        let newest = || announce::newest(&self.ledger.state(), &model);
        self.link.announce(|| newest().into_iter().collect());
    }
}

impl Surroundings for Planner {
    fn facts(&self, model: &ModelName) -> ArtifactFacts {
        self.releases.facts(model)
    }

    fn observed(&self, state: &State, rollout: &Rollout) -> (FleetView, Evidence) {
        let reference = self.releases.reference(&rollout.to.digest);
        let fleet = self.telemetry.fleet_view(state, rollout);
        let fleet = fleet.heard_since(self.link.heard_since_ms());
        (fleet, self.telemetry.evidence(rollout, reference.as_deref()))
    }

    fn sign(&self, directive: &Directive) -> Vec<u8> {
        sign_directive(&self.releases.keys().director, directive)
    }
}

impl Announcements for Planner {
    fn retained(&self) -> Vec<(Topic, Vec<u8>)> {
        let timestamp = self.releases.timestamp();
        announce::retained(&self.ledger.state(), timestamp)
    }
}
