//! What expires besides the release metadata, as those who make it say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use tidegate_control::expiry::{Expiry, Nearness, Renewal, Told};

/// What expires besides the release metadata; whoever makes it says so here.
#[derive(Debug, Clone, Default)]
pub struct Expiries(Arc<Mutex<BTreeMap<String, Expiry>>>);

impl Expiries {
    /// Watches something, instead of what was watched under that name.
    pub fn watch(&self, expiry: Expiry) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(expiry.what.clone(), expiry);
    }

    /// Everything that is watched, by name.
    pub fn watched(&self) -> Vec<Expiry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
