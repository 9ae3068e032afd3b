//! Embeddings as numeric features: eight random directions that everybody can recompute.

/// Projections of one embedding, each watched as a numeric feature.
pub const PROJECTIONS: usize = 8;

/// Projects an embedding, shape `[dimensions]`, onto eight directions of signs ±1 that the seed
/// determines, divided by √dimensions so that the scale does not depend on the dimension.
///
/// A shift of the mean in any direction moves each projection with it, save those that happen to be
/// orthogonal, so eight of them miss few. Sums run in index order and in `f32`: the result is the
/// same on every machine. An empty embedding gives zeros; NaN and infinities carry through and are
/// counted as such by the summaries.
///
/// # Source
///
/// Achlioptas, *Database-friendly random projections* (PODS 2001); signs from SplitMix64 (Steele,
/// Lea and Flood, OOPSLA 2014).
pub fn project(seed: u64, embedding: &[f32]) -> [f32; PROJECTIONS] {
    let mut sums = [0.0_f32; PROJECTIONS];
    for (index, &x) in embedding.iter().enumerate() {
        let mut signs = split_mix(seed, index as u64);
        for sum in &mut sums {
            *sum += if signs & 1 == 0 { x } else { -x };
            signs >>= 1;
        }
    }
    let norm = libm::sqrtf(embedding.len().max(1) as f32);
    sums.map(|sum| sum / norm)
}

/// The `index`-th output of SplitMix64 from `seed`.
fn split_mix(seed: u64, index: u64) -> u64 {
    let step = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z = seed.wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_gives_the_published_sequence() {
        // First outputs for seed 1234567, as printed with the reference implementation.
        assert_eq!(split_mix(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn projections_differ_by_seed_and_keep_the_scale() {
        let ones = [1.0_f32; 1024];
        assert_ne!(project(1, &ones), project(2, &ones));
        // Sums of 1,024 signs over √1,024 are about standard normal.
        assert!(project(1, &ones).iter().all(|value| value.abs() < 5.0));
        assert!(project(1, &ones).iter().any(|value| value.abs() > 0.1));
        assert_eq!(project(1, &[]), [0.0; PROJECTIONS]);
    }
}
