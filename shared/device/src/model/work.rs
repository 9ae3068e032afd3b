//! Work that takes long and is done beside the device: what is ordered, and what is let go.

use tidegate_disk::Disk;
use tidegate_lifecycle::SlotId;
use tidegate_trust::codec::Codec;
use tidegate_wire::Digest;

use super::Model;
use crate::context::Context;
use crate::effect::{Effect, Epoch, Order};
use crate::spool::SpoolStore;

impl Model {
    /// Begins something whose answer will bear the new epoch, or lets go of what was begun.
    pub(super) fn begin(&mut self) -> Epoch {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.epoch
    }

    /// Orders the download of an artifact.
    pub(super) fn fetch(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        slot: SlotId,
        artifact: Digest,
    ) {
        self.stop_fetch(ctx);
        let epoch = self.begin();
        let manifest_length = self.artifact(ctx, artifact).and_then(|artifact| {
            let entry = ctx.trusted.targets()?.entry(&self.name, &artifact)?;
            Some(entry.length)
        });
        // Only the first byte of an artifact waits: a retry is random enough.
        let first = self.jittered.replace(artifact) != Some(artifact);
        let jitter_ms = if first { ctx.settings.jitter_ms_max } else { 0 };
        let delay_ms = ctx.dice.below(jitter_ms);
        let order = Order { artifact, manifest_length, slot, delay_ms };
        self.downloading = true;
        ctx.order(Effect::Fetch { model: self.name.clone(), epoch, order });
    }

    /// Ends the download, if there is one.
    pub(super) fn stop_fetch(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        if core::mem::take(&mut self.downloading) {
            ctx.order(Effect::StopFetch { model: self.name.clone() });
        }
    }
}
