//! Whether a wave is good, bad, or neither yet.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use tidegate_drift::wilson;
use tidegate_wire::{ArtifactRef, Reason, State};

use crate::compare::{Comparison, Evidence, Outcome, Skip, comparisons, samples};
use crate::policy::OnRegression;
use crate::rollout::Act;
use crate::tally::{Tally, soak_left_ms};
use crate::text::{Count, Devices, Span};
use crate::{Percent, Rollout, Status};

/// What a gate says of the present wave.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Enough devices committed, the soak is over, no comparison is open.
    Advance,
    /// Neither good nor bad yet; for all of this it waits. Never empty.
    Hold(Vec<HoldReason>),
    /// It is bad.
    Revert(Cause),
}

/// What a wave waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum HoldReason {
    /// An operator paused it.
    Paused(Act),
    /// No device has the labels that the policy asks for.
    NoDevices,
    /// No signed release names the new artifact any more, or the metadata is not here yet.
    NotSigned(ArtifactRef),
    /// Every device of the wave has left the fleet or was set aside, so nobody can show that it is
    /// good. It does not go on by itself.
    Deserted,
    /// Too few devices have committed.
    Uncommitted {
        /// Those that have.
        committed: u32,
        /// Those that must.
        need: u32,
        /// All that count.
        of: u32,
    },
    /// These are on their way.
    Working(State, Devices),
    /// These are online and have not begun.
    NotStarted(Devices),
    /// These are offline.
    Offline(Devices),
    /// These failed or timed out, fewer than the policy allows. They will not commit by themselves.
    Failed(Devices),
    /// There are failures, but too few devices have reported to judge their share.
    Unreported {
        /// Those that have.
        reported: u32,
        /// Those that must.
        need: u32,
    },
    /// The wave must stay healthy for this many more milliseconds.
    Soaking(u64),
    /// A comparison lacks rows, or found something for an operator to look at.
    Compared(Comparison),
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(act) => write!(f, "paused by {}: {}", act.by, act.why),
            Self::NoDevices => f.write_str("no device has the policy's labels"),
            Self::NotSigned(artifact) => write!(f, "no signed release names {artifact}"),
            Self::Deserted => f.write_str(
                "no device of this wave is left: cancel it and start anew, which draws others",
            ),
            Self::Uncommitted { committed, need, of } => {
                write!(f, "{committed} of {} committed, {need} needed", Count(u64::from(*of)))
            }
            Self::Working(state, devices) => write!(f, "{state}: {devices}"),
            Self::NotStarted(devices) => write!(f, "not started: {devices}"),
            Self::Offline(devices) => write!(f, "offline: {devices}"),
            Self::Failed(devices) => {
                write!(f, "failed: {devices} (promote, revert or cancel, or let them retry)")
            }
            Self::Unreported { reported, need } => {
                write!(f, "{reported} devices reported, {need} needed to judge the failures' share")
            }
            Self::Soaking(left_ms) => write!(f, "soaking for another {}", Span(*left_ms)),
            Self::Compared(comparison) => match comparison.outcome {
                Outcome::Inconclusive { .. } => write!(f, "too few samples: {comparison}"),
                _ => write!(f, "an operator must look: {comparison}"),
            },
        }
    }
}

/// Why a rollout is taken back.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Too many devices failed or timed out.
    Failures {
        /// Those that turned the artifact down.
        failed: Devices,
        /// Why, and how many each.
        reasons: BTreeMap<Reason, u32>,
        /// Those that took too long.
        timed_out: Devices,
    },
    /// The share of failures is too high with 95 % confidence.
    FailureShare {
        /// Failed and timed out.
        failures: u32,
        /// Of so many that reported.
        reported: u32,
        /// The share is at least this.
        at_least: Percent,
        /// The policy allows this.
        max: Percent,
    },
    /// Devices with the new artifact are worse than the control devices.
    Regressed(Comparison),
    /// The publishers revoked the new artifact.
    Revoked,
    /// An operator asked for it.
    Operator(Act),
}

impl Cause {
    /// The code that travels with the directive.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Failures { failed, .. } if failed.is_empty() => Reason::TimedOut,
            Self::Failures { .. } => Reason::MaxFailures,
            Self::FailureShare { .. } => Reason::FailureShare,
            Self::Regressed(comparison) => comparison.metric.reason(),
            Self::Revoked => Reason::Revoked,
            Self::Operator(_) => Reason::Operator,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { failed, reasons, timed_out } => {
                if !failed.is_empty() {
                    let mut texts = String::new();
                    for (reason, count) in reasons {
                        let comma = if texts.is_empty() { "" } else { "; " };
                        fmt::write(&mut texts, format_args!("{comma}{count}× {reason}"))?;
                    }
                    write!(f, "{failed} failed ({texts})")?;
                }
                if !timed_out.is_empty() {
                    let comma = if failed.is_empty() { "" } else { ", " };
                    write!(f, "{comma}{timed_out} took too long")?;
                }
                Ok(())
            }
            Self::FailureShare { failures, reported, at_least, max } => write!(
                f,
                "{failures} of {} failed: at least {at_least}, allowed are {max}",
                Count(u64::from(*reported))
            ),
            Self::Regressed(comparison) => comparison.fmt(f),
            Self::Revoked => f.write_str("no device may run it any more"),
            Self::Operator(act) => write!(f, "{}: {}", act.by, act.why),
        }
    }
}

/// A verdict and the comparisons that it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What the gate says.
    pub verdict: Verdict,
    /// One per metric.
    pub comparisons: Vec<Comparison>,
}

