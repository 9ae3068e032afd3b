//! What a model's humility rules say of its answers, and what then becomes of them.

use std::borrow::Cow;

use tidegate_lifecycle::humility::{Row, applies};
use tidegate_wire::humility::{Action, HumilityRule, RULES_MAX};

use super::loaded::LoadedModel;
use crate::engine::{Tensor, Values};

/// What the rules say of one request.
pub(super) struct Judged {
    hits: [u64; RULES_MAX],
    humble: u32,
    /// Rows that are answered otherwise, and the rule that says how.
    overrides: Vec<(usize, usize)>,
}

/// Asks every rule about every row; none if the model has no rules.
pub(super) fn judge(
    loaded: &LoadedModel,
    inputs: &[Tensor],
    outputs: &[Tensor],
    rows: usize,
) -> Option<Judged> {
    let rules = &loaded.manifest.humility;
    if rules.is_empty() {
        return None;
    }
    let (input, output) = (numbers(inputs.first()), numbers(outputs.first()));
    let reference = loaded.reference().map_or(&[][..], |it| it.drift.features.as_slice());
    let mut judged = Judged { hits: [0; RULES_MAX], humble: 0, overrides: Vec::new() };
    for row in 0..rows {
        let input = part(&input, row, rows);
        let seen = Row { input, output: part(&output, row, rows), reference };
        judged.judge_row(rules, row, &seen);
    }
    Some(judged)
}

/// A tensor's numbers; none of a text.
fn numbers(tensor: Option<&Tensor>) -> Cow<'_, [f32]> {
    tensor.map_or(Cow::default(), |tensor| tensor.values.as_f32())
}

fn part(values: &[f32], row: usize, rows: usize) -> &[f32] {
    let len = values.len() / rows.max(1);
    &values[row * len..(row + 1) * len]
}

impl Judged {
    fn judge_row(&mut self, rules: &[HumilityRule], row: usize, seen: &Row<'_>) {
        let (mut is_humble, mut is_overridden) = (false, false);
        for (index, rule) in rules.iter().take(RULES_MAX).enumerate() {
            if !applies(&rule.when, seen) {
                continue;
            }
            self.hits[index] += 1;
            is_humble |= !rule.action.is_none();
            // The first one wins: the publisher put it first.
            if matches!(rule.action, Action::Override(_)) && !is_overridden {
                is_overridden = true;
                self.overrides.push((row, index));
            }
        }
        self.humble += u32::from(is_humble);
    }

    /// Rows that a rule with an action applied to.
    pub(super) fn humble(&self) -> u32 {
        self.humble
    }

    /// Rows that each rule applied to, in the manifest's order.
    pub(super) fn hits(&self) -> &[u64] {
        &self.hits
    }

    /// Puts other answers in place where the rules say so. Returns the names of the rules that the
    /// caller is told of.
    ///
    /// # Errors
    /// The name of the rule by which the request is refused.
    pub(super) fn act(
        &self,
        rules: &[HumilityRule],
        outputs: &mut [Tensor],
        rows: usize,
    ) -> Result<Vec<String>, String> {
        let hit = || rules.iter().zip(&self.hits).filter(|(_, hits)| **hits > 0).map(|(it, _)| it);
        if let Some(rule) = hit().find(|rule| rule.action == Action::Error) {
            return Err(rule.name.clone());
        }
        if let Some(output) = outputs.first_mut() {
            for (row, index) in &self.overrides {
                if let Action::Override(values) = &rules[*index].action {
                    put_row(&mut output.values, values, *row, rows);
                }
            }
        }
        Ok(hit().filter(|rule| !rule.action.is_none()).map(|rule| rule.name.clone()).collect())
    }
}

fn put_row(into: &mut Values, row: &[f64], index: usize, rows: usize) {
    let len = into.len() / rows.max(1);
    let range = index * len..(index + 1) * len;
    macro_rules! put {
        ($values:expr, $number:ty) => {
            $values[range].iter_mut().zip(row).for_each(|(into, value)| *into = *value as $number)
        };
    }
    match into {
        Values::Bool(values) => {
            values[range].iter_mut().zip(row).for_each(|(into, value)| *into = *value != 0.0);
        }
        Values::U8(values) => put!(values, u8),
        Values::U16(values) => put!(values, u16),
        Values::U32(values) => put!(values, u32),
        Values::U64(values) => put!(values, u64),
        Values::I8(values) => put!(values, i8),
        Values::I16(values) => put!(values, i16),
        Values::I32(values) => put!(values, i32),
        Values::I64(values) => put!(values, i64),
        Values::F16(values) => {
            let of = half::f16::from_f64;
            values[range].iter_mut().zip(row).for_each(|(into, value)| *into = of(*value));
        }
        Values::F32(values) => put!(values, f32),
        Values::F64(values) => put!(values, f64),
        // Refused when the model was loaded.
        Values::Bytes(_) => {}
    }
}
