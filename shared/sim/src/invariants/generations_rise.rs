//! *generations-rise*

use std::collections::BTreeMap;

use tidegate_control::state::{Record, SignedDirective};
use tidegate_wire::directive::Directive;

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// The generation that a device follows never falls, a restart included; and the controller issues
/// one directive only for each generation.
#[derive(Debug, Default)]
pub struct GenerationsRise {
    /// The highest that each device told anybody of.
    told: BTreeMap<usize, u64>,
    /// The highest in each device's memory since it started.
    followed: BTreeMap<usize, u64>,
    issued: BTreeMap<u64, Directive>,
}

impl Invariant for GenerationsRise {
    fn name(&self) -> &'static str {
        "generations-rise"
    }

    fn says(&self) -> &'static str {
        "no device follows an older directive, and no generation has two directives"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Stepped { node } => {
                let Some(record) = world.record(node) else { return Finding::Nothing };
                let now = record.generation.0;
                let before = self.followed.insert(node, now).unwrap_or(0);
                if now == before {
                    return Finding::Nothing;
                }
                Finding::of(fell(node, before, now))
            }
            Seen::Told { node } => {
                if let Some(record) = world.record(node).filter(|_| world.is_certain(node)) {
                    self.told.insert(node, record.generation.0);
                }
                Finding::Nothing
            }
            Seen::Booted { node } => {
                self.followed.remove(&node);
                let Some(record) = world.record(node) else { return Finding::Nothing };
                let (told, now) = (self.told.get(&node).copied(), record.generation.0);
                let excused = world.excused(node) > 0;
                Finding::of(told.filter(|_| !excused).and_then(|told| fell(node, told, now)))
            }
            Seen::Restored { node } => {
                self.told.remove(&node);
                self.followed.remove(&node);
                Finding::Nothing
            }
            // What power cut short may have been decided all the same.
            Seen::ControllerBooted { entries } => {
                for entry in entries {
                    if let Record::RolloutChanged { directive: Some(signed), .. } = &entry.what {
                        let directive = signed.directive.clone();
                        self.issued.entry(directive.generation.0).or_insert(directive);
                    }
                }
                Finding::Nothing
            }
            Seen::Decided { entry } => match &entry.what {
                Record::RolloutChanged {
                    directive: Some(SignedDirective { directive, .. }),
                    ..
                } => self.issue(directive),
                Record::DirectivesSigned { directives } => {
                    let mut findings = directives.iter().map(|it| self.issue_again(&it.directive));
                    findings.find(|it| *it != Finding::Held).unwrap_or(Finding::Held)
                }
                _ => Finding::Nothing,
            },
            _ => Finding::Nothing,
        }
    }
}

fn fell(node: usize, before: u64, now: u64) -> Option<String> {
    (now < before).then(|| format!("d{node} followed generation {before} and now {now}"))
}

impl GenerationsRise {
    fn issue(&mut self, directive: &Directive) -> Finding {
        let generation = directive.generation.0;
        let highest = self.issued.keys().next_back().copied().unwrap_or(0);
        if generation <= highest {
            let detail = format!("generation {generation} was issued after {highest}");
            return Finding::Broken(detail);
        }
        self.issued.insert(generation, directive.clone());
        Finding::Held
    }

    fn issue_again(&mut self, directive: &Directive) -> Finding {
        let generation = directive.generation.0;
        match self.issued.get(&generation) {
            Some(known) if known == directive => Finding::Held,
            _ => Finding::Broken(format!("generation {generation} was signed with other words")),
        }
    }
}
