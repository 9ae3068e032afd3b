//! Ensembles against the plainest reading of their attributes, with trees and rows at random.

use proptest::prelude::*;
use tidegate_trees::{
    Aggregate, Attributes, BuildError, Ensemble, FileError, Labels, Mode, Scores,
};

const BRANCHES: [Mode; 6] = [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq];
/// Few, so that rows hit thresholds exactly; the last is missing.
const VALUES: [f64; 9] =
    [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 0.5, 1.0, 2.0, f64::INFINITY, f64::NAN];
const COLUMNS: usize = 3;

/// Numbers that follow from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A complete tree of this depth, or less where a leaf comes early.
fn grow(of: &mut Attributes, draw: &mut Draw, tree: i64, modes: &[Mode], depth: usize) -> i64 {
    let first = of.tree_ids.iter().filter(|id| **id == tree).count() as i64;
    let index = of.tree_ids.len();
    let leaf = depth == 0 || draw.below(8) == 0;
    of.tree_ids.push(tree);
    of.node_ids.push(first);
    of.feature_ids.push(draw.below(COLUMNS) as i64);
    of.modes.push(if leaf { Mode::Leaf } else { modes[draw.below(modes.len())] });
    of.values.push(VALUES[draw.below(VALUES.len() - 1)]);
    of.missing_goes_yes.push(draw.below(2) == 0);
    of.yes_ids.push(0);
    of.no_ids.push(0);
    if leaf {
        for target in 0..of.kind.targets() {
            of.weight_tree_ids.push(tree);
            of.weight_node_ids.push(first);
            of.weight_targets.push(target as i64);
            of.weights.push(draw.below(64) as f64 / 16.0 - 1.0);
        }
    } else {
        of.yes_ids[index] = grow(of, draw, tree, modes, depth - 1);
        of.no_ids[index] = grow(of, draw, tree, modes, depth - 1);
    }
    first
}

/// The weights of the leaf that `row` comes to.
fn walk(of: &Attributes, tree: i64, row: &[f64]) -> Vec<f64> {
    let find = |name: i64| {
        (0..of.node_ids.len()).find(|i| of.tree_ids[*i] == tree && of.node_ids[*i] == name).unwrap()
    };
    let mut at = find(0);
    while of.modes[at] != Mode::Leaf {
        let (x, value) = (row[of.feature_ids[at] as usize], of.values[at]);
        let holds = match of.modes[at] {
            Mode::Leq => x <= value,
            Mode::Lt => x < value,
            Mode::Gte => x >= value,
            Mode::Gt => x > value,
            Mode::Eq => x == value,
            _ => x != value,
        } || of.missing_goes_yes[at] && x.is_nan();
        at = find(if holds { of.yes_ids[at] } else { of.no_ids[at] });
    }
    let own = (0..of.weights.len())
        .filter(|i| of.weight_tree_ids[*i] == tree && of.weight_node_ids[*i] == of.node_ids[at]);
    own.map(|i| of.weights[i]).collect()
}

fn plainly(of: &Attributes, row: &[f64]) -> Vec<f32> {
    let trees: std::collections::BTreeSet<i64> = of.tree_ids.iter().copied().collect();
    let answers: Vec<Vec<f64>> = trees.iter().map(|tree| walk(of, *tree, row)).collect();
    (0..of.kind.targets())
        .map(|target| {
            let column = answers.iter().map(|answer| answer[target]);
            let value = match of.aggregate {
                Aggregate::Sum => column.sum::<f64>(),
                Aggregate::Average => column.sum::<f64>() / answers.len() as f64,
                Aggregate::Min => column.fold(f64::INFINITY, f64::min),
                Aggregate::Max => column.fold(f64::NEG_INFINITY, f64::max),
            };
            (value + of.base_values.get(target).copied().unwrap_or(0.0)) as f32
        })
        .collect()
}

fn random(seed: u64, uniform: bool) -> (Attributes, Draw) {
    let mut draw = Draw(seed);
    let mut of = Attributes::regressor(1 + draw.below(3) as u32);
    of.aggregate = Aggregate::ALL[draw.below(4)];
    of.double = draw.below(2) == 0;
    if draw.below(2) == 0 {
        of.base_values = (0..of.kind.targets()).map(|_| draw.below(8) as f64 / 4.0).collect();
    }
    let one = [BRANCHES[draw.below(6)]];
    let modes: &[Mode] = if uniform { &one } else { &BRANCHES };
    for tree in 0..1 + draw.below(20) as i64 {
        let depth = draw.below(6);
        grow(&mut of, &mut draw, tree, modes, depth);
    }
    (of, draw)
}

