//! An independent review of plans.
//!
//! It shares no arithmetic with the planner. The planner derives a limit from sorted positions; the
//! checker asks each device's own question, [`Directive::rule_for`], and counts the answers.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_wire::directive::{Directive, Rule, matches, position};
use tidegate_wire::{ArtifactRef, DeviceId, Generation};

use crate::policy::WaveSize;
use crate::rollout::{Rollout, Status};
use crate::{ArtifactFacts, Decision, DeviceView, FleetView, Known, Plan};

/// What is wrong with a plan. It must not be carried out; the rollout should be paused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Something changed that is fixed when a rollout starts.
    #[error("the plan changes the rollout's {0}")]
    Identity(&'static str),
    /// The state does not follow from the state before, or from the decision.
    #[error("the plan takes the rollout from {from} to {to} by: {decision}")]
    Status {
        /// Before.
        from: &'static str,
        /// After.
        to: &'static str,
        /// What was decided.
        decision: String,
    },
    /// Waves open one by one, after the one before was committed, and are never rewritten.
    #[error("wave {0} does not follow the waves before it")]
    History(usize),
    /// A generation is not the one after the last.
    #[error("generation {got} follows {last}, expected {expected}")]
    Generation {
        /// The last one issued.
        last: Generation,
        /// The one that must follow.
        expected: Generation,
        /// The one that does.
        got: Generation,
    },
    /// A wave or a revert has no directive, or the directive is not the one that is journaled.
    #[error("the directive is {0}")]
    Directive(&'static str),
    /// A rule names an artifact that must not be directed.
    #[error("a rule names {artifact}, which is {known:?}")]
    Artifact {
        /// The artifact.
        artifact: ArtifactRef,
        /// Why it must not be.
        known: Known,
    },
    /// More devices than the wave allows.
    #[error("{taken} devices would get the new artifact, wave {wave} allows {size} of {of}")]
    TooMany {
        /// Counted from 0.
        wave: usize,
        /// Devices that would have it because of this rollout.
        taken: u32,
        /// What the policy says.
        size: WaveSize,
        /// Devices that the policy selects.
        of: u32,
    },
    /// A device would get the new artifact although nothing allows it now.
    #[error("{0} would get the new artifact although no wave opens for it")]
    Taken(DeviceId),
    /// A control device would get the new artifact too early.
    #[error("control device {0} would get the new artifact before the last wave")]
    Control(DeviceId),
    /// A device would be moved to something else than the new artifact without a revert.
    #[error("{0} would lose its assignment without a revert")]
    Moved(DeviceId),
    /// The last wave leaves a device out.
    #[error("the last wave leaves {0} out")]
    LeftOut(DeviceId),
    /// A revert directs a device to something else than it had before the rollout.
    #[error("the revert does not direct {0} back to what it had before")]
    NotBack(DeviceId),
}

/// Reviews what a plan makes of `previous`.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check(
    previous: &Rollout,
    plan: &Plan,
    fleet: &FleetView,
    facts: &ArtifactFacts,
) -> Result<(), Violation> {
    check_identity(previous, &plan.next)?;
    check_status(previous, plan)?;
    check_history(previous, plan)?;
    let last = previous.generation;
    let expected = if plan.directive.is_some() { last.next() } else { last };
    generation(last, expected, plan.next.generation)?;
    let Some(directive) = &plan.directive else {
        let opened = plan.next.history.len() > previous.history.len();
        let taken_back = matches!(plan.decision, Decision::Revert(_)) && previous.wave().is_some();
        return match opened || taken_back {
            true => Err(Violation::Directive("missing")),
            false => Ok(()),
        };
    };
    generation(last, expected, directive.generation)?;
    check_directive(directive, &plan.next, facts)?;
    check_artifacts(previous, directive, facts)?;
    let before = Rules(previous.rules(facts));
    let after = Rules(directive.rules.clone());
    if matches!(plan.next.status, Status::Reverted { .. }) {
        return check_back(previous, &after, fleet, facts);
    }
    check_forward(previous, plan, &before, &after, fleet)
}

/// Rules, asked as a device asks them.
struct Rules(Vec<Rule>);

impl Rules {
    fn assigned(&self, device: &DeviceView) -> Option<&ArtifactRef> {
        let rule = self.0.iter().find(|rule| rule.takes(&device.id, &device.labels));
        rule.map(|rule| &rule.artifact)
    }

    fn assigns(&self, device: &DeviceView, artifact: &ArtifactRef) -> bool {
        self.assigned(device).is_some_and(|assigned| assigned.digest == artifact.digest)
    }
}

