//! Directives and metadata as they arrive, and what is asked of the models then.

use std::time::Duration;

use tidegate_device::store;
use tidegate_lifecycle::Event;
use tidegate_trust::{VerifiedDirective, verify_directive};
use tidegate_wire::{Digest, ModelName, Reason};

use super::Driver;
use super::effects::wants_metadata;
use super::model::Model;
use super::refresh::{self, Refreshed};

/// Models on one device. Their states fit a status message, and no device serves more.
const MODELS_MAX: usize = 32;

/// Wait before a model that found no room on the disk is placed again, milliseconds.
const PLACE_AGAIN_MS: u64 = 5_000;

/// First and longest wait after a refresh that failed.
pub(super) const REFRESH_RETRY: (Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(300));

impl Driver {
    /// A directive came, or came again.
    pub(super) async fn directive_arrived(&mut self, name: ModelName, payload: Vec<u8>) {
        if payload.is_empty() {
            // A retained message was cleared. What was directed stays directed.
            return;
        }
        match verify_directive(&self.ctx.trusted, &payload, &name) {
            Ok(verified) => {
                self.unverified.remove(&name);
                self.ctx.status_due |= self.refusals.directive_is_good(&name);
                self.directive_verified(name, verified, &payload).await;
            }
            Err(error) => {
                let code = error.reason().code();
                tracing::warn!("a directive for {name} is not followed: {error} (reason {code})");
                self.ctx.status_due |= self.refusals.directive(&name, &error);
                let signature = [Reason::SignatureInvalid, Reason::ThresholdNotMet];
                let room = self.unverified.len() < MODELS_MAX;
                let news = room && self.unverified.get(&name) != Some(&payload);
                if signature.contains(&error.reason()) && news {
                    // The director's key may have been rotated: newer metadata would tell.
                    self.unverified.insert(name, payload);
                    self.request_refresh();
                }
            }
        }
    }

    async fn directive_verified(
        &mut self,
        name: ModelName,
        verified: VerifiedDirective,
        payload: &[u8],
    ) {
        let directive = verified.directive();
        let facts = &self.ctx.facts;
        let takes_us = directive.rule_for(&self.ctx.device, &facts.labels).is_some();
        if takes_us && !self.models.contains_key(&name) && !self.add_model(&name).await {
            // Perhaps the disk is full. The broker does not say it again while the link lasts.
            self.unplaced.insert(name, payload.to_vec());
            return;
        }
        self.unplaced.remove(&name);
        // Models of other devices are none of ours.
        let Some(model) = self.models.get_mut(&name) else { return };
        let known = model.directive.as_ref().map(|known| known.directive().generation);
        if known.is_some_and(|known| directive.generation < known) {
            // The machine says so, unless it has not seen the newer one either.
            let event = Event::Directed { generation: directive.generation, to: None };
            if directive.generation < model.machine.record().generation {
                model.take(&mut self.ctx, event).await;
            }
            return;
        }
        // The same words too: the director's key may be a new one, and the old one's signature counts
        // no more after a restart.
        if let Err(error) = store::persist_directive(self.ctx.store.disk(), &name, payload) {
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
        self.direct(&name).await;
    }

    /// Lets a model's machine look at its directive, unless that would turn something down on old
    /// knowledge: then it waits for newer metadata, and the status says so.
    async fn direct(&mut self, name: &ModelName) {
        let newest = self.metadata_is_newest && self.refreshing.is_none();
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(event) = model.directed(&self.ctx) else { return };
        let held = wants_metadata(&event).filter(|_| !newest);
        self.ctx.status_due |= model.held != held;
        model.held = held;
        if held.is_none() {
            model.take(&mut self.ctx, event).await;
        }
    }

    /// Every model looks at its directive again: what may be installed can have changed.
    async fn direct_all(&mut self) {
        for (name, payload) in std::mem::take(&mut self.unverified) {
            self.directive_arrived(name, payload).await;
        }
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            self.direct(&name).await;
        }
    }

    /// Begins with a model that this device has not had. Whether there was room.
    async fn add_model(&mut self, name: &ModelName) -> bool {
        if self.models.len() >= MODELS_MAX {
            tracing::error!("{name} is left out: this device has {MODELS_MAX} models already");
            return true;
        }
        self.recover_model(name).await;
        self.models.contains_key(name)
    }