proptest! {
    #[test]
    fn every_mode_means_what_onnx_says(seed in any::<u64>(), uniform in any::<bool>()) {
        let (attributes, mut draw) = random(seed, uniform);
        let ensemble = Ensemble::build(&attributes).unwrap();
        let again = Ensemble::decode(&ensemble.encode()).unwrap();
        prop_assert_eq!(&again, &ensemble);
        let count = 1 + draw.below(9);
        let rows: Vec<f64> = (0..count * COLUMNS).map(|_| VALUES[draw.below(9)]).collect();
        let mut scores = Scores::default();
        if attributes.double {
            again.run_f64(&rows, count, &mut scores);
        } else {
            let rows: Vec<f32> = rows.iter().map(|value| *value as f32).collect();
            again.run_f32(&rows, count, &mut scores);
        }
        let expected: Vec<f32> =
            rows.chunks(COLUMNS).flat_map(|row| plainly(&attributes, row)).collect();
        prop_assert_eq!(scores.values.len(), expected.len());
        for (found, expected) in scores.values.iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-4, "{} for {}", found, expected);
        }
    }

    #[test]
    fn bytes_with_a_flaw_are_refused_or_harmless(seed in any::<u64>(), flaws in 1_usize..4) {
        let (attributes, mut draw) = random(seed, false);
        let mut bytes = Ensemble::build(&attributes).unwrap().encode();
        for _ in 0..flaws {
            let at = draw.below(bytes.len());
            bytes[at] = draw.below(256) as u8;
        }
        if let Ok(ensemble) = Ensemble::decode(&bytes)
            && ensemble.columns() <= 1000
        {
            let columns = ensemble.columns().max(1);
            let mut scores = Scores::default();
            ensemble.run_f32(&vec![0.5; 2 * columns], 2, &mut scores);
            prop_assert_eq!(scores.values.len(), 2 * ensemble.targets());
        }
    }
}

fn stump() -> Attributes {
    Attributes {
        tree_ids: vec![0, 0, 0],
        node_ids: vec![0, 1, 2],
        feature_ids: vec![1, 0, 0],
        modes: vec![Mode::Leq, Mode::Leaf, Mode::Leaf],
        values: vec![0.5, 0.0, 0.0],
        yes_ids: vec![1, 0, 0],
        no_ids: vec![2, 0, 0],
        weight_tree_ids: vec![0, 0],
        weight_node_ids: vec![1, 2],
        weight_targets: vec![0, 0],
        weights: vec![0.25, 0.75],
        ..Attributes::classifier(Labels::Ints(vec![10, 20]))
    }
}

#[test]
fn one_score_for_two_classes_is_the_second_ones() {
    let ensemble = Ensemble::build(&stump()).unwrap();
    assert_eq!((ensemble.columns(), ensemble.targets(), ensemble.trees()), (2, 2, 1));
    let mut scores = Scores::default();
    ensemble.run_f32(&[0.0, 0.0, 0.0, 1.0], 2, &mut scores);
    assert_eq!(scores, Scores { classes: vec![0, 1], values: vec![0.75, 0.25, 0.25, 0.75] });
}

#[test]
fn circles_and_loose_ends_are_named() {
    let of = |change: fn(&mut Attributes)| {
        let mut attributes = stump();
        change(&mut attributes);
        Ensemble::build(&attributes).unwrap_err()
    };
    let circle = of(|a| a.yes_ids[0] = 0);
    assert_eq!(circle, BuildError::Circle { tree: 0, node: 0 });
    assert_eq!(of(|a| a.no_ids[0] = 7), BuildError::Missing { tree: 0, node: 7 });
    assert_eq!(of(|a| a.node_ids[2] = 1), BuildError::Duplicate { tree: 0, node: 1 });
    assert_eq!(of(|a| a.weight_targets[0] = 2), BuildError::Target { target: 2, targets: 2 });
    assert_eq!(of(|a| a.values[0] = f64::NAN), BuildError::NotANumber { tree: 0, node: 0 });
    assert_eq!(of(|a| a.feature_ids[0] = -1), BuildError::Column { tree: 0, node: 0, column: -1 });
    let short = BuildError::Lengths { what: "nodes_values", have: 2, need: 3 };
    assert_eq!(of(|a| a.values.truncate(2)), short);
    assert_eq!(Ensemble::build(&Attributes::regressor(1)).unwrap_err(), BuildError::Empty);
    let none = Ensemble::build(&Attributes::regressor(0)).unwrap_err();
    assert_eq!(none, BuildError::Count { what: "classes or targets", count: 0 });
}

#[test]
fn other_bytes_are_no_ensemble() {
    assert!(matches!(Ensemble::decode(b"\x00").unwrap_err(), FileError::Message(_)));
    let bytes = Ensemble::build(&stump()).unwrap().encode();
    assert!(Ensemble::decode(&bytes[..bytes.len() - 1]).is_err());
}
