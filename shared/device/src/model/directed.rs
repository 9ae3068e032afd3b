//! What the newest directive means for this device now.

use tidegate_disk::Disk;
use tidegate_lifecycle::{Assignment, Event, Slot};
use tidegate_trust::codec::Codec;
use tidegate_wire::Reason;

use super::Model;
use crate::context::Context;
use crate::spool::SpoolStore;

impl Model {
    /// The newest directive for the machine to look at, unless that would turn something down on old
    /// knowledge: then it waits for newer metadata, and the status says so.
    pub(crate) fn look(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
    ) -> Option<Event> {
        let event = self.directed(ctx)?;
        let newest = ctx.metadata_is_newest && !ctx.refreshing;
        let held = wants_metadata(&event).filter(|_| !newest);
        ctx.status_due |= self.held != held;
        self.held = held;
        held.is_none().then_some(event)
    }

    /// What the newest directive means for this device now.
    pub(crate) fn directed(
        &mut self,
        ctx: &Context<impl Disk, impl SpoolStore, impl Codec>,
    ) -> Option<Event> {
        let verified = self.directive.as_ref()?;
        let directive = verified.directive();
        let generation = directive.generation;
        let facts = &ctx.settings.facts;
        let Some(rule) = directive.rule_for(&ctx.settings.device, &facts.labels) else {
            return Some(Event::Directed { generation, to: None });
        };
        let (artifact, since) = (rule.artifact.clone(), rule.since);
        let unix = ctx.now.unix;
        let authorised = ctx.trusted.authorise(&self.name, &artifact, facts);
        let authorised = authorised.map(|entry| entry.release).map_err(|refusal| refusal.reason());
        // Time stops new installs, never going back to what was committed here.
        let committed = self.machine.record().slots.contains(&Slot::Committed(artifact.digest));
        let remembered = self.machine.record().limits.is_revoked(&artifact.digest);
        let installable = match committed {
            // Known for good, also when the metadata that said so is lost.
            _ if remembered => Err(Reason::Revoked),
            true => authorised,
            false => authorised.and_then(|release| {
                ctx.trusted.fresh(unix).map_err(|error| error.reason())?;
                verified.may_install(ctx.trusted.now(unix)).map(|()| release)
            }),
        };
        self.learn(&artifact);
        let to = Assignment { artifact: artifact.digest, since, installable };
        Some(Event::Directed { generation, to: Some(to) })
    }
}

/// Why a directive cannot be followed for want of newer metadata, if that is so.
pub(crate) fn wants_metadata(event: &Event) -> Option<Reason> {
    let Event::Directed { to: Some(to), .. } = event else { return None };
    to.installable.err().filter(|r| [Reason::UnknownArtifact, Reason::MetadataExpired].contains(r))
}
