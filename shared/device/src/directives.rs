//! Directives as they arrive, and what is asked of the models then.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use tidegate_disk::Disk;
use tidegate_lifecycle::Event;
use tidegate_trust::codec::Codec;
use tidegate_trust::{VerifiedDirective, verify_directive};
use tidegate_wire::{ModelName, Reason};

use crate::device::Device;
use crate::effect::Effect;
use crate::model::{Model, wants_metadata};
use crate::spool::SpoolStore;
use crate::store;

/// Models on one device. Their states fit a status message, and no device serves more.
const MODELS_MAX: usize = 32;

/// Wait before a model that the disk did not take, or did not give back, is placed again,
/// milliseconds.
const PLACE_AGAIN_MS: u64 = 5_000;

/// Directives that cannot be looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Whose signatures the present root does not explain.
    unverified: BTreeMap<ModelName, Vec<u8>>,
    /// For models that the disk has no room for.
    unplaced: BTreeMap<ModelName, Vec<u8>>,
    /// Models that lie on the disk, which could not be read. They may have answered for years.
    unread: BTreeSet<ModelName>,
    /// When to try those again.
    place_at: u64,
}

impl Waiting {
    /// When models that the disk did not take or give back are tried again, milliseconds.
    pub(crate) fn place_at(&self) -> Option<u64> {
        let none = self.unplaced.is_empty() && self.unread.is_empty();
        (!none).then_some(self.place_at)
    }
}

impl<D: Disk, S: SpoolStore, C: Codec> Device<D, S, C> {
    /// A directive came, or came again.
    pub(crate) fn directive_arrived(&mut self, name: ModelName, payload: Vec<u8>) {
        if payload.is_empty() {
            // A retained message was cleared. What was directed stays directed.
            return;
        }
        match verify_directive(&self.ctx.trusted, &payload, &name) {
            Ok(verified) => {
                self.waiting.unverified.remove(&name);
                self.ctx.status_due |= self.refusals.directive_is_good(&name);
                self.directive_verified(name, verified, &payload);
            }
            Err(error) => {
                let code = error.reason().code();
                tracing::warn!("a directive for {name} is not followed: {error} (reason {code})");
                self.ctx.status_due |= self.refusals.directive(&name, &error);
                let signature = [Reason::SignatureInvalid, Reason::ThresholdNotMet];
                let unverified = &mut self.waiting.unverified;
                let room = unverified.len() < MODELS_MAX;
                let news = room && unverified.get(&name) != Some(&payload);
                if signature.contains(&error.reason()) && news {
                    // The director's key may have been rotated: newer metadata would tell.
                    unverified.insert(name, payload);
                    self.request_refresh();
                }
            }
        }
    }

    fn directive_verified(&mut self, name: ModelName, verified: VerifiedDirective, payload: &[u8]) {
        let directive = verified.directive();
        let settings = &self.ctx.settings;
        let takes_us = directive.rule_for(&settings.device, &settings.facts.labels).is_some();
        if takes_us && !self.models.contains_key(&name) && !self.add_model(&name) {
            // Perhaps the disk is full. The broker does not say it again while the link lasts.
            self.wait_for_room(name, payload);
            return;
        }
        self.waiting.unplaced.remove(&name);
        // Models of other devices are none of ours.
        let Some(model) = self.models.get_mut(&name) else { return };
        let known = model.directive.as_ref().map(|known| known.directive().generation);
        if known.is_some_and(|known| directive.generation < known) {
            // The machine says so, unless it has not seen the newer one either.
            let event = Event::Directed { generation: directive.generation, to: None };
            if directive.generation < model.machine.record().generation {
                model.take(&mut self.ctx, event);
            }
            return;
        }
        // The same words too: the director's key may be a new one, and the old one's signature counts
        // no more after a restart.
        if let Err(error) = store::persist_directive(&self.ctx.disk, &name, payload) {
            // The broker keeps it too; it comes again after a restart.
            tracing::error!("{error}; the directive for {name} is followed all the same");
        }
        if model.directive.as_ref() != Some(&verified) {
            tracing::info!("{name}: directive {} arrived", directive.generation);
            model.directive = Some(verified);
            // What it names may have been released a moment ago.
            if model.directed(&self.ctx).as_ref().and_then(wants_metadata).is_some() {
                self.request_refresh();
            }
        }
        self.direct(&name);
    }