fn check_identity(previous: &Rollout, next: &Rollout) -> Result<(), Violation> {
    let same = [
        ("number", previous.id == next.id),
        ("fleet", previous.fleet == next.fleet),
        ("model", previous.model == next.model),
        ("old artifact", previous.from == next.from),
        ("new artifact", previous.to == next.to),
        ("policy", previous.policy == next.policy),
        ("salt", previous.salt == next.salt),
        ("standing rules", previous.standing == next.standing),
        ("start", previous.started_ms == next.started_ms),
    ];
    match same.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(Violation::Identity(what)),
        None => Ok(()),
    }
}

fn check_status(previous: &Rollout, plan: &Plan) -> Result<(), Violation> {
    let (before, after) = (&previous.status, &plan.next.status);
    let reverted = matches!(after, Status::Reverted { .. });
    let allowed = match &plan.decision {
        Decision::OpenFirstWave | Decision::Advance { .. } | Decision::Promote { .. } => {
            *before == Status::Running && *after == Status::Running
        }
        Decision::Complete => {
            let all_open = previous.history.len() == previous.policy.waves.len();
            *before == Status::Running && *after == Status::Completed && all_open
        }
        Decision::Revert(_) => reverted && !matches!(before, Status::Reverted { .. }),
        Decision::Hold(_) | Decision::Renew | Decision::Withdraw | Decision::Nothing(_) => {
            before == after
        }
    };
    if allowed {
        return Ok(());
    }
    let decision = alloc::format!("{}", plan.decision);
    Err(Violation::Status { from: before.name(), to: after.name(), decision })
}

fn check_history(previous: &Rollout, plan: &Plan) -> Result<(), Violation> {
    let (before, after) = (&previous.history, &plan.next.history);
    for (wave, old) in before.iter().enumerate() {
        let new = after.get(wave).ok_or(Violation::History(wave))?;
        let kept = old.committed_ms.is_none() || old.committed_ms == new.committed_ms;
        let same = (old.size, old.limit, old.generation, old.opened_ms)
            == (new.size, new.limit, new.generation, new.opened_ms);
        if !kept || !same || old.members != new.members {
            return Err(Violation::History(wave));
        }
    }
    let wave = before.len();
    let opens = match &plan.decision {
        Decision::OpenFirstWave => Some(0),
        Decision::Advance { wave } | Decision::Promote { wave, .. } => Some(*wave),
        _ => None,
    };
    let grown = after.len() - wave;
    let follows = match opens {
        Some(opened) => opened == wave && grown == 1 && wave < previous.policy.waves.len(),
        None => grown == 0,
    };
    let promoted = matches!(plan.decision, Decision::Promote { .. });
    let ready = wave == 0 || promoted || after[wave - 1].committed_ms.is_some();
    let leaves = matches!(plan.decision, Decision::Complete) || opens.is_some();
    if follows && (ready || !leaves) { Ok(()) } else { Err(Violation::History(wave)) }
}

fn generation(last: Generation, expected: Generation, got: Generation) -> Result<(), Violation> {
    if got == expected { Ok(()) } else { Err(Violation::Generation { last, expected, got }) }
}

fn check_directive(
    directive: &Directive,
    next: &Rollout,
    facts: &ArtifactFacts,
) -> Result<(), Violation> {
    let reason = match &next.status {
        Status::Reverted { reason, .. } => Some(*reason),
        _ => None,
    };
    let right = [
        ("for another fleet", directive.fleet == next.fleet),
        ("for another model", directive.model == next.model),
        ("expired when it is issued", directive.expires > directive.issued),
        ("without the right reason", directive.reason == reason),
        ("not the one that is journaled", directive.rules == next.rules(facts)),
    ];
    match right.iter().find(|(_, right)| !right) {
        Some((what, _)) => Err(Violation::Directive(what)),
        None => Ok(()),
    }
}

/// Nothing revoked, and nothing unknown unless devices were assigned it before this rollout: the
/// publishers may have dropped an old version from their metadata, but it still lies in every
/// device's other slot.
fn check_artifacts(
    previous: &Rollout,
    directive: &Directive,
    facts: &ArtifactFacts,
) -> Result<(), Violation> {
    for rule in &directive.rules {
        let is_new = rule.artifact.digest == previous.to.digest;
        let stood = previous.standing.iter().any(|old| old.artifact == rule.artifact);
        match facts.of(&rule.artifact) {
            Known::Signed => {}
            Known::Unknown if stood && !is_new => {}
            known => return Err(Violation::Artifact { artifact: rule.artifact.clone(), known }),
        }
    }
    Ok(())
}

/// A revert: every device is directed to what it was assigned without the rollout, nobody to the
/// new artifact.
fn check_back(
    previous: &Rollout,
    after: &Rules,
    fleet: &FleetView,
    facts: &ArtifactFacts,
) -> Result<(), Violation> {
    let goes_back = |rule: &&Rule| {
        rule.artifact.digest != previous.to.digest && facts.of(&rule.artifact) != Known::Revoked
    };
    let old = Rules(previous.standing.iter().filter(goes_back).cloned().collect());
    for device in fleet.devices() {
        if after.assigns(device, &previous.to) || after.assigned(device) != old.assigned(device) {
            return Err(Violation::NotBack(device.id.clone()));
        }
    }
    Ok(())
}

