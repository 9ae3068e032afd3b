//! The planner: one pure function from what is known to what to do, and why.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use tidegate_wire::ArtifactRef;
use tidegate_wire::directive::{Directive, Rule};

use crate::cohort::Cohort;
use crate::compare::{Comparison, Evidence};
use crate::gate::{Cause, HoldReason, Judgement, Verdict, committed_needed, judge};
use crate::policy::WaveSize;
use crate::rollout::{Act, Rollout, Status, WaveRecord};
use crate::tally::Tally;
use crate::text::Count;
use crate::{ArtifactFacts, FleetView, Known};

/// What is known when a plan is made.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Every enrolled device, its progress told with regard to the rollout.
    pub fleet: &'a FleetView,
    /// What the reports say.
    pub evidence: &'a Evidence,
    /// What is signed and what is revoked.
    pub facts: &'a ArtifactFacts,
    /// The rules of the model's newest directive, whichever rollout issued it; empty if there is
    /// none.
    pub directed: &'a [Rule],
}

impl World<'_> {
    /// Whether devices are still directed to something that was revoked since.
    fn directs_revoked(&self) -> bool {
        self.directed.iter().any(|rule| self.facts.of(&rule.artifact) == Known::Revoked)
    }
}

/// What to do now. It leaves no choice to whoever executes it: journal `next` if it differs from
/// the rollout before, then sign and send the directive if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The rollout from now on.
    pub next: Rollout,
    /// What to sign and send, retained.
    pub directive: Option<Directive>,
    /// What was decided.
    pub decision: Decision,
    /// The comparisons that were looked at, for people.
    pub comparisons: Vec<Comparison>,
}

/// What a plan decides, with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The first wave opens.
    OpenFirstWave,
    /// The next wave, counted from 0, opens because the one before is good.
    Advance {
        /// The wave that opens.
        wave: usize,
    },
    /// The next wave opens because an operator says so.
    Promote {
        /// The wave that opens.
        wave: usize,
        /// Who and why.
        act: Act,
    },
    /// Everything stays as it is, for these reasons. Never empty.
    Hold(Vec<HoldReason>),
    /// Everybody is directed back.
    Revert(Cause),
    /// The last wave is good.
    Complete,
    /// The directive is issued anew, unchanged, because it would expire.
    Renew,
    /// The directive is issued anew without what was revoked.
    Withdraw,
    /// The rollout is over.
    Nothing(Settled),
}

/// Why there is nothing to do any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is completed, reverted or cancelled.
    Ended(&'static str),
    /// It is over and its artifact is no longer signed, so its directive is left to expire. Roll
    /// out another version.
    NotSigned(ArtifactRef),
}

