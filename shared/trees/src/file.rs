//! The file: a message of its own kind, with branches and weights as they lie in memory.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_wire::codec::DecodeError;
use tidegate_wire::envelope::{self, Message};

use crate::attributes::{Aggregate, Kind, PostTransform};
use crate::build::TARGETS_MAX;
use crate::ensemble::{Ensemble, Names, Width};
use crate::forest::{Branch, Forest, Leaves};
use crate::number::Number;

/// Why bytes are no ensemble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// They are no message of this kind.
    #[error(transparent)]
    Message(#[from] DecodeError),
    /// A part does not have the length that others ask for.
    #[error("the part {part:?} of the ensemble has the wrong length")]
    Length {
        /// The part.
        part: &'static str,
    },
    /// Something refers to what is not there, or backwards.
    #[error("the part {part:?} of the ensemble refers to what is not there")]
    Reference {
        /// The part.
        part: &'static str,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct TreesFile {
    names: Names,
    kind: Kind,
    aggregate: Aggregate,
    post: PostTransform,
    binary: bool,
    positive: bool,
    /// Whether numbers have 64 bits.
    double: bool,
    /// `u32`s, as all that follows little-endian.
    #[serde(with = "serde_bytes")]
    roots: Vec<u8>,
    /// Value, feature and two children each.
    #[serde(with = "serde_bytes")]
    branches: Vec<u8>,
    layout: Layout,
    #[serde(with = "serde_bytes")]
    weights: Vec<u8>,
    #[serde(with = "serde_bytes")]
    base: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Layout {
    One(u32),
    Dense,
    Sparse {
        #[serde(with = "serde_bytes")]
        starts: Vec<u8>,
        #[serde(with = "serde_bytes")]
        targets: Vec<u8>,
    },
}

impl Message for TreesFile {
    const KIND: &'static str = "tree-ensemble";
    /// Sixteen million branches.
    const SIZE_MAX: usize = 512 << 20;
}

impl Ensemble {
    /// The bytes of its file.
    pub fn encode(&self) -> Vec<u8> {
        envelope::seal(&match &self.forest {
            Width::Single(forest) => self.file(forest, false),
            Width::Double(forest) => self.file(forest, true),
        })
    }

    fn file<T: Number>(&self, forest: &Forest<T>, double: bool) -> TreesFile {
        let layout = match &forest.leaves {
            Leaves::One { target, .. } => Layout::One(*target),
            Leaves::Dense { .. } => Layout::Dense,
            Leaves::Sparse { starts, targets, .. } => {
                Layout::Sparse { starts: bytes_of(starts), targets: bytes_of(targets) }
            }
        };
        TreesFile {
            names: self.names.clone(),
            kind: self.kind.clone(),
            aggregate: self.aggregate,
            post: self.post,
            binary: self.binary,
            positive: self.positive,
            double,
            roots: bytes_of(&forest.roots),
            branches: branch_bytes(&forest.branches),
            layout,
            weights: number_bytes(forest.leaves.weights()),
            base: number_bytes(&forest.base),
        }
    }

    /// Reads a file and checks all that an evaluation relies on: whatever the bytes, asking the
    /// ensemble ends, and reads nothing that is not there.
    ///
    /// # Errors
    /// [`FileError`] names the part that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let file: TreesFile = envelope::open(bytes)?;
        let targets = file.kind.targets();
        if targets == 0 || targets > TARGETS_MAX {
            return Err(FileError::Length { part: "kind" });
        }
        let forest = if file.double {
            Width::Double(forest::<f64>(&file, targets)?)
        } else {
            Width::Single(forest::<f32>(&file, targets)?)
        };
        let mut ensemble = Self {
            names: file.names,
            kind: file.kind,
            aggregate: file.aggregate,
            post: file.post,
            binary: file.binary,
            positive: file.positive,
            forest,
            columns: 0,
            plain: false,
        };
        ensemble.derive();
        Ok(ensemble)
    }
}

fn forest<T: Number>(file: &TreesFile, targets: usize) -> Result<Forest<T>, FileError> {
    let roots = words(&file.roots, "roots")?;
    let branches: Vec<Branch<T>> = branches(&file.branches)?;
    let weights: Vec<T> = numbers(&file.weights, "weights")?;
    let leaves = match &file.layout {
        Layout::One(target) if (*target as usize) < targets => {
            Leaves::One { target: *target, weights }
        }
        Layout::One(_) => return Err(FileError::Reference { part: "layout" }),
        Layout::Dense if weights.len().is_multiple_of(targets) => {
            Leaves::Dense { width: targets, weights }
        }
        Layout::Dense => return Err(FileError::Length { part: "weights" }),
        Layout::Sparse { starts, targets: of } => {
            let (starts, of) = (words(starts, "starts")?, words(of, "targets")?);
            if of.len() != weights.len() {
                return Err(FileError::Length { part: "targets" });
            }
            let whole = starts.first() == Some(&0)
                && starts.is_sorted()
                && starts.last().is_some_and(|last| *last as usize == weights.len());
            if !whole {
                return Err(FileError::Reference { part: "starts" });
            }
            if of.iter().any(|target| *target as usize >= targets) {
                return Err(FileError::Reference { part: "targets" });
            }
            Leaves::Sparse { starts, targets: of, weights }
        }
    };
    let places = branches.len() + leaves.len();
    if u32::try_from(places).is_err() {
        return Err(FileError::Length { part: "branches" });
    }
    let forward = |(place, branch): (usize, &Branch<T>)| {
        branch.children.iter().all(|child| (place + 1..places).contains(&(*child as usize)))
    };
    if !branches.iter().enumerate().all(forward) {
        return Err(FileError::Reference { part: "branches" });
    }
    if roots.is_empty() || roots.iter().any(|root| *root as usize >= places) {
        return Err(FileError::Reference { part: "roots" });
    }
    let base: Vec<T> = numbers(&file.base, "base")?;
    let one_for_two = targets == 2 && base.len() == 1;
    if !(base.is_empty() || base.len() == targets || one_for_two) {
        return Err(FileError::Length { part: "base" });
    }
    Ok(Forest { roots, branches, leaves, base })
}

fn words(bytes: &[u8], part: &'static str) -> Result<Vec<u32>, FileError> {
    let (whole, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(FileError::Length { part });
    }
    Ok(whole.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

fn numbers<T: Number>(bytes: &[u8], part: &'static str) -> Result<Vec<T>, FileError> {
    if !bytes.len().is_multiple_of(T::WIDTH) {
        return Err(FileError::Length { part });
    }
    Ok(T::read(bytes))
}

fn branches<T: Number>(bytes: &[u8]) -> Result<Vec<Branch<T>>, FileError> {
    let part = "branches";
    let width = T::WIDTH + 12;
    if !bytes.len().is_multiple_of(width) {
        return Err(FileError::Length { part });
    }
    let branch = |bytes: &[u8]| {
        let (value, rest) = bytes.split_at(T::WIDTH);
        let [feature, yes, no] = words(rest, part)?[..] else {
            return Err(FileError::Length { part });
        };
        let value = T::read(value).first().copied().ok_or(FileError::Length { part })?;
        Ok(Branch { value, feature, children: [yes, no] })
    };
    bytes.chunks_exact(width).map(branch).collect()
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn number_bytes<T: Number>(numbers: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * T::WIDTH);
    numbers.iter().for_each(|number| number.write(&mut bytes));
    bytes
}

fn branch_bytes<T: Number>(branches: &[Branch<T>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(branches.len() * (T::WIDTH + 12));
    for branch in branches {
        branch.value.write(&mut bytes);
        let [yes, no] = branch.children;
        let words = [branch.feature, yes, no];
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    bytes
}
