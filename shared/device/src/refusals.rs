//! Signed bytes that were not believed: what the status says of them, until something better comes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_trust::{Role, TrustError};
use tidegate_wire::report::Refusal;
use tidegate_wire::{ModelName, Reason};

use crate::refresh::RefreshError;

/// The newest refusals: of metadata, and of each model's directives.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    metadata: Option<Refusal>,
    directives: BTreeMap<ModelName, Refusal>,
}

impl Refusals {
    /// A refresh ended early at the file of `role`. Whether that is news.
    pub(crate) fn metadata(&mut self, role: Role, error: &RefreshError) -> bool {
        let refusal = refusal(format!("{role} metadata"), error.reason(), error.to_string());
        self.metadata.replace(refusal.clone()) != Some(refusal)
    }

    /// A refresh came to its end. Whether that is news.
    pub(crate) fn metadata_is_good(&mut self) -> bool {
        self.metadata.take().is_some()
    }

    /// A directive is not followed. Whether that is news.
    pub(crate) fn directive(&mut self, model: &ModelName, error: &TrustError) -> bool {
        let known = self.directives.contains_key(model);
        if !known && self.directives.len() + 1 >= Refusal::COUNT_MAX {
            // Whoever sends so many can be seen from the first few.
            return false;
        }
        let refusal = refusal(format!("directive for {model}"), error.reason(), error.to_string());
        self.directives.insert(model.clone(), refusal.clone()) != Some(refusal)
    }

    /// A directive for this model is good. Whether that is news.
    pub(crate) fn directive_is_good(&mut self, model: &ModelName) -> bool {
        self.directives.remove(model).is_some()
    }

    /// What the status says.
    pub(crate) fn list(&self) -> Vec<Refusal> {
        self.metadata.iter().chain(self.directives.values()).cloned().collect()
    }
}

fn refusal(what: String, reason: Reason, mut detail: String) -> Refusal {
    detail.truncate(detail.floor_char_boundary(Refusal::DETAIL_MAX));
    Refusal { what, reason, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_wire::report::Status;

    fn malformed() -> TrustError {
        TrustError::Invalid { role: Role::Director, what: "it is bent" }
    }

    #[test]
    fn a_refusal_stays_until_something_better_comes() {
        let mut refusals = Refusals::default();
        let digits: ModelName = "digits".parse().unwrap();
        let missing = RefreshError::Trust(TrustError::NotFound { role: Role::Targets });
        assert!(refusals.metadata(Role::Targets, &missing));
        assert!(!refusals.metadata(Role::Targets, &missing));
        assert!(refusals.directive(&digits, &malformed()));
        assert!(!refusals.directive(&digits, &malformed()));
        let texts: Vec<String> = refusals.list().iter().map(Refusal::to_string).collect();
        assert!(texts[0].starts_with("targets metadata refused: ") && texts[0].contains("101"));
        assert!(texts[1].starts_with("directive for digits refused: "), "{}", texts[1]);
        assert!(refusals.metadata_is_good() && !refusals.metadata_is_good());
        assert!(refusals.directive_is_good(&digits) && !refusals.directive_is_good(&digits));
        assert_eq!(refusals.list(), []);
    }

    #[test]
    fn no_flood_of_bad_directives_makes_a_status_too_large() {
        use tidegate_wire::envelope::Message;
        let mut refusals = Refusals::default();
        let long = RefreshError::Trust(TrustError::Removes("ø".repeat(999)));
        refusals.metadata(Role::Timestamp, &long);
        for number in 0..1_000 {
            refusals.directive(&format!("model-{number}").parse().unwrap(), &malformed());
        }
        let list = refusals.list();
        assert_eq!(list.len(), Refusal::COUNT_MAX);
        assert!(list.iter().all(|refusal| refusal.detail.len() <= Refusal::DETAIL_MAX));
        // The largest that there can be, twice over, leave most of a status to the models.
        assert!(2 * list.len() * (Refusal::DETAIL_MAX + 120) < Status::SIZE_MAX / 2);
    }
}