/// Anything but a revert: devices only ever go from what they had to the new artifact, as many and
/// those that the opened wave allows.
fn check_forward(
    previous: &Rollout,
    plan: &Plan,
    before: &Rules,
    after: &Rules,
    fleet: &FleetView,
) -> Result<(), Violation> {
    let to = &previous.to;
    let standing = Rules(previous.standing.clone());
    let selector = &previous.policy.selector;
    let opened = plan.next.wave().filter(|wave| *wave == previous.history.len());
    let is_last = opened.is_some_and(|wave| wave + 1 == previous.policy.waves.len());
    let selected = fleet.devices().iter().filter(|device| matches(selector, &device.labels));
    let place = |device: &DeviceView| position(&previous.salt, &device.id);
    let mut positions: Vec<u64> = selected.map(place).collect();
    positions.sort_unstable();
    let of = positions.len() as u64;
    let (mut taken, mut taken_before) = (0_u64, 0_u64);
    for device in fleet.devices() {
        let (had, has) = (before.assigns(device, to), after.assigns(device, to));
        let by_standing = standing.assigns(device, to);
        taken += u64::from(has && !by_standing);
        taken_before += u64::from(had && !by_standing);
        if !has && before.assigned(device) != after.assigned(device) {
            return Err(Violation::Moved(device.id.clone()));
        }
        if has && !had {
            if opened.is_none() || !matches(selector, &device.labels) {
                return Err(Violation::Taken(device.id.clone()));
            }
            if !is_last {
                check_control(previous, device, &positions)?;
            }
        }
        if is_last && !has && matches(selector, &device.labels) {
            return Err(Violation::LeftOut(device.id.clone()));
        }
    }
    let Some(wave) = opened else { return Ok(()) };
    let size = previous.policy.waves[wave].size;
    let allowed = taken <= taken_before
        || match size {
            WaveSize::Devices(devices) => taken <= u64::from(devices),
            // Without the last device it must be less than the share: that is rounding up.
            WaveSize::Percent(share) => (taken - 1) * 100_000 < of * u64::from(share.thousandths()),
        };
    if allowed {
        return Ok(());
    }
    Err(Violation::TooMany { wave, taken: taken as u32, size, of: of as u32 })
}

/// Above a device that is taken there must be room for the control cohort; only the very first
/// device is always free.
fn check_control(
    previous: &Rollout,
    device: &DeviceView,
    positions: &[u64],
) -> Result<(), Violation> {
    let own = position(&previous.salt, &device.id);
    let above = (positions.len() - positions.partition_point(|other| *other <= own)) as u64;
    let of = positions.len() as u64;
    let control = of * u64::from(previous.policy.control.thousandths());
    if above * 100_000 >= control || above + 1 == of {
        return Ok(());
    }
    Err(Violation::Control(device.id.clone()))
}

/// The journal's own rules could be wrong too: here they are not asked.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Evidence, Policy, World, plan};

    fn opened() -> (Plan, FleetView) {
        let (rollout, fleet) = (started(Policy::default()), fleet(0..12));
        let world =
            World { fleet: &fleet, evidence: &Evidence::default(), facts: &facts(), directed: &[] };
        (plan(&rollout, &world, 0), fleet.clone())
    }

    #[test]
    fn a_revert_that_leaves_devices_without_or_with_another_assignment() {
        let (Plan { next, .. }, fleet) = opened();
        let back = |rules| check_back(&next, &Rules(rules), &fleet, &facts());
        assert_eq!(back(next.standing.clone()), Ok(()));
        assert!(matches!(back(Vec::new()), Err(Violation::NotBack(_))));
        let mut other = next.standing.clone();
        other[0].artifact = artifact("3");
        assert!(matches!(back(other), Err(Violation::NotBack(_))));
    }

    #[test]
    fn devices_that_are_taken_although_no_wave_opens() {
        let (plan, fleet) = opened();
        let (before, mut after) = (plan.next.rules(&facts()), plan.next.rules(&facts()));
        let held = Plan { decision: Decision::Hold(Vec::new()), ..plan };
        let forward = |after: &[Rule]| {
            let (before, after) = (Rules(before.clone()), Rules(after.to_vec()));
            check_forward(&held.next, &held, &before, &after, &fleet)
        };
        assert_eq!(forward(&after), Ok(()));
        after[0].limit *= 2;
        assert!(matches!(forward(&after), Err(Violation::Taken(_))));
    }
}
