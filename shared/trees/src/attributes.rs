//! What an ONNX node says of an ensemble.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The attributes of ONNX-ML's TreeEnsembleClassifier or TreeEnsembleRegressor, under shorter
/// names. Lists that begin with `weight_` belong together, and so do all the others up to
/// `missing_goes_yes`.
///
/// # Source
/// ONNX-ML operators, TreeEnsembleClassifier and TreeEnsembleRegressor, version 3.
#[derive(Debug, Clone, PartialEq)]
pub struct Attributes {
    /// The tree that a node belongs to; nodes of one tree stand together, its root first.
    pub tree_ids: Vec<i64>,
    /// A node's name within its tree.
    pub node_ids: Vec<i64>,
    /// The column of the row that a branch looks at.
    pub feature_ids: Vec<i64>,
    /// What a branch does with it.
    pub modes: Vec<Mode>,
    /// What a branch compares it with.
    pub values: Vec<f64>,
    /// The node that follows if the condition holds.
    pub yes_ids: Vec<i64>,
    /// The node that follows if not.
    pub no_ids: Vec<i64>,
    /// Whether a missing value (NaN) counts as if the condition held; empty: never.
    pub missing_goes_yes: Vec<bool>,
    /// The tree of a leaf's weight.
    pub weight_tree_ids: Vec<i64>,
    /// The leaf of a weight.
    pub weight_node_ids: Vec<i64>,
    /// The class or target that it is for.
    pub weight_targets: Vec<i64>,
    /// The weights.
    pub weights: Vec<f64>,
    /// Added to each class or target: none, one, or one each.
    pub base_values: Vec<f64>,
    /// How the trees' answers become one.
    pub aggregate: Aggregate,
    /// What is done with the sum.
    pub post: PostTransform,
    /// Whether thresholds, weights and inputs have 64 bits.
    pub double: bool,
    /// What comes out.
    pub kind: Kind,
}

impl Attributes {
    /// No tree yet, and `targets` numbers for a row.
    pub fn regressor(targets: u32) -> Self {
        Self::of(Kind::Regressor { targets })
    }

    /// No tree yet, and a score for each label.
    pub fn classifier(labels: Labels) -> Self {
        Self::of(Kind::Classifier { labels })
    }

    fn of(kind: Kind) -> Self {
        Self {
            tree_ids: Vec::new(),
            node_ids: Vec::new(),
            feature_ids: Vec::new(),
            modes: Vec::new(),
            values: Vec::new(),
            yes_ids: Vec::new(),
            no_ids: Vec::new(),
            missing_goes_yes: Vec::new(),
            weight_tree_ids: Vec::new(),
            weight_node_ids: Vec::new(),
            weight_targets: Vec::new(),
            weights: Vec::new(),
            base_values: Vec::new(),
            aggregate: Aggregate::Sum,
            post: PostTransform::None,
            double: false,
            kind,
        }
    }
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Numbers.
    Regressor {
        /// How many for a row.
        targets: u32,
    },
    /// A class, and a score for each.
    Classifier {
        /// The classes.
        labels: Labels,
    },
}

impl Kind {
    /// Classes or targets.
    pub fn targets(&self) -> usize {
        match self {
            Self::Regressor { targets } => *targets as usize,
            Self::Classifier { labels } => labels.len(),
        }
    }
}

/// The names of classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Labels {
    /// Numbers.
    Ints(Vec<i64>),
    /// Words.
    Strings(Vec<String>),
}

impl Labels {
    /// How many classes there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Strings(labels) => labels.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $enum:ident { $($(#[$of:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $enum {
            $($(#[$of])* #[serde(rename = $name)] $variant,)*
        }

        impl $enum {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// ONNX-ML's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The one with this name, if there is one.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

named! {
    /// What a node does with its feature `x` and value `v`.
    Mode {
        /// x ≤ v
        Leq = "BRANCH_LEQ",
        /// x < v
        Lt = "BRANCH_LT",
        /// x ≥ v
        Gte = "BRANCH_GTE",
        /// x > v
        Gt = "BRANCH_GT",
        /// x = v
        Eq = "BRANCH_EQ",
        /// x ≠ v
        Neq = "BRANCH_NEQ",
        /// Nothing: the walk ends here.
        Leaf = "LEAF",
    }
}

named! {
    /// How the answers of all trees become one.
    Aggregate {
        /// Their sum.
        Sum = "SUM",
        /// Their sum, divided by the number of trees.
        Average = "AVERAGE",
        /// The smallest.
        Min = "MIN",
        /// The largest.
        Max = "MAX",
    }
}

named! {
    /// What is done with the scores of a row at the end.
    PostTransform {
        /// Nothing.
        None = "NONE",
        /// They become shares of one.
        Softmax = "SOFTMAX",
        /// Each becomes 1 / (1 + e⁻ˣ).
        Logistic = "LOGISTIC",
        /// As [`PostTransform::Softmax`], but zeros stay zero.
        SoftmaxZero = "SOFTMAX_ZERO",
        /// Each becomes the normal distribution's quantile.
        Probit = "PROBIT",
    }
}
