//! The device: all its models, and what they share.

use core::marker::PhantomData;

use tidegate_disk::Disk;
use tidegate_lifecycle::Machine;
use tidegate_trust::codec::Codec;
use tidegate_trust::{CoseCbor, Trusted};
use tidegate_wire::ModelName;
use tidegate_wire::report::Status;

use crate::effect::Effects;
use crate::input::Input;
use crate::settings::{Moment, Settings};

/// All that a device decides. See the [crate](crate).
#[derive(Debug)]
pub struct Device<D: Disk, S, C: Codec = CoseCbor> {
    settings: Settings,
    trusted: Trusted<C>,
    disk: D,
    spool: PhantomData<S>,
}

impl<D: Disk, S, C: Codec> Device<D, S, C> {
    /// Brings all models back from disk, and says what to do first.
    pub fn recover(
        settings: Settings,
        disk: D,
        _spool: S,
        trusted: Trusted<C>,
        _now: Moment,
    ) -> (Self, Effects) {
        (Self { settings, trusted, disk, spool: PhantomData }, Effects::new())
    }

    /// Takes in what happened, and says what to do.
    pub fn step(&mut self, _now: Moment, _input: Input) -> Effects {
        Effects::new()
    }

    /// When to send [`Input::Tick`] if nothing else happens, milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        None
    }

    /// Whether closed windows should be handed over, rather than left open to grow.
    pub fn takes_windows(&self) -> bool {
        true
    }

    /// What the retained status says.
    pub fn status(&mut self) -> Status {
        Status { online: true, ..self.settings.offline() }
    }

    /// Every model that the device has or had, with its machine.
    pub fn models(&self) -> impl Iterator<Item = (&ModelName, &Machine)> {
        core::iter::empty()
    }

    /// What is trusted.
    pub fn trusted(&self) -> &Trusted<C> {
        &self.trusted
    }

    /// Where everything lies that must not be lost.
    pub fn disk(&self) -> &D {
        &self.disk
    }
}
