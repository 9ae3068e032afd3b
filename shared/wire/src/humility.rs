//! Humility: when a model should doubt its own answer, and what then. The publisher signs these
//! rules with the manifest; a device evaluates them for every row that it answers.

use serde::{Deserialize, Serialize};

/// Rules of one model. Each costs a few nanoseconds a row, and a name in every report.
pub const RULES_MAX: usize = 16;

/// Bytes of a rule's name.
pub const NAME_BYTES_MAX: usize = 32;

/// When a rule applies to a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Condition {
    /// The prediction is uncertain: the largest class probability, of probabilities that are made
    /// to sum to 1, is below this, 0 to 1. An answer that is no probabilities is uncertain.
    Uncertain {
        /// The least confidence.
        confidence_min: f64,
    },
    /// The prediction is not plausible: a number of the first output lies outside, or is NaN.
    ImplausibleOutput {
        /// Smallest and largest plausible number.
        range: [f64; 2],
    },
    /// The input is an outlier: a value lies outside its range, or is NaN.
    OutlyingInput {
        /// Place in a row of the first input; every place without it.
        feature: Option<u32>,
        /// Smallest and largest ordinary value; without it the drift reference's range.
        range: Option<[f64; 2]>,
    },
    /// The input is where there was little to learn from: a value falls into a bin of the drift
    /// reference that few training rows had.
    FewObservations {
        /// Place in a row of the first input; every place without it.
        feature: Option<u32>,
        /// Training rows that its bin should have had. Bins are cut at quantiles, the outer ones
        /// at 1 %, so what says something is a number below a hundredth of the sample.
        rows_min: u32,
    },
}

impl Condition {
    /// Whether it can only be judged with a drift reference.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Uncertain { .. } | Self::ImplausibleOutput { .. } => false,
            Self::OutlyingInput { range, .. } => range.is_none(),
            Self::FewObservations { .. } => true,
        }
    }
}

#[cfg(feature = "alloc")]
pub use named::{Action, HumilityRule, problem};

#[cfg(feature = "alloc")]
mod named {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use serde::{Deserialize, Serialize};

    use super::{Condition, NAME_BYTES_MAX, RULES_MAX};
    use crate::manifest::Task;
    use crate::tensor::{Datatype, TensorSpec};

