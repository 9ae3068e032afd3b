//! From what the trees say of a row to its class and scores.
//!
//! ONNX-ML leaves open what several combinations of attributes mean; here they mean what ONNX
//! Runtime makes of them (1.31, tried in `controller/tests/sklearn`), with two exceptions: where it
//! answers a label that the model does not have, the answer is the label of that class, and where
//! it leaves a score undefined, the score is 0.

use alloc::vec::Vec;

use crate::attributes::{Aggregate, PostTransform};
use crate::forest::Sums;
use crate::number::Number;
use crate::post::{self, logistic};

/// What is the same for all rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish<'a, T> {
    pub aggregate: Aggregate,
    pub post: PostTransform,
    pub trees: usize,
    pub base: &'a [T],
    /// All weights are for one of two classes.
    pub binary: bool,
    /// No weight is negative.
    pub positive: bool,
}

/// Adds the scores of a regressor's row to `scores`.
pub(crate) fn regression<T: Number>(of: &Finish<T>, sums: &Sums<T>, scores: &mut Vec<f32>) {
    let first = scores.len();
    let single = sums.values.len() == 1;
    for (target, (sum, any)) in sums.values.iter().zip(&sums.any).enumerate() {
        let mut score = if *any { *sum } else { T::default() };
        if of.aggregate == Aggregate::Average {
            score = score.divide(of.trees);
        }
        if let Some(base) = of.base.get(target) {
            score = score.add(*base);
        }
        scores.push(score.to_f32());
    }
    // Of one target, nothing else is transformed.
    if !single || of.post == PostTransform::Probit {
        post::apply(of.post, &mut scores[first..]);
    }
}

/// Adds the scores of a classifier's row to `scores`, one per class, and returns its class.
pub(crate) fn classification<T: Number>(
    of: &Finish<T>,
    sums: &mut Sums<T>,
    scores: &mut Vec<f32>,
) -> u32 {
    if sums.values.len() == 2 {
        return two_classes(of, sums, scores);
    }
    let first = scores.len();
    for (target, base) in of.base.iter().enumerate() {
        sums.values[target] = sums.values[target].add(*base);
        sums.any[target] = true;
    }
    let mut class: Option<(usize, T)> = None;
    for (target, (score, any)) in sums.values.iter().zip(&sums.any).enumerate() {
        if *any && class.is_none_or(|(_, largest)| *score > largest) {
            class = Some((target, *score));
        }
        scores.push(score.to_f32());
    }
    if sums.values.len() > 1 || of.post == PostTransform::Probit {
        post::apply(of.post, &mut scores[first..]);
    }
    class.map_or(0, |(class, _)| class as u32)
}

/// How the second of two scores comes about if only one was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    /// It is a share of one.
    Complement,
    /// It is a margin.
    Opposite,
    /// It stays 0.
    Nothing,
}

fn two_classes<T: Number>(of: &Finish<T>, sums: &mut Sums<T>, scores: &mut Vec<f32>) -> u32 {
    let [mut zero, mut one] = [sums.values[0], sums.values[1]];
    let both = sums.any[1];
    let mut pair = both;
    let mut second = Second::Nothing;
    match of.base {
        [_, base] if both => {
            one = base.add(zero);
            zero = one.negative();
        }
        [first, base] => {
            (zero, one) = (zero.add(*first), one.add(*base));
            pair = true;
        }
        [base] => zero = zero.add(*base),
        _ => second = Second::Opposite,
    }
    let decisive = if both { one } else { zero };
    let threshold = if of.binary && of.positive { T::from_f64(0.5) } else { T::default() };
    let class = u32::from(decisive > threshold);
    if of.binary {
        second = if of.positive { Second::Complement } else { Second::Opposite };
    }
    let (first, post) = (scores.len(), of.post);
    if pair {
        // What no leaf had a weight for is 0, whatever was added to it.
        let of = |score: T, any: bool| if any { score.to_f32() } else { 0.0 };
        scores.extend([of(zero, sums.any[0]), of(one, sums.any[1])]);
        post::apply(post, &mut scores[first..]);
        return class;
    }
    let score = zero.to_f32();
    scores.extend(match (post, second) {
        (PostTransform::Probit, _) => [post::probit(score), 0.0],
        (_, Second::Nothing) => [score, 0.0],
        (PostTransform::Logistic, _) => [logistic(-score), logistic(score)],
        (_, Second::Complement) => [1.0 - score, score],
        (_, Second::Opposite) => [-score, score],
    });
    class
}
