//! Trees in memory, and the walk from root to leaf.
//!
//! Places 0 to n−1 are branches, n and above are leaves, over all trees. A branch's children have
//! higher places than itself, so every walk ends.

use alloc::vec;
use alloc::vec::Vec;

use crate::attributes::Aggregate;
use crate::number::Number;

/// The feature's bit that says that a missing value counts as if the condition held.
pub(crate) const MISSING_GOES_YES: u32 = 1 << 31;

/// Trees that are walked at a time: while one waits for memory, the others go on.
const LANES: usize = 8;

/// `x <= value`, of the row's column `feature`: 16 bytes with `f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Branch<T> {
    pub value: T,
    /// The column, and [`MISSING_GOES_YES`].
    pub feature: u32,
    /// The places where the walk goes on: if the condition holds, if not.
    pub children: [u32; 2],
}

impl<T: Number> Branch<T> {
    pub fn column(&self) -> usize {
        (self.feature & !MISSING_GOES_YES) as usize
    }

    #[inline(always)]
    fn next<const MISSING: bool>(&self, row: &[T]) -> u32 {
        let yes = if MISSING {
            let x = row[self.column()];
            (x <= self.value) | ((self.feature & MISSING_GOES_YES != 0) & x.missing())
        } else {
            row[self.feature as usize] <= self.value
        };
        self.children[usize::from(!yes)]
    }
}

/// What leaves add, and to what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leaves<T> {
    /// One weight each, all for the same target.
    One { target: u32, weights: Vec<T> },
    /// A weight for every target, in their order: so many a leaf.
    Dense { width: usize, weights: Vec<T> },
    /// Leaf i has the weights from `starts[i]` up to `starts[i + 1]`.
    Sparse { starts: Vec<u32>, targets: Vec<u32>, weights: Vec<T> },
}

impl<T: Number> Leaves<T> {
    pub fn len(&self) -> usize {
        match self {
            Self::One { weights, .. } => weights.len(),
            Self::Dense { width, weights } => weights.len() / (*width).max(1),
            Self::Sparse { starts, .. } => starts.len().saturating_sub(1),
        }
    }

    pub fn weights(&self) -> &[T] {
        match self {
            Self::One { weights, .. }
            | Self::Dense { weights, .. }
            | Self::Sparse { weights, .. } => weights,
        }
    }
}

/// All trees.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forest<T> {
    pub roots: Vec<u32>,
    pub branches: Vec<Branch<T>>,
    pub leaves: Leaves<T>,
    pub base: Vec<T>,
}

/// What the trees say of one row, target by target.
#[derive(Debug, Clone)]
pub(crate) struct Sums<T> {
    pub values: Vec<T>,
    /// Whether any leaf had a weight for the target.
    pub any: Vec<bool>,
}

impl<T: Number> Sums<T> {
    pub fn new(targets: usize) -> Self {
        Self { values: vec![T::default(); targets], any: vec![false; targets] }
    }

    fn clear(&mut self) {
        self.values.fill(T::default());
        self.any.fill(false);
    }

    #[inline(always)]
    fn fold(&mut self, aggregate: Aggregate, target: usize, weight: T) {
        let value = &mut self.values[target];
        let better = match aggregate {
            Aggregate::Sum | Aggregate::Average => {
                *value = value.add(weight);
                false
            }
            Aggregate::Min => !self.any[target] || weight < *value,
            Aggregate::Max => !self.any[target] || weight > *value,
        };
        if better {
            *value = weight;
        }
        self.any[target] = true;
    }
}

impl<T: Number> Forest<T> {
    /// Whether no branch treats missing values in a way of its own.
    pub fn plain(&self) -> bool {
        self.branches.iter().all(|branch| branch.feature & MISSING_GOES_YES == 0)
    }

    /// Columns that a row must have.
    pub fn columns(&self) -> usize {
        self.branches.iter().map(|branch| branch.column() + 1).max().unwrap_or(0)
    }

    /// Asks every tree about `row`, which has a value for each column that a branch looks at.
    pub fn ask(&self, plain: bool, aggregate: Aggregate, row: &[T], sums: &mut Sums<T>) {
        sums.clear();
        match (plain, &self.leaves, aggregate) {
            // The commonest of all: kept in a register.
            (_, Leaves::One { target, weights }, Aggregate::Sum | Aggregate::Average) => {
                let mut sum = T::default();
                let add = |leaf: usize| sum = sum.add(weights[leaf]);
                if plain {
                    self.walk::<false>(row, add)
                } else {
                    self.walk::<true>(row, add)
                }
                sums.values[*target as usize] = sum;
                sums.any[*target as usize] = true;
            }
            (true, ..) => self.walk::<false>(row, |leaf| self.add(aggregate, leaf, sums)),
            (false, ..) => self.walk::<true>(row, |leaf| self.add(aggregate, leaf, sums)),
        }
    }

    #[inline(always)]
    fn add(&self, aggregate: Aggregate, leaf: usize, sums: &mut Sums<T>) {
        match &self.leaves {
            Leaves::One { target, weights } => {
                sums.fold(aggregate, *target as usize, weights[leaf]);
            }
            Leaves::Dense { width, weights } => {
                let weights = &weights[leaf * width..][..*width];
                if matches!(aggregate, Aggregate::Sum | Aggregate::Average) {
                    let pairs = sums.values.iter_mut().zip(weights);
                    pairs.for_each(|(value, weight)| *value = value.add(*weight));
                    sums.any.fill(true);
                    return;
                }
                for (target, weight) in weights.iter().enumerate() {
                    sums.fold(aggregate, target, *weight);
                }
            }
            Leaves::Sparse { starts, targets, weights } => {
                let range = starts[leaf] as usize..starts[leaf + 1] as usize;
                for (target, weight) in targets[range.clone()].iter().zip(&weights[range]) {
                    sums.fold(aggregate, *target as usize, *weight);
                }
            }
        }
    }

    /// Tells the leaf of every tree, in the order of the trees.
    #[inline(always)]
    fn walk<const MISSING: bool>(&self, row: &[T], mut leaf: impl FnMut(usize)) {
        let first_leaf = self.branches.len();
        let (groups, rest) = self.roots.as_chunks::<LANES>();
        for group in groups {
            let mut places = *group;
            loop {
                let mut walking = false;
                for place in &mut places {
                    if let Some(branch) = self.branches.get(*place as usize) {
                        *place = branch.next::<MISSING>(row);
                        walking = true;
                    }
                }
                if !walking {
                    break;
                }
            }
            places.iter().for_each(|place| leaf(*place as usize - first_leaf));
        }
        for root in rest {
            let mut place = *root;
            while let Some(branch) = self.branches.get(place as usize) {
                place = branch.next::<MISSING>(row);
            }
            leaf(place as usize - first_leaf);
        }
    }
}
