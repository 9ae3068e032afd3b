//! What all models of a device share.

use tidegate_disk::Disk;
use tidegate_trust::Trusted;
use tidegate_trust::codec::Codec;

use crate::effect::{Effect, Effects};
use crate::reports::Reports;
use crate::settings::{Moment, Settings};
use crate::spool::SpoolStore;
use crate::waits::Dice;

/// What all models of a device share.
pub(crate) struct Context<D: Disk, S: SpoolStore, C: Codec> {
    pub(crate) settings: Settings,
    pub(crate) disk: D,
    pub(crate) trusted: Trusted<C>,
    pub(crate) reports: Reports<S>,
    pub(crate) dice: Dice,
    /// The time of the present step.
    pub(crate) now: Moment,
    /// What the present step leads to, so far.
    pub(crate) effects: Effects,
    /// The retained status at the broker is out of date.
    pub(crate) status_due: bool,
    /// Since the last request for a refresh, one has begun and not failed for want of an answer.
    pub(crate) metadata_is_newest: bool,
    /// A refresh is under way.
    pub(crate) refreshing: bool,
}

impl<D: Disk, S: SpoolStore, C: Codec> Context<D, S, C> {
    /// To be done by the shell, behind all that it was told before.
    pub(crate) fn order(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
