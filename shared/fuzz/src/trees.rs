//! Files of tree ensembles: what is read can be asked, and comes out the same.

use tidegate_trees::{Aggregate, Attributes, Ensemble, Labels, Mode, PostTransform, Scores};

/// A hostile file may name a column far away; rows as wide are not made here.
const COLUMNS_MAX: usize = 1 << 16;

/// Bytes are refused with words, or are an ensemble that answers, whatever it is asked.
pub fn trees(bytes: &[u8]) {
    let ensemble = match Ensemble::decode(bytes) {
        Ok(ensemble) => ensemble,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let encoded = ensemble.encode();
    // Not compared as they are: a value may be NaN.
    let again = Ensemble::decode(&encoded).expect("what was read can be read again");
    assert_eq!(again.encode(), encoded);
    let columns = ensemble.columns().max(1);
    if columns > COLUMNS_MAX {
        return;
    }
    let mut scores = Scores::default();
    for value in [0.0, f32::NAN, f32::INFINITY, -1e9] {
        ensemble.run_f32(&vec![value; 2 * columns], 2, &mut scores);
        assert_eq!(scores.values.len(), 2 * ensemble.targets());
        let classes = ensemble.labels().map_or(0, Labels::len);
        assert_eq!(scores.classes.len(), if classes > 0 { 2 } else { 0 });
        assert!(scores.classes.iter().all(|class| (*class as usize) < classes.max(2)));
    }
}

/// Two trees of three leaves.
fn attributes(labels: Option<Labels>, spread: bool) -> Attributes {
    let kind = match labels {
        Some(labels) => Attributes::classifier(labels),
        None => Attributes::regressor(3),
    };
    let targets = kind.kind.targets() as i64;
    let leaves = [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)];
    let each = if spread { targets } else { 1 };
    let weights = || leaves.iter().flat_map(|leaf| (0..each).map(move |target| (leaf, target)));
    Attributes {
        tree_ids: vec![0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        node_ids: vec![0, 1, 2, 3, 4, 0, 1, 2, 3, 4],
        feature_ids: vec![0, 1, 0, 0, 0, 2, 1, 0, 0, 0],
        modes: [Mode::Leq, Mode::Eq, Mode::Leaf, Mode::Leaf, Mode::Leaf].repeat(2),
        values: vec![0.5, 2.0, 0.0, 0.0, 0.0, -1.0, 1e9, 0.0, 0.0, 0.0],
        yes_ids: vec![1, 2, 0, 0, 0, 1, 2, 0, 0, 0],
        no_ids: vec![4, 3, 0, 0, 0, 4, 3, 0, 0, 0],
        missing_goes_yes: [true, false, false, false, false].repeat(2),
        weight_tree_ids: weights().map(|((tree, _), _)| *tree).collect(),
        weight_node_ids: weights().map(|((_, node), _)| *node).collect(),
        weight_targets: weights().map(|(_, target)| target).collect(),
        weights: weights().enumerate().map(|(i, _)| i as f64 / 8.0).collect(),
        ..kind
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let words = Labels::Strings(vec!["no".into(), "yes".into()]);
    let softmax = Attributes {
        post: PostTransform::Softmax,
        base_values: vec![0.5, 0.25, 0.0],
        ..attributes(Some(Labels::Ints(vec![3, 5, 8])), true)
    };
    let double = Attributes {
        double: true,
        aggregate: Aggregate::Min,
        base_values: vec![1.0, 2.0, 3.0],
        ..attributes(None, true)
    };
    let sparse = {
        let mut sparse = attributes(None, false);
        sparse.weight_targets = vec![0, 1, 2, 2, 1, 0];
        sparse
    };
    let all = [attributes(Some(words), false), softmax, double, sparse];
    all.iter().map(|one| Ensemble::build(one).expect("it is one").encode()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_ensembles() {
        seeds().iter().for_each(|seed| drop(Ensemble::decode(seed).unwrap()));
    }
}