impl Decision {
    /// Everything that a hold waits for; empty for any other decision.
    pub fn holds(&self) -> &[HoldReason] {
        match self {
            Self::Hold(reasons) => reasons,
            _ => &[],
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenFirstWave => f.write_str("open wave 1"),
            Self::Advance { wave } => write!(f, "open wave {}", wave + 1),
            Self::Promote { wave, act } => {
                write!(f, "{} ({}) promotes: open wave {}", act.by, act.why, wave + 1)
            }
            Self::Hold(reasons) => {
                f.write_str("hold: ")?;
                for (index, reason) in reasons.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "; " };
                    write!(f, "{comma}{reason}")?;
                }
                Ok(())
            }
            Self::Revert(cause) => write!(f, "revert: {}: {cause}", cause.reason()),
            Self::Complete => f.write_str("complete"),
            Self::Renew => f.write_str("renew the directive before it expires"),
            Self::Withdraw => f.write_str("direct nobody any more to what the publishers revoked"),
            Self::Nothing(Settled::Ended(how)) => write!(f, "nothing to do: {how}"),
            Self::Nothing(Settled::NotSigned(artifact)) => {
                write!(f, "nothing to do: no signed release names {artifact} any more")
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is journaled says also what becomes of the devices.
        if let (Decision::Revert(cause), Status::Reverted { detail, .. }) =
            (&self.decision, &self.next.status)
        {
            return write!(f, "revert: {}: {detail}", cause.reason());
        }
        self.decision.fmt(f)?;
        match (&self.decision, self.next.history.last()) {
            (
                Decision::OpenFirstWave | Decision::Advance { .. } | Decision::Promote { .. },
                Some(record),
            ) => {
                let waves = self.next.policy.waves.len();
                write!(f, " of {waves}: {}", Count(u64::from(record.members)))?;
                match record.size {
                    WaveSize::Percent(percent) => write!(f, " ({percent})"),
                    WaveSize::Devices(_) => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Says what to do with a rollout now. The same question gets the same answer.
///
/// To be asked for the model's latest rollout, also when it is over: directives are renewed before
/// they expire, so that devices that join later are still assigned. The clock is the controller's,
/// Unix milliseconds; if it goes back, soaks and timeouts only become longer.
pub fn plan(rollout: &Rollout, world: &World<'_>, now_ms: u64) -> Plan {
    if !rollout.is_open() {
        return settled(rollout, world, now_ms);
    }
    match world.facts.of(&rollout.to) {
        Known::Revoked => return take_back(rollout.clone(), Cause::Revoked, world.facts, now_ms),
        Known::Unknown => {
            return hold(rollout.clone(), [HoldReason::NotSigned(rollout.to.clone())].to_vec());
        }
        Known::Signed => {}
    }
    if rollout.wave().is_none() {
        return first_wave(rollout, world, now_ms);
    }
    let (next, Judgement { verdict, comparisons }) = judged(rollout, world, now_ms);
    let plan = match verdict {
        Verdict::Revert(cause) => take_back(next, cause, world.facts, now_ms),
        Verdict::Hold(_) if world.directs_revoked() => {
            issue(next, Decision::Withdraw, world.facts, now_ms)
        }
        Verdict::Hold(_) if is_stale(&next, now_ms) => {
            issue(next, Decision::Renew, world.facts, now_ms)
        }
        Verdict::Hold(reasons) => hold(next, reasons),
        Verdict::Advance => advance(next, world, now_ms),
    };
    Plan { comparisons, ..plan }
}

/// The gate's word on the present wave, and the rollout with the beginning of its soak noted.
pub(crate) fn judged(rollout: &Rollout, world: &World<'_>, now_ms: u64) -> (Rollout, Judgement) {
    let mut next = rollout.clone();
    let tally = Tally::of(rollout, world.fleet, rollout.limit(), now_ms);
    let enough = tally.committed >= committed_needed(rollout, &tally);
    if let Some(record) = next.history.last_mut()
        && enough
    {
        record.committed_ms.get_or_insert(now_ms);
    }
    let judgement = judge(&next, &tally, world.evidence, now_ms);
    (next, judgement)
}

fn first_wave(rollout: &Rollout, world: &World<'_>, now_ms: u64) -> Plan {
    if let Status::Paused(act) = &rollout.status {
        return hold(rollout.clone(), [HoldReason::Paused(act.clone())].to_vec());
    }
    if world.fleet.matching(&rollout.policy.selector).next().is_none() {
        return hold(rollout.clone(), [HoldReason::NoDevices].to_vec());
    }
    open(rollout.clone(), Decision::OpenFirstWave, world, now_ms)
}

fn advance(mut next: Rollout, world: &World<'_>, now_ms: u64) -> Plan {
    let wave = next.history.len();
    if wave < next.policy.waves.len() {
        return open(next, Decision::Advance { wave }, world, now_ms);
    }
    next.status = Status::Completed;
    next.ended_ms = Some(now_ms);
    unsent(next, Decision::Complete)
}

/// Opens the next wave and issues its directive.
pub(crate) fn open(mut next: Rollout, decision: Decision, world: &World<'_>, now_ms: u64) -> Plan {
    let wave = next.history.len();
    let cohort = Cohort::new(world.fleet, &next.policy, &next.salt);
    let (before, generation) = (next.limit(), next.generation.next());
    let limit = cohort.wave_limit(&next.policy, wave, before);
    let record = WaveRecord {
        size: next.policy.waves[wave].size,
        limit,
        generation,
        opened_ms: now_ms,
        committed_ms: None,
        members: cohort.taken(limit),
        added: cohort.taken(limit) - cohort.taken(before),
    };
    next.history.push(record);
    if wave == 0 {
        next.since = generation;
    }
    issue(next, decision, world.facts, now_ms)
}

/// Ends a rollout by directing everybody back.
pub(crate) fn take_back(
    mut next: Rollout,
    cause: Cause,
    facts: &ArtifactFacts,
    now_ms: u64,
) -> Plan {
    let act = match &cause {
        Cause::Operator(act) => Some(act.clone()),
        _ => None,
    };
    next.status = Status::Reverted { reason: cause.reason(), detail: cause.to_string(), act };
    next.ended_ms = Some(now_ms);
    if next.history.is_empty() {
        // Nobody was directed to it, so there is nobody to direct back.
        return unsent(next, Decision::Revert(cause));
    }
    next.reverted_since = Some(next.generation.next());
    if !goes_back(&next, facts)
        && let Status::Reverted { detail, .. } = &mut next.status
    {
        let to = &next.to;
        detail.push_str(&match cause {
            Cause::Revoked => format!(
                "; there is no older version to go back to: devices that have {to} answer with \
                 what else they have, or not at all, until another version is rolled out"
            ),
            _ => format!(
                "; there is no older version to go back to: devices that have {to} keep it, and \
                 no further device gets it"
            ),
        });
    }
    issue(next, Decision::Revert(cause), facts, now_ms)
}

/// Whether the rules of a revert name what the devices had before.
fn goes_back(reverted: &Rollout, facts: &ArtifactFacts) -> bool {
    let Some(from) = &reverted.from else { return false };
    reverted.rules(facts).iter().any(|rule| rule.artifact.digest == from.digest)
}

fn settled(rollout: &Rollout, world: &World<'_>, now_ms: u64) -> Plan {
    let ended = Decision::Nothing(Settled::Ended(rollout.status.name()));
    let reverted = matches!(rollout.status, Status::Reverted { .. });
    if !reverted && !rollout.history.is_empty() && world.facts.of(&rollout.to) == Known::Revoked {
        // It was good when it ended, and devices that join later would be directed to it.
        return take_back(rollout.clone(), Cause::Revoked, world.facts, now_ms);
    }
    if world.directs_revoked() {
        return issue(rollout.clone(), Decision::Withdraw, world.facts, now_ms);
    }
    if rollout.history.is_empty() || !is_stale(rollout, now_ms) {
        return unsent(rollout.clone(), ended);
    }
    if !reverted && world.facts.of(&rollout.to) != Known::Signed {
        let artifact = rollout.to.clone();
        return unsent(rollout.clone(), Decision::Nothing(Settled::NotSigned(artifact)));
    }
    issue(rollout.clone(), Decision::Renew, world.facts, now_ms)
}

/// Whether half of the directive's time is over.
fn is_stale(rollout: &Rollout, now_ms: u64) -> bool {
    now_ms.saturating_sub(rollout.issued_ms) >= rollout.policy.directive_ttl_ms / 2
}

fn hold(next: Rollout, reasons: Vec<HoldReason>) -> Plan {
    unsent(next, Decision::Hold(reasons))
}

fn unsent(next: Rollout, decision: Decision) -> Plan {
    Plan { next, directive: None, decision, comparisons: Vec::new() }
}

/// Issues the rollout's rules under the next higher generation.
fn issue(mut next: Rollout, decision: Decision, facts: &ArtifactFacts, now_ms: u64) -> Plan {
    next.generation = next.generation.next();
    next.issued_ms = now_ms;
    let reason = match &next.status {
        Status::Reverted { reason, .. } => Some(*reason),
        _ => None,
    };
    let directive = Directive {
        fleet: next.fleet.clone(),
        model: next.model.clone(),
        generation: next.generation,
        issued: now_ms / 1000,
        expires: now_ms.saturating_add(next.policy.directive_ttl_ms).div_ceil(1000),
        rules: next.rules(facts),
        reason,
    };
    Plan { next, directive: Some(directive), decision, comparisons: Vec::new() }
}
