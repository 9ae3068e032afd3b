//! Whether two models say the same of one input.

/// Whether two answers name the same class: the place of the largest value. NaN names none.
pub fn same_class(one: &[f32], two: &[f32]) -> bool {
    one.len() == two.len() && class_of(one).is_some() && class_of(one) == class_of(two)
}

/// The class that an answer names: the place of its largest value, the first of several. None if it
/// is empty or holds a NaN.
pub fn class_of(row: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (index, value) in row.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, largest)| *value > largest) {
            best = Some((index, *value));
        }
    }
    best.map(|(index, _)| index)
}

/// Whether every number of `two` is within `atol + rtol·|one|` of that of `one`. NaN is within
/// nothing.
pub fn same_numbers(one: &[f32], two: &[f32], atol: f64, rtol: f64) -> bool {
    let near = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        // Two equal infinities are the same number, and their difference is NaN.
        a == b || libm::fabs(a - b) <= atol + rtol * libm::fabs(a)
    };
    one.len() == two.len() && one.iter().zip(two).all(near)
}

/// Whether the cosine of two vectors is at least `cosine_min`. A vector without a direction, all
/// zeros or with a NaN, agrees with nothing.
pub fn same_direction(one: &[f32], two: &[f32], cosine_min: f64) -> bool {
    let (mut dot, mut one2, mut two2) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (a, b) in one.iter().zip(two) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        dot += a * b;
        one2 += a * a;
        two2 += b * b;
    }
    let cosine = dot / (libm::sqrt(one2) * libm::sqrt(two2));
    // Rounding takes a vector's cosine with itself below 1 by less than this.
    one.len() == two.len() && cosine >= cosine_min - 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_agrees_with_nothing() {
        assert!(!same_class(&[f32::NAN, 1.0], &[f32::NAN, 1.0]));
        assert!(!same_numbers(&[f32::NAN], &[f32::NAN], 1e9, 1.0));
        assert!(!same_direction(&[f32::NAN, 1.0], &[f32::NAN, 1.0], -1.0));
        assert!(!same_direction(&[0.0, 0.0], &[0.0, 0.0], 0.5));
    }

    #[test]
    fn classes_numbers_and_directions() {
        assert!(same_class(&[0.1, 0.9], &[0.4, 0.6]));
        assert!(!same_class(&[0.1, 0.9], &[0.6, 0.4]));
        assert!(same_numbers(&[100.0, 0.0], &[104.0, 0.0005], 1e-3, 0.05));
        assert!(!same_numbers(&[100.0], &[106.0], 1e-3, 0.05));
        assert!(same_numbers(&[f32::INFINITY], &[f32::INFINITY], 0.0, 0.0));
        assert!(same_direction(&[1.0, 2.0], &[2.0, 4.0], 1.0));
        assert!(!same_direction(&[1.0, 0.0], &[0.0, 1.0], 0.1));
        assert!(!same_direction(&[1.0], &[1.0, 1.0], 0.1));
    }
}
