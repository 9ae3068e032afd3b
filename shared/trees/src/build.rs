//! From an ONNX node's attributes to an ensemble: checked, and every branch brought to one form.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::attributes::{Attributes, Kind, Mode};
use crate::ensemble::{Ensemble, Names, Width};
use crate::forest::{Branch, Forest, Leaves, MISSING_GOES_YES};
use crate::number::Number;

/// Classes or targets, at most: room for the scores of a row is made before anything else is
/// known of them.
pub(crate) const TARGETS_MAX: usize = 1 << 16;

/// Why attributes are no ensemble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Lists that belong together differ in length.
    #[error("the attribute {what} has {have} values, {need} are needed")]
    Lengths {
        /// The attribute, without its prefix.
        what: &'static str,
        /// Its length.
        have: usize,
        /// The right one.
        need: usize,
    },
    /// There is nothing to ask.
    #[error("it has no node")]
    Empty,
    /// Two nodes have one name.
    #[error("tree {tree} has node {node} twice")]
    Duplicate {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A child or a leaf does not exist.
    #[error("tree {tree} has no node {node}, though something refers to it")]
    Missing {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A node is its own descendant.
    #[error("tree {tree} has a circle through node {node}")]
    Circle {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A branch looks at a column that cannot be.
    #[error("node {node} of tree {tree} looks at column {column}")]
    Column {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
        /// The column.
        column: i64,
    },
    /// A threshold or weight is not a number.
    #[error("node {node} of tree {tree} has a value that is not a number")]
    NotANumber {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A weight is for a class or target that is not there.
    #[error("a weight is for class or target {target} of {targets}")]
    Target {
        /// What it is for.
        target: i64,
        /// How many there are.
        targets: usize,
    },
    /// So many classes or targets, or so many nodes, are no ensemble.
    #[error("{count} {what} are not possible")]
    Count {
        /// What there are too many or too few of.
        what: &'static str,
        /// How many.
        count: usize,
    },
}

impl Ensemble {
    /// Checks `attributes` and makes an ensemble of them.
    ///
    /// # Errors
    /// [`BuildError`] says which attribute or node is wrong.
    pub fn build(attributes: &Attributes) -> Result<Self, BuildError> {
        check(attributes)?;
        let order = Order::of(attributes)?;
        let forest = if attributes.double {
            Width::Double(forest::<f64>(attributes, &order)?)
        } else {
            Width::Single(forest::<f32>(attributes, &order)?)
        };
        let first = attributes.weight_targets.first();
        let alone = attributes.weight_targets.iter().all(|target| Some(target) == first);
        let mut ensemble = Self {
            names: Names::default(),
            kind: attributes.kind.clone(),
            aggregate: attributes.aggregate,
            post: attributes.post,
            binary: attributes.kind.targets() == 2 && alone && first.is_some(),
            positive: attributes.weights.iter().all(|weight| *weight >= 0.0),
            forest,
            columns: 0,
            plain: false,
        };
        ensemble.derive();
        Ok(ensemble)
    }

    /// Works out what follows from the trees.
    pub(crate) fn derive(&mut self) {
        (self.columns, self.plain) = match &self.forest {
            Width::Single(forest) => (forest.columns(), forest.plain()),
            Width::Double(forest) => (forest.columns(), forest.plain()),
        };
    }
}

fn check(of: &Attributes) -> Result<(), BuildError> {
    let nodes = of.tree_ids.len();
    let same = |what, have, need| {
        if have == need { Ok(()) } else { Err(BuildError::Lengths { what, have, need }) }
    };
    same("nodes_nodeids", of.node_ids.len(), nodes)?;
    same("nodes_featureids", of.feature_ids.len(), nodes)?;
    same("nodes_modes", of.modes.len(), nodes)?;
    same("nodes_values", of.values.len(), nodes)?;
    same("nodes_truenodeids", of.yes_ids.len(), nodes)?;
    same("nodes_falsenodeids", of.no_ids.len(), nodes)?;
    if !of.missing_goes_yes.is_empty() {
        same("nodes_missing_value_tracks_true", of.missing_goes_yes.len(), nodes)?;
    }
    let weights = of.weights.len();
    same("treeids of the weights", of.weight_tree_ids.len(), weights)?;
    same("nodeids of the weights", of.weight_node_ids.len(), weights)?;
    same("ids of the weights", of.weight_targets.len(), weights)?;
    let targets = of.kind.targets();
    if targets == 0 || targets > TARGETS_MAX {
        return Err(BuildError::Count { what: "classes or targets", count: targets });
    }
    let one_for_two = matches!(of.kind, Kind::Classifier { .. }) && targets == 2;
    if !(of.base_values.is_empty() || one_for_two && of.base_values.len() == 1) {
        same("base_values", of.base_values.len(), targets)?;
    }
    let wrong = |target: &&i64| usize::try_from(**target).map_or(true, |place| place >= targets);
    if let Some(target) = of.weight_targets.iter().find(wrong) {
        return Err(BuildError::Target { target: *target, targets });
    }
    // A branch that asks for equality becomes two.
    if nodes == 0 {
        return Err(BuildError::Empty);
    }
    if nodes > (u32::MAX / 4) as usize || weights > (u32::MAX / 4) as usize {
        return Err(BuildError::Count { what: "nodes", count: nodes.max(weights) });
    }
    Ok(())
}

/// Where every node goes.
struct Order {
    /// The place of each node that a root leads to.
    places: Vec<u32>,
    /// Nodes that become branches, in the order of their places.
    branches: Vec<usize>,
    /// Nodes that become leaves, in the order of their places.
    leaves: Vec<usize>,
    /// The children of each branch: if the condition holds, if not.
    children: Vec<[usize; 2]>,
    /// The first node of each tree.
    roots: Vec<usize>,
    /// The node of each weight.
    weight_nodes: Vec<usize>,
}

/// Branches that a node becomes.
fn width_of(mode: Mode) -> u32 {
    match mode {
        Mode::Leaf => 0,
        Mode::Eq | Mode::Neq => 2,
        Mode::Leq | Mode::Lt | Mode::Gte | Mode::Gt => 1,
    }
}

impl Order {
    fn of(attributes: &Attributes) -> Result<Self, BuildError> {
        let mut named = BTreeMap::new();
        let mut roots = Vec::new();
        let ids = attributes.tree_ids.iter().zip(&attributes.node_ids);
        let mut last = None;
        for (index, (tree, node)) in ids.enumerate() {
            if named.insert((*tree, *node), index).is_some() {
                return Err(BuildError::Duplicate { tree: *tree, node: *node });
            }
            if last != Some(*tree) {
                roots.push(index);
                last = Some(*tree);
            }
        }
        let find = |tree: i64, node: i64| {
            named.get(&(tree, node)).copied().ok_or(BuildError::Missing { tree, node })
        };
        let mut children = vec![[0; 2]; attributes.modes.len()];
        for (index, mode) in attributes.modes.iter().enumerate() {
            if *mode != Mode::Leaf {
                let tree = attributes.tree_ids[index];
                let (yes, no) = (attributes.yes_ids[index], attributes.no_ids[index]);
                children[index] = [find(tree, yes)?, find(tree, no)?];
            }
        }
        let weights = attributes.weight_tree_ids.iter().zip(&attributes.weight_node_ids);
        let weight_nodes = weights.map(|(tree, node)| find(*tree, *node)).collect::<Result<_, _>>();
        let (places, leaves, branches) = (Vec::new(), Vec::new(), Vec::new());
        let weight_nodes = weight_nodes?;
        let mut order = Self { places, branches, leaves, children, roots, weight_nodes };
        order.sort(attributes)?;
        Ok(order)
    }

    /// Parents before their children, trees one after the other, leaves after all branches.
    fn sort(&mut self, attributes: &Attributes) -> Result<(), BuildError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Not,
            Open,
            Done,
        }
        let mut seen = vec![Seen::Not; self.children.len()];
        for root in &self.roots {
            let mut finished = Vec::new();
            // A node and how many of its children were looked at.
            let mut path = vec![(*root, 0)];
            while let Some((node, looked)) = path.pop() {
                let is_leaf = attributes.modes[node] == Mode::Leaf;
                seen[node] = Seen::Open;
                if is_leaf || looked == 2 {
                    seen[node] = Seen::Done;
                    if is_leaf {
                        self.leaves.push(node)
                    } else {
                        finished.push(node)
                    }
                    continue;
                }
                path.push((node, looked + 1));
                // Backwards: the order is turned round at the end.
                let child = self.children[node][1 - looked];
                match seen[child] {
                    Seen::Not => path.push((child, 0)),
                    Seen::Open => {
                        let tree = attributes.tree_ids[child];
                        let node = attributes.node_ids[child];
                        return Err(BuildError::Circle { tree, node });
                    }
                    Seen::Done => {}
                }
            }
            self.branches.extend(finished.iter().rev());
        }
        let mut next = 0;
        self.places = vec![0; seen.len()];
        for branch in &self.branches {
            self.places[*branch] = next;
            next += width_of(attributes.modes[*branch]);
        }
        for leaf in &self.leaves {
            self.places[*leaf] = next;
            next += 1;
        }
        Ok(())
    }
}

fn forest<T: Number>(of: &Attributes, order: &Order) -> Result<Forest<T>, BuildError> {
    let mut branches = Vec::with_capacity(order.branches.len());
    for node in &order.branches {
        let (tree, name) = (of.tree_ids[*node], of.node_ids[*node]);
        let column = of.feature_ids[*node];
        let feature = u32::try_from(column).ok().filter(|column| *column < MISSING_GOES_YES);
        let feature = feature.ok_or(BuildError::Column { tree, node: name, column })?;
        let value = of.values[*node];
        if value.is_nan() {
            return Err(BuildError::NotANumber { tree, node: name });
        }
        let condition = Condition {
            mode: of.modes[*node],
            value: T::from_f64(value),
            feature,
            missing: of.missing_goes_yes.get(*node).copied().unwrap_or(false),
            children: order.children[*node].map(|child| order.places[child]),
        };
        condition.put(order.places[*node], &mut branches);
    }
    Ok(Forest {
        roots: order.roots.iter().map(|root| order.places[*root]).collect(),
        branches,
        leaves: leaves(of, order),
        base: of.base_values.iter().map(|value| T::from_f64(*value)).collect(),
    })
}

/// A branch as ONNX-ML has it.
struct Condition<T> {
    mode: Mode,
    value: T,
    feature: u32,
    missing: bool,
    children: [u32; 2],
}

impl<T: Number> Condition<T> {
    /// Says the same with `x <= value` alone, of which a missing value is false unless the branch
    /// says otherwise. `place` is where the first branch stands.
    fn put(&self, place: u32, branches: &mut Vec<Branch<T>>) {
        let Self { mode, value, missing, children: [yes, no], .. } = *self;
        let below = value.below();
        // Nothing is smaller than −∞.
        let least = below == value;
        let all = T::from_f64(f64::INFINITY);
        let on_missing = if missing { yes } else { no };
        let mut put = |value, yes, no, missing| branches.push(self.branch(value, yes, no, missing));
        match mode {
            Mode::Leaf => {}
            Mode::Leq => put(value, yes, no, missing),
            Mode::Gt => put(value, no, yes, !missing),
            Mode::Lt if least => put(all, no, on_missing, false),
            Mode::Lt => put(below, yes, no, missing),
            Mode::Gte if least => put(all, yes, on_missing, false),
            Mode::Gte => put(below, no, yes, !missing),
            Mode::Eq => {
                put(value, place + 1, no, missing);
                // What is missing comes here only to be taken for equal.
                let unequal = if least { yes } else { no };
                put(below, unequal, yes, false);
            }
            // A missing value is unequal to any.
            Mode::Neq => {
                put(value, place + 1, yes, false);
                let unequal = if least { no } else { yes };
                put(below, unequal, no, false);
            }
        }
    }

    fn branch(&self, value: T, yes: u32, no: u32, missing: bool) -> Branch<T> {
        let missing = if missing { MISSING_GOES_YES } else { 0 };
        Branch { value, feature: self.feature | missing, children: [yes, no] }
    }
}

fn leaves<T: Number>(of: &Attributes, order: &Order) -> Leaves<T> {
    let mut by_node: Vec<usize> = (0..of.weights.len()).collect();
    // Stable, so that weights for one target are added in the order in which they stand.
    by_node.sort_by_key(|weight| (order.weight_nodes[*weight], of.weight_targets[*weight]));
    let (mut starts, mut targets, mut weights) = (vec![0], Vec::new(), Vec::new());
    for leaf in &order.leaves {
        let first = by_node.partition_point(|weight| order.weight_nodes[*weight] < *leaf);
        let own = by_node[first..].iter().take_while(|w| order.weight_nodes[**w] == *leaf);
        for weight in own {
            targets.push(of.weight_targets[*weight] as u32);
            weights.push(T::from_f64(of.weights[*weight]));
        }
        starts.push(targets.len() as u32);
    }
    let width = of.kind.targets();
    let steady = |width: usize| {
        starts.iter().enumerate().all(|(leaf, start)| *start as usize == leaf * width)
    };
    if steady(1) && targets.iter().all(|target| *target == targets[0]) {
        return Leaves::One { target: targets[0], weights };
    }
    if steady(width) && targets.iter().enumerate().all(|(i, target)| *target as usize == i % width)
    {
        return Leaves::Dense { width, weights };
    }
    Leaves::Sparse { starts, targets, weights }
}
