//! What the publishers forbid, from the signed metadata to a model's machine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_disk::Disk;
use tidegate_lifecycle::{Event, Limits, Record, SlotId};
use tidegate_trust::Trusted;
use tidegate_trust::codec::Codec;
use tidegate_trust::metadata::Revocation;
use tidegate_wire::{ArtifactRef, Digest, ModelName, Reason};

use super::Model;
use crate::context::Context;
use crate::effect::Effect;
use crate::spool::SpoolStore;

/// What the signed targets forbid of a model, as much of it as a record holds: the newest releases
/// first, behind what lies in the device's slots.
pub(super) fn limits<C: Codec>(
    trusted: &Trusted<C>,
    model: &ModelName,
    record: Option<&Record>,
) -> Limits {
    let Some(targets) = trusted.targets() else { return Limits::NONE };
    let mine = targets.revoked.iter().filter(|(_, revocation)| revocation.model == *model);
    let release = |(digest, revocation): (&Digest, &Revocation)| {
        let artifact = ArtifactRef { digest: *digest, version: revocation.version.clone() };
        (targets.entry(model, &artifact).map_or(0, |entry| entry.release), *digest)
    };
    let mut revoked: Vec<(u64, Digest)> = mine.map(release).collect();
    revoked.sort_unstable_by(|a, b| b.cmp(a));
    Limits::around(record, targets.floor(model), revoked.into_iter().map(|(_, digest)| digest))
}

impl Model {
    /// Tells the machine what the metadata forbids now. A disk that does not take the record keeps
    /// the machine waiting, but a revoked model must not go on answering meanwhile.
    pub(crate) fn limit(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        let limits = limits(&ctx.trusted, &self.name, Some(self.machine.record()));
        if limits == Limits::NONE {
            return;
        }
        self.take(ctx, Event::Limited(limits));
        if self.stall.is_some() && self.answering.is_some_and(|it| limits.is_revoked(&it)) {
            self.deactivate(ctx);
            self.say_absence(ctx, Some(Reason::Revoked));
        }
    }

    /// What people should know about an event that the machine is about to take: reason codes do
    /// not say which requirement, or what the publishers said.
    pub(super) fn explain(
        &mut self,
        ctx: &Context<impl Disk, impl SpoolStore, impl Codec>,
        event: &Event,
    ) {
        match event {
            Event::Limited(_) => self.detail = revocations(&ctx.trusted, self.machine.record()),
            Event::Directed { to: Some(to), .. } if to.installable.is_err() => {
                let Some(artifact) = self.artifact(ctx, to.artifact) else { return };
                let facts = &ctx.settings.facts;
                let verdict = ctx.trusted.authorise(&self.name, &artifact, facts);
                self.detail = verdict.err().map(|refusal| refusal.to_string()).unwrap_or_default();
            }
            _ => {}
        }
    }

    /// Why nothing answers, for those who ask.
    pub(super) fn tell_absence(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
    ) {
        if self.machine.active().is_none() {
            let outcome = self.machine.record().outcome;
            self.say_absence(ctx, outcome.and_then(|outcome| outcome.reason));
        }
    }

    fn say_absence(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        reason: Option<Reason>,
    ) {
        if self.absence.replace(reason) != Some(reason) {
            ctx.order(Effect::TellAbsence { model: self.name.clone(), reason });
        }
    }
}

/// What the publishers say of the revoked artifacts that lie on this device.
pub(super) fn revocations<C: Codec>(trusted: &Trusted<C>, record: &Record) -> String {
    let Some(targets) = trusted.targets() else { return String::new() };
    let here = [SlotId::A, SlotId::B].into_iter().filter_map(|slot| record.slot(slot).artifact());
    let said = here.filter_map(|artifact| targets.revocation(&artifact).cloned());
    let said: Vec<String> =
        said.map(|it| format!("{}@{}: {}", it.model, it.version, it.reason)).collect();
    said.join("; ")
}