/// How many of `tally`'s devices must have committed: at least one, so that a wave in which
/// everybody was set aside is not good.
pub fn committed_needed(rollout: &Rollout, tally: &Tally) -> u32 {
    rollout.policy.gate.min_committed.of(tally.counted()).max(1)
}

/// Judges the present wave from the tally of its devices.
///
/// Failures are looked at first and also while paused; metrics are compared once everything else
/// is ready, since each comparison spends some of the false alarms that were promised.
pub fn judge(rollout: &Rollout, tally: &Tally, evidence: &Evidence, now_ms: u64) -> Judgement {
    let gate = &rollout.policy.gate;
    let skip = skip(rollout, tally);
    let comparisons_so_far = samples(gate, evidence, skip);
    let judgement = |verdict, comparisons| Judgement { verdict, comparisons };
    if let Some(cause) = failures(rollout, tally) {
        return judgement(Verdict::Revert(cause), comparisons_so_far);
    }
    let mut holds = waiting(rollout, tally, now_ms);
    let missing = |result: &&Comparison| matches!(result.outcome, Outcome::Inconclusive { .. });
    holds.extend(comparisons_so_far.iter().filter(missing).cloned().map(HoldReason::Compared));
    if !holds.is_empty() {
        return judgement(Verdict::Hold(holds), comparisons_so_far);
    }
    let results = comparisons(gate, evidence, skip);
    let verdict = match regression(&results) {
        Some(cause) => Verdict::Revert(cause),
        None => {
            let holds: Vec<_> = bad(&results).cloned().map(HoldReason::Compared).collect();
            if holds.is_empty() { Verdict::Advance } else { Verdict::Hold(holds) }
        }
    };
    judgement(verdict, results)
}

/// Whether a metric takes the rollout back, with rows as they are now. For an operator who does
/// not want to wait for more.
pub(crate) fn regression_now(
    rollout: &Rollout,
    tally: &Tally,
    evidence: &Evidence,
) -> Option<Cause> {
    regression(&comparisons(&rollout.policy.gate, evidence, skip(rollout, tally)))
}

fn bad(results: &[Comparison]) -> impl Iterator<Item = &Comparison> {
    let is_bad = |result: &&Comparison| {
        matches!(result.outcome, Outcome::Regressed(_) | Outcome::Drifted(_))
    };
    results.iter().filter(is_bad)
}

fn regression(results: &[Comparison]) -> Option<Cause> {
    let result = bad(results).find(|result| result.action == OnRegression::Revert)?;
    Some(Cause::Regressed(result.clone()))
}

/// Why the present wave has nothing to be compared with, if so.
fn skip(rollout: &Rollout, tally: &Tally) -> Option<Skip> {
    if rollout.from.is_none() {
        return Some(Skip::FirstInstall);
    }
    if rollout.wave().is_some_and(|wave| rollout.policy.is_last(wave)) {
        return Some(Skip::LastWave);
    }
    (tally.others == 0).then_some(Skip::NoControl)
}

fn failures(rollout: &Rollout, tally: &Tally) -> Option<Cause> {
    let gate = &rollout.policy.gate;
    let (failures, reported) = (tally.failures(), tally.reported());
    if failures >= gate.max_failures {
        return Some(Cause::Failures {
            failed: tally.failed.clone(),
            reasons: tally.reasons.clone(),
            timed_out: tally.timed_out.clone(),
        });
    }
    let (at_least, _) = wilson(u64::from(failures), u64::from(reported));
    if reported >= gate.min_reported && at_least > gate.max_failed.fraction() {
        let at_least = Percent::share((at_least * 1e6) as u64, 1_000_000);
        return Some(Cause::FailureShare { failures, reported, at_least, max: gate.max_failed });
    }
    None
}

/// What the wave waits for, comparisons aside.
fn waiting(rollout: &Rollout, tally: &Tally, now_ms: u64) -> Vec<HoldReason> {
    let mut holds = Vec::new();
    if let Status::Paused(act) = &rollout.status {
        holds.push(HoldReason::Paused(act.clone()));
    }
    let need = committed_needed(rollout, tally);
    if tally.committed >= need {
        match soak_left_ms(rollout, tally.heard_since_ms, now_ms) {
            Some(0) => {}
            left_ms => {
                let whole = rollout.wave().map_or(0, |wave| rollout.policy.waves[wave].soak_ms);
                holds.push(HoldReason::Soaking(left_ms.unwrap_or(whole)));
            }
        }
        return holds;
    }
    let (committed, of) = (tally.committed, tally.counted());
    holds.push(match of {
        0 => HoldReason::Deserted,
        of => HoldReason::Uncommitted { committed, need, of },
    });
    let some = |devices: &Devices| (!devices.is_empty()).then(|| devices.clone());
    holds.extend(
        tally.working.iter().map(|(state, devices)| HoldReason::Working(*state, devices.clone())),
    );
    holds.extend(some(&tally.not_started).map(HoldReason::NotStarted));
    holds.extend(some(&tally.offline).map(HoldReason::Offline));
    holds.extend(some(&tally.set_aside).map(HoldReason::Offline));
    holds.extend(some(&tally.failed).map(HoldReason::Failed));
    holds.extend(some(&tally.timed_out).map(HoldReason::Failed));
    let (reported, need) = (tally.reported(), rollout.policy.gate.min_reported);
    if tally.failures() > 0 && reported < need {
        holds.push(HoldReason::Unreported { reported, need });
    }
    holds
}