    /// Looks again at directives whose models could not be placed.
    pub(super) async fn place(&mut self) {
        let now = self.ctx.clock.ms();
        if self.unplaced.is_empty() {
            self.place_at = now + PLACE_AGAIN_MS;
        } else if now >= self.place_at {
            self.place_at = now + PLACE_AGAIN_MS;
            for (name, payload) in std::mem::take(&mut self.unplaced) {
                self.directive_arrived(name, payload).await;
            }
        }
    }

    /// Brings a model back from disk and does what its machine asks for first.
    pub(super) async fn recover_model(&mut self, name: &ModelName) {
        let recovered = match Model::recover(&self.ctx.store, &self.ctx.trusted, name.clone()) {
            Ok(recovered) => recovered,
            Err(error) => return tracing::error!("{name} is left out: {error}"),
        };
        self.ctx.serving.announce(name);
        let mut model = recovered.model;
        model.begin_with(&mut self.ctx, recovered.effects).await;
        self.models.insert(name.clone(), model);
    }

    /// Reads the stored directives again after a restart. Their signatures are checked anew.
    pub(super) async fn recover_directives(&mut self) {
        let stored = store::directives(self.ctx.store.disk()).unwrap_or_else(|error| {
            tracing::error!("{error}; directives will come from the broker");
            Vec::new()
        });
        for (name, payload) in stored {
            match verify_directive(&self.ctx.trusted, &payload, &name) {
                Ok(verified) => {
                    if let Some(model) = self.models.get_mut(&name) {
                        model.directive = Some(verified);
                    }
                    self.direct(&name).await;
                }
                Err(error) => {
                    tracing::warn!("the stored directive for {name} counts no more: {error}");
                }
            }
        }
    }

    /// The broker's newest timestamp came: if it is another one, so is the rest.
    pub(super) fn timestamp_arrived(&mut self, payload: &[u8]) {
        let digest = Digest::of(payload);
        if self.timestamp_seen != Some(digest) {
            self.timestamp_seen = Some(digest);
            self.request_refresh();
        }
    }

    /// Asks for newer metadata now, or once more if that is being done already.
    pub(super) fn request_refresh(&mut self) {
        self.metadata_is_newest = false;
        self.refresh_at = Some(self.ctx.clock.ms());
    }

    /// Starts a refresh that is due.
    pub(super) fn start_refresh(&mut self) {
        let due = self.refresh_at.is_some_and(|at| self.ctx.clock.ms() >= at);
        if !due || self.refreshing.is_some() {
            return;
        }
        self.refresh_at = None;
        self.metadata_is_newest = true;
        let (unix, trusted) = (self.ctx.clock.unix(), self.ctx.trusted.clone());
        let (upstream, store) = (self.ctx.upstream.clone(), self.ctx.store.trust());
        self.refreshing = Some(tokio::spawn(refresh::refresh(unix, trusted, upstream, store)));
    }

    /// A refresh ended.
    pub(super) async fn refreshed(&mut self, refreshed: Option<Refreshed>) {
        self.refreshing = None;
        let Some(Refreshed { trusted, asked, result }) = refreshed else {
            tracing::error!("a refresh of the metadata broke off");
            self.retry_refresh();
            return;
        };
        self.ctx.floor.raise(trusted.time_floor());
        self.ctx.trusted = trusted;
        match result {
            Ok(summary) => {
                self.refresh_backoff.reset();
                self.ctx.status_due |= self.refusals.metadata_is_good();
                if summary.changed {
                    tracing::info!(
                        "trusting root {}, targets {}, timestamp {}",
                        summary.root,
                        summary.targets,
                        summary.timestamp
                    );
                }
            }
            Err(error) => {
                tracing::warn!("no newer metadata: {error} (reason {})", error.reason().code());
                self.ctx.status_due |= self.refusals.metadata(asked, &error);
                // An answer that is bad is an answer.
                self.metadata_is_newest &= !error.leaves_things_open();
                self.retry_refresh();
            }
        }
        // First what must not run, then what should: whatever the directives say, and also if the
        // refresh failed after it had learnt something.
        for model in self.models.values_mut() {
            model.limit(&mut self.ctx).await;
        }
        self.direct_all().await;
    }

    fn retry_refresh(&mut self) {
        let wait = self.refresh_backoff.next_wait();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let at = self.ctx.clock.ms().saturating_add(wait_ms);
        self.refresh_at = Some(self.refresh_at.map_or(at, |asked| asked.min(at)));
    }
}
