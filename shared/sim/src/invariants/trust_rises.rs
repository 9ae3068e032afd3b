//! *trust-rises*

use std::collections::BTreeMap;

use super::{Finding, Invariant, Seen};
use crate::world::{TrustedVersions, World};

/// While an agent runs, the versions of the metadata that it trusts never fall, unless a new root took
/// the keys away that vouched for them; and the targets are some that the publishers signed.
#[derive(Debug, Default)]
pub struct TrustRises {
    known: BTreeMap<usize, TrustedVersions>,
}

impl Invariant for TrustRises {
    fn name(&self) -> &'static str {
        "trust-rises"
    }

    fn says(&self) -> &'static str {
        "no agent comes to trust older metadata, nor targets that no publisher signed"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Booted { node } | Seen::Restored { node } => {
                self.known.remove(&node);
                Finding::Nothing
            }
            Seen::Stepped { node } => {
                let Some(now) = world.trusted_versions(node) else { return Finding::Nothing };
                let before = self.known.insert(node, now).unwrap_or_default();
                if now == before {
                    return Finding::Nothing;
                }
                Finding::of(fell(node, before, now).or_else(|| unsigned(node, now, world)))
            }
            _ => Finding::Nothing,
        }
    }
}

fn fell(node: usize, before: TrustedVersions, now: TrustedVersions) -> Option<String> {
    let rotated = now.root > before.root;
    let older = [
        ("root", before.root, now.root),
        ("timestamp", before.timestamp, if rotated { u64::MAX } else { now.timestamp }),
        ("targets", before.targets, if rotated { u64::MAX } else { now.targets }),
    ];
    let (role, was, is) = older.into_iter().find(|(_, was, is)| is < was)?;
    Some(format!("d{node} trusted {role} {was} and now {is}"))
}

fn unsigned(node: usize, now: TrustedVersions, world: &World) -> Option<String> {
    let version = now.targets;
    let signed = version == 0 || world.truth().has_targets(version);
    (!signed).then(|| format!("d{node} trusts targets {version}, which nobody signed"))
}