    /// One rule of a model.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct HumilityRule {
        /// What it is called in answers, reports and metrics: letters, digits, `-` and `_`, at most
        /// [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX), once in a manifest.
        pub name: String,
        /// When it applies.
        pub when: Condition,
        /// What happens then, besides counting.
        #[serde(default, skip_serializing_if = "Action::is_none")]
        pub action: Action,
    }

    /// What happens to a row that a rule applies to.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Action {
        /// It is counted, and nothing else: a new rule shows first how often it applies.
        #[default]
        None,
        /// The answer says so.
        Flag,
        /// This row of the first output is answered instead; the answer says so.
        Override(Vec<f64>),
        /// The request is refused, and the refusal names the rule.
        Error,
    }

    impl Action {
        /// Whether it only counts.
        pub fn is_none(&self) -> bool {
            *self == Self::None
        }
    }
    /// Why no device could follow `rules`, in a sentence that names the rule; none if all can. The
    /// tensors are the model's first input and output.
    pub fn problem(
        rules: &[HumilityRule],
        (task, input, output): (Task, &TensorSpec, &TensorSpec),
        has_reference: bool,
    ) -> Option<String> {
        if rules.len() > RULES_MAX {
            return Some(format!("{} humility rules; at most {RULES_MAX} fit", rules.len()));
        }
        let is_name = |name: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(letter)
        };
        for (index, rule) in rules.iter().enumerate() {
            let name = &rule.name;
            let what = if !is_name(name) {
                Some(format!("a name is 1 to {NAME_BYTES_MAX} letters, digits, - and _"))
            } else if rules[..index].iter().any(|earlier| earlier.name == *name) {
                Some("the name is there twice".to_string())
            } else if rule.when.needs_reference() && !has_reference {
                Some("its condition needs the drift reference, and there is none".to_string())
            } else {
                condition_problem(&rule.when, task, input, output)
                    .or_else(|| action_problem(&rule.action, output))
            };
            if let Some(what) = what {
                return Some(format!("humility rule {name:?}: {what}"));
            }
        }
        None
    }

    fn condition_problem(
        condition: &Condition,
        task: Task,
        input: &TensorSpec,
        output: &TensorSpec,
    ) -> Option<String> {
        let numbers = |spec: &TensorSpec| {
            let text = spec.datatype == Datatype::Bytes;
            text.then(|| format!("{:?} is {}, not numbers", spec.name, spec.datatype))
        };
        let rises = |[low, high]: [f64; 2]| {
            let rises = low.is_finite() && high.is_finite() && low <= high;
            (!rises).then(|| format!("range [{low}, {high}] must rise"))
        };
        match condition {
            Condition::Uncertain { .. } if task != Task::Classification => {
                Some("only a classifier's answer has a confidence".to_string())
            }
            Condition::Uncertain { confidence_min } => (!(0.0..=1.0).contains(confidence_min))
                .then(|| format!("confidence_min = {confidence_min}: 0 to 1")),
            Condition::ImplausibleOutput { range } => numbers(output).or_else(|| rises(*range)),
            Condition::OutlyingInput { feature, range } => numbers(input)
                .or_else(|| range.and_then(rises))
                .or_else(|| feature_problem(*feature, input)),
            Condition::FewObservations { feature, .. } => {
                numbers(input).or_else(|| feature_problem(*feature, input))
            }
        }
    }

    fn feature_problem(feature: Option<u32>, input: &TensorSpec) -> Option<String> {
        let (feature, len) = (feature?, input.row_len());
        let outside = u64::from(feature) >= len as u64;
        let name = &input.name;
        outside.then(|| format!("feature = {feature}: a row of {name:?} has {len}, from 0 on"))
    }

    fn action_problem(action: &Action, output: &TensorSpec) -> Option<String> {
        let Action::Override(values) = action else { return None };
        let (name, len) = (&output.name, output.row_len());
        if output.datatype == Datatype::Bytes {
            return Some(format!("{name:?} is {}: it cannot be overridden", output.datatype));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Some("what answers instead must be finite numbers".to_string());
        }
        let differs = values.len() != len;
        differs.then(|| {
            format!("{} numbers instead of a row of {name:?}, which has {len}", values.len())
        })
    }

    #[cfg(test)]
    mod tests {
        use alloc::vec;

        use super::*;
        use crate::codec;

        fn spec(datatype: Datatype, width: i64) -> TensorSpec {
            TensorSpec {
                name: "x".into(),
                datatype,
                shape: vec![-1, width],
                labels: vec![],
                limits: None,
            }
        }

        fn rule(when: Condition, action: Action) -> HumilityRule {
            HumilityRule { name: "r".into(), when, action }
        }

        fn check(rule: HumilityRule) -> Option<String> {
            let (input, output) = (spec(Datatype::Fp32, 3), spec(Datatype::Fp32, 2));
            problem(&[rule], (Task::Classification, &input, &output), false)
        }

        #[test]
        fn a_rule_comes_back_from_its_bytes() {
            let when = Condition::OutlyingInput { feature: Some(2), range: None };
            let rule = rule(when, Action::Override(vec![0.5, 0.5]));
            assert_eq!(codec::decode::<HumilityRule>(&codec::encode(&rule), 999), Ok(rule));
        }

        #[test]
        fn what_no_device_can_follow_is_named() {
            let unsure = Condition::Uncertain { confidence_min: 0.5 };
            assert_eq!(check(rule(unsure, Action::Flag)), None);
            let any = Condition::OutlyingInput { feature: None, range: Some([0.0, 1.0]) };
            assert_eq!(check(rule(any, Action::Error)), None);
            let third = |feature| Condition::OutlyingInput { feature, range: Some([1.0, 0.0]) };
            let few = Condition::FewObservations { feature: None, rows_min: 3 };
            let cases = [
                (rule(Condition::Uncertain { confidence_min: 60.0 }, Action::Flag), "0 to 1"),
                (rule(unsure, Action::Override(vec![1.0])), "1 numbers instead of a row"),
                (rule(unsure, Action::Override(vec![1.0, f64::NAN])), "finite"),
                (rule(third(Some(3)), Action::Flag), "range [1, 0] must rise"),
                (rule(few, Action::Flag), "needs the drift reference"),
                (HumilityRule { name: "a b".into(), ..rule(unsure, Action::Flag) }, "a name is"),
            ];
            for (rule, expected) in cases {
                let text = check(rule).unwrap();
                assert!(text.contains(expected), "{text}");
            }
            let beyond = Condition::OutlyingInput { feature: Some(3), range: Some([0.0, 1.0]) };
            let text = check(rule(beyond, Action::Flag)).unwrap();
            assert_eq!(text, "humility rule \"r\": feature = 3: a row of \"x\" has 3, from 0 on");
        }
    }
}
