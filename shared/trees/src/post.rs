//! The last step: from sums to scores.

use crate::attributes::PostTransform;

/// Changes the scores of one row in place.
pub(crate) fn apply(post: PostTransform, scores: &mut [f32]) {
    match post {
        PostTransform::None => {}
        PostTransform::Logistic => each(scores, logistic),
        PostTransform::Probit => each(scores, probit),
        PostTransform::Softmax => softmax(scores),
        PostTransform::SoftmaxZero => softmax_zero(scores),
    }
}

fn each(scores: &mut [f32], of: fn(f32) -> f32) {
    scores.iter_mut().for_each(|score| *score = of(*score));
}

/// 1 / (1 + e⁻ˣ), without overflow.
pub(crate) fn logistic(x: f32) -> f32 {
    let of_magnitude = 1.0 / (1.0 + libm::expf(-x.abs()));
    if x < 0.0 { 1.0 - of_magnitude } else { of_magnitude }
}

/// The normal distribution's quantile, by the approximation that ONNX Runtime uses: answers of
/// the framework and of the device are to agree.
///
/// # Source
/// S. Winitzki, "A handy approximation for the error function and its inverse", 2008.
pub(crate) fn probit(share: f32) -> f32 {
    const A: f32 = 0.147;
    #[expect(clippy::approx_constant, reason = "rounded as ONNX Runtime has it")]
    const PI: f32 = 3.14159;
    let x = 2.0 * share - 1.0;
    let log = libm::logf((1.0 - x) * (1.0 + x));
    let half = 2.0 / (PI * A) + 0.5 * log;
    let magnitude = libm::sqrtf(-half + libm::sqrtf(half * half - 1.0 / A * log));
    core::f32::consts::SQRT_2 * if x < 0.0 { -magnitude } else { magnitude }
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().fold(f32::MIN, |largest, score| if *score > largest { *score } else { largest })
}

fn softmax(scores: &mut [f32]) {
    let largest = largest(scores);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::expf(*score - largest);
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Scores nearer to zero than this stay what they are.
const ZERO: f32 = 1e-7;

fn softmax_zero(scores: &mut [f32]) {
    let largest = largest(scores);
    let of_zero = libm::expf(-largest);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > ZERO {
            *score = libm::expf(*score - largest);
            sum += *score;
        } else {
            *score *= of_zero;
        }
    }
    // Nothing but zeros: there is nothing to share.
    if sum != 0.0 {
        scores.iter_mut().for_each(|score| *score /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_are_what_their_names_say() {
        let mut scores = [1.0, 2.0, 0.0];
        apply(PostTransform::Softmax, &mut scores);
        assert!((scores[0] - 0.244_728).abs() < 1e-5 && (scores.iter().sum::<f32>() - 1.0) < 1e-6);
        let mut scores = [1.0, 2.0, 0.0];
        apply(PostTransform::SoftmaxZero, &mut scores);
        assert!((scores[0] - 0.268_941).abs() < 1e-5 && scores[2] == 0.0);
        let mut scores = [0.975, 0.5, 0.025];
        apply(PostTransform::Probit, &mut scores);
        assert!((scores[0] - 1.96).abs() < 5e-3 && scores[1].abs() < 1e-3);
        assert!((scores[0] + scores[2]).abs() < 1e-4);
        assert_eq!(logistic(-1000.0), 0.0);
        assert_eq!(logistic(0.0), 0.5);
    }
}
