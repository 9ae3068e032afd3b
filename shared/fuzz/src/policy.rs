//! Policies as operators write them.

use tidegate_rollout::Policy;

/// A text is refused with words, or is a policy that holds.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(policy) => {
            assert_eq!(policy.validate(), Ok(()), "it was validated");
            assert!(policy.is_last(policy.waves.len() - 1));
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "control_percent = 5\n[[waves]]\ndevices = 2\nsoak_seconds = 60\n[[waves]]\npercent = 100\n",
        "[[waves]]\npercent = 100\n[[waves]]\npercent = 10\n",
        "directive_ttl_seconds = 3600\n[selector]\nsite = \"oslo\"\n[defaults]\nsoak_seconds = 1.5\n",
        "[gate]\nmin_committed_percent = 90\nmax_failures = 1\nmax_failed_percent = 10\n\
         min_reported = 5\ndevice_timeout_seconds = 20\nunreached = \"wait\"\n\
         prediction_drift = \"revert\"\ninput_drift = \"hold\"\nmin_rows = 100\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
