//! Decision-tree ensembles as ONNX-ML defines them: random forests, gradient boosting and their
//! kin, classifiers and regressors, in a file of their own and with a fast evaluator.
//!
//! [`Attributes`] is what an ONNX node says; [`Ensemble::build`] checks it and brings every node
//! to one form: a branch is `x <= threshold`, whatever its mode was, in 16 bytes; children only
//! point forward, so that no walk can loop; leaves lie apart. [`Ensemble::encode`] and
//! [`Ensemble::decode`] are the file.
//!
//! The crate is pure and needs an allocator only; it does not train, and knows nothing of tensors.
//!
//! ```
//! use tidegate_trees::{Attributes, Ensemble, Mode, Scores};
//!
//! // x₀ ≤ 0.5 ? 1.0 : 2.0
//! let stump = Attributes {
//!     tree_ids: vec![0, 0, 0],
//!     node_ids: vec![0, 1, 2],
//!     feature_ids: vec![0, 0, 0],
//!     modes: vec![Mode::Leq, Mode::Leaf, Mode::Leaf],
//!     values: vec![0.5, 0.0, 0.0],
//!     yes_ids: vec![1, 0, 0],
//!     no_ids: vec![2, 0, 0],
//!     weight_tree_ids: vec![0, 0],
//!     weight_node_ids: vec![1, 2],
//!     weight_targets: vec![0, 0],
//!     weights: vec![1.0, 2.0],
//!     ..Attributes::regressor(1)
//! };
//! let ensemble = Ensemble::build(&stump).unwrap();
//! let again = Ensemble::decode(&ensemble.encode()).unwrap();
//! let mut scores = Scores::default();
//! again.run_f32(&[0.4, 0.6], 2, &mut scores);
//! assert_eq!(scores.values, [1.0, 2.0]);
//! ```
#![no_std]

extern crate alloc;

mod attributes;
mod build;
mod ensemble;
mod file;
mod finish;
mod forest;
mod number;
mod post;

pub use attributes::{Aggregate, Attributes, Kind, Labels, Mode, PostTransform};
pub use build::BuildError;
pub use ensemble::{Ensemble, Names, Scores};
pub use file::FileError;
