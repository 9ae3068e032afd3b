//! Tests of the whole: gates, plans, commands, the checker, and any fleet at all.

mod checker;
mod commands;
mod gates;
mod plans;
mod property;

use alloc::vec::Vec;

use crate::testing::*;
use crate::*;
use tidegate_wire::directive::Directive;
use tidegate_wire::{DeviceId, State};

/// A fleet, a rollout, and a clock: plans are checked before they are carried out.
struct Plant {
    rollout: Rollout,
    devices: Vec<DeviceView>,
    directive: Option<Directive>,
    evidence: Evidence,
    facts: ArtifactFacts,
    heard_since_ms: u64,
    now_ms: u64,
}

impl Plant {
    fn new(devices: u32, policy: Policy) -> Self {
        Self {
            rollout: started(policy),
            devices: fleet(0..devices).devices().to_vec(),
            directive: None,
            evidence: Evidence::default(),
            facts: facts(),
            heard_since_ms: 0,
            now_ms: 0,
        }
    }

    fn fleet(&self) -> FleetView {
        FleetView::new(self.devices.clone()).heard_since(self.heard_since_ms)
    }

    fn plan(&self) -> Plan {
        let fleet = self.fleet();
        let directed = self.directive.as_ref().map_or(&[][..], |directive| &directive.rules);
        let (evidence, facts) = (&self.evidence, &self.facts);
        let world = World { fleet: &fleet, evidence, facts, directed };
        let plan = plan(&self.rollout, &world, self.now_ms);
        check(&self.rollout, &plan, &fleet, &self.facts).expect("plans pass the checker");
        plan
    }

    fn execute(&mut self, plan: Plan) -> Decision {
        self.rollout = plan.next;
        self.directive = plan.directive.or(self.directive.take());
        plan.decision
    }

    fn tick(&mut self, ms: u64) -> Decision {
        self.now_ms += ms;
        let plan = self.plan();
        self.execute(plan)
    }

    /// Indices of the devices that the directive assigns `version`.
    fn assigned(&self, version: &str) -> Vec<usize> {
        let Some(directive) = &self.directive else { return Vec::new() };
        let is = |device: &DeviceView| {
            let rule = directive.rule_for(&device.id, &device.labels);
            rule.is_some_and(|rule| rule.artifact == artifact(version))
        };
        (0..self.devices.len()).filter(|index| is(&self.devices[*index])).collect()
    }

    fn set(&mut self, indices: &[usize], progress: Progress) {
        for index in indices {
            self.devices[*index].progress = progress;
        }
    }

    /// Everybody who has been directed to the new artifact commits it.
    fn commit_all(&mut self) {
        self.set(&self.assigned("2"), Progress::Committed);
    }

    fn ids(&self, indices: &[usize]) -> Vec<DeviceId> {
        indices.iter().map(|index| self.devices[*index].id.clone()).collect()
    }
}

/// Three waves without comparisons, soaked for ten seconds.
fn plain() -> Policy {
    policy(
        "[defaults]\nsoak_seconds = 10\n[[waves]]\ndevices = 2\n[[waves]]\npercent = 50\n\
         [[waves]]\npercent = 100\n[gate]\ndevice_timeout_seconds = 100\n\
         prediction_drift = 'off'\nerror_rate = 'off'\ninput_drift = 'off'",
    )
}

/// Many rows of a healthy classifier.
fn healthy(errors: u64) -> Group {
    Group { rows: 1000, errors, classes: [500, 500].to_vec(), top: [100, 900].to_vec() }
}

const WORKING: Progress = Progress::Working(State::Trial);
