//! An ensemble that answers.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attributes::{Aggregate, Kind, Labels, PostTransform};
use crate::finish::{self, Finish};
use crate::forest::{Forest, Sums};
use crate::number::Number;

/// A checked ensemble of trees.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// What its tensors are called, where it is a model of its own.
    pub names: Names,
    pub(crate) kind: Kind,
    pub(crate) aggregate: Aggregate,
    pub(crate) post: PostTransform,
    pub(crate) binary: bool,
    pub(crate) positive: bool,
    pub(crate) forest: Width,
    pub(crate) columns: usize,
    /// No branch treats missing values in a way of its own.
    pub(crate) plain: bool,
}

/// What a model's tensors are called; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The rows.
    pub input: String,
    /// A classifier's classes.
    pub label: String,
    /// The scores.
    pub scores: String,
}

/// Trees of either width.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Width {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

/// The answers to some rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Of a classifier: the class of each row, as a place among the labels.
    pub classes: Vec<u32>,
    /// [`Ensemble::targets`] numbers for each row.
    pub values: Vec<f32>,
}

impl Ensemble {
    /// Classes or numbers.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// A classifier's labels.
    pub fn labels(&self) -> Option<&Labels> {
        match &self.kind {
            Kind::Classifier { labels } => Some(labels),
            Kind::Regressor { .. } => None,
        }
    }

    /// Scores of a row.
    pub fn targets(&self) -> usize {
        self.kind.targets()
    }

    /// Columns that a row must have at least.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Trees in it.
    pub fn trees(&self) -> usize {
        match &self.forest {
            Width::Single(forest) => forest.roots.len(),
            Width::Double(forest) => forest.roots.len(),
        }
    }

    /// Whether it computes with 64 bits.
    pub fn is_double(&self) -> bool {
        matches!(self.forest, Width::Double(_))
    }

    /// Answers `rows`, which lie behind each other and are as many as `count` says; what was in
    /// `into` is replaced.
    ///
    /// # Panics
    /// If a row has fewer than [`Ensemble::columns`] values.
    pub fn run_f32(&self, rows: &[f32], count: usize, into: &mut Scores) {
        match &self.forest {
            Width::Single(forest) => self.run(forest, rows, count, into),
            Width::Double(forest) => {
                let rows: Cow<[f64]> = rows.iter().map(|value| f64::from(*value)).collect();
                self.run(forest, &rows, count, into);
            }
        }
    }

    /// As [`Ensemble::run_f32`]. If the ensemble has 32 bits, the values are rounded to as many.
    ///
    /// # Panics
    /// If a row has fewer than [`Ensemble::columns`] values.
    pub fn run_f64(&self, rows: &[f64], count: usize, into: &mut Scores) {
        match &self.forest {
            Width::Double(forest) => self.run(forest, rows, count, into),
            Width::Single(forest) => {
                let rows: Cow<[f32]> = rows.iter().map(|value| *value as f32).collect();
                self.run(forest, &rows, count, into);
            }
        }
    }

    fn run<T: Number>(&self, forest: &Forest<T>, rows: &[T], count: usize, into: &mut Scores) {
        into.classes.clear();
        into.values.clear();
        if count == 0 {
            return;
        }
        let columns = rows.len() / count;
        assert!(columns >= self.columns, "{columns} columns, {} needed", self.columns);
        let finish = Finish {
            aggregate: self.aggregate,
            post: self.post,
            trees: forest.roots.len(),
            base: &forest.base,
            binary: self.binary,
            positive: self.positive,
        };
        into.values.reserve(count * self.targets());
        let mut sums = Sums::new(self.targets());
        let classifies = self.labels().is_some();
        for row in 0..count {
            let row = &rows[row * columns..][..columns];
            forest.ask(self.plain, self.aggregate, row, &mut sums);
            if classifies {
                let class = finish::classification(&finish, &mut sums, &mut into.values);
                into.classes.push(class);
            } else {
                finish::regression(&finish, &sums, &mut into.values);
            }
        }
    }
}