    /// Lets a model's machine look at its directive, if it may.
    fn direct(&mut self, name: &ModelName) {
        let Some(model) = self.models.get_mut(name) else { return };
        if let Some(event) = model.look(&mut self.ctx) {
            model.take(&mut self.ctx, event);
        }
    }

    /// Every model looks at its directive again: what may be installed can have changed.
    pub(crate) fn direct_all(&mut self) {
        // Those that stay unverified stay known: asking for metadata once more would not help.
        for (name, payload) in self.waiting.unverified.clone() {
            self.directive_arrived(name, payload);
        }
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            self.direct(&name);
        }
    }

    /// Begins with a model that this device has not had. Whether there was room.
    fn add_model(&mut self, name: &ModelName) -> bool {
        if self.models.len() >= MODELS_MAX {
            tracing::error!("{name} is left out: this device has {MODELS_MAX} models already");
            return true;
        }
        self.recover_model(name)
    }

    fn wait_for_room(&mut self, name: ModelName, payload: &[u8]) {
        self.wait_for_disk();
        self.waiting.unplaced.insert(name, payload.to_vec());
    }

    fn wait_for_disk(&mut self) {
        if self.waiting.place_at().is_none() {
            self.waiting.place_at = self.ctx.now.ms.saturating_add(PLACE_AGAIN_MS);
        }
    }

    /// Looks again at what the disk did not take or give back.
    pub(crate) fn place(&mut self) {
        if self.waiting.place_at().is_none_or(|at| self.ctx.now.ms < at) {
            return;
        }
        self.waiting.place_at = self.ctx.now.ms.saturating_add(PLACE_AGAIN_MS);
        let unread = mem::take(&mut self.waiting.unread);
        if !unread.is_empty() {
            self.recover_models(unread);
            self.recover_directives();
        }
        for (name, payload) in mem::take(&mut self.waiting.unplaced) {
            self.directive_arrived(name, payload);
        }
    }

    /// Brings models back from disk. One that cannot be read is tried again: until its directive
    /// comes, nobody else would.
    pub(crate) fn recover_models(&mut self, names: impl IntoIterator<Item = ModelName>) {
        for name in names {
            if !self.models.contains_key(&name) && !self.recover_model(&name) {
                self.wait_for_disk();
                self.waiting.unread.insert(name);
            }
        }
    }

    /// Brings a model back from disk and does what its machine asks for first. Whether that could
    /// be done.
    fn recover_model(&mut self, name: &ModelName) -> bool {
        let recovered = match Model::recover(&self.ctx, name.clone()) {
            Ok(recovered) => recovered,
            Err(error) => {
                tracing::error!("{name} is left out: {error}");
                return false;
            }
        };
        self.ctx.order(Effect::Follow { model: name.clone() });
        let mut model = recovered.model;
        model.begin_with(&mut self.ctx, recovered.effects);
        self.models.insert(name.clone(), model);
        true
    }

    /// Reads the stored directives again after a restart. Their signatures are checked anew.
    pub(crate) fn recover_directives(&mut self) {
        let stored = store::directives(&self.ctx.disk).unwrap_or_else(|error| {
            tracing::error!("{error}; directives will come from the broker");
            Vec::new()
        });
        for (name, payload) in stored {
            let Some(model) = self.models.get_mut(&name) else { continue };
            if model.directive.is_some() {
                continue;
            }
            match verify_directive(&self.ctx.trusted, &payload, &name) {
                Ok(verified) => {
                    model.directive = Some(verified);
                    self.direct(&name);
                }
                Err(error) => {
                    tracing::warn!("the stored directive for {name} counts no more: {error}");
                }
            }
        }
    }
}
