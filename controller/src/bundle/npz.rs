//! Arrays out of a `.npz` file, as numpy's `savez` and `savez_compressed` write it.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadDataError, ReadNpyError, ReadNpzError, ReadableElement};
use py_literal::Value;
use tidegate_agent::engine::Values;
use tidegate_wire::tensor::{Datatype, TensorData, TensorSpec};

use super::error::BundleError;

/// An opened `.npz`.
pub(super) struct Npz {
    path: PathBuf,
    reader: NpzReader<BufReader<File>>,
    names: Vec<String>,
}

/// How many rows an array has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Any number where the tensor has a batch dimension, else the tensor as it is.
    AsDeclared,
    /// Any number, also of a tensor without a batch dimension.
    Many,
}

/// Whether a tensor has a batch dimension, and the shape of one row.
fn row_shape(spec: &TensorSpec) -> (bool, Vec<u64>) {
    let batched = spec.shape.first() == Some(&-1);
    let row = spec.shape.iter().skip(usize::from(batched));
    (batched, row.map(|dim| dim.unsigned_abs()).collect())
}

/// One array: little-endian, row-major, whatever it was in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// Reads an array of one element type, or says which type it has.
type Reader = fn(&mut Npz, &str) -> Result<Result<Array, String>, BundleError>;

/// The likeliest first.
const READERS: [Reader; 12] = [
    Npz::read::<f32>,
    Npz::read::<i64>,
    Npz::read::<f64>,
    Npz::read::<i32>,
    Npz::read::<u8>,
    Npz::read::<bool>,
    Npz::read::<i8>,
    Npz::read::<i16>,
    Npz::read::<u16>,
    Npz::read::<u32>,
    Npz::read::<u64>,
    Npz::read::<Text>,
];

impl Npz {
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let file =
            File::open(path).map_err(|source| BundleError::Read { path: path.into(), source })?;
        let not_npz = |error: ReadNpzError| BundleError::NotNpz {
            path: path.into(),
            what: error.to_string(),
        };
        let mut reader = NpzReader::new(BufReader::new(file)).map_err(not_npz)?;
        let names = reader.names().map_err(not_npz)?;
        Ok(Self { path: path.into(), reader, names })
    }

    /// Refuses arrays that nothing asked for: most often a misspelt name.
    pub fn only(&self, known: &[String]) -> Result<(), BundleError> {
        match self.names.iter().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let known = quoted(known);
                Err(self.wrong(format!("unknown array {name:?}: model.toml has {known}")))
            }
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|found| found == name)
    }

    /// The array `name`, of the tensor's type and shape.
    pub fn tensor(
        &mut self,
        name: &str,
        spec: &TensorSpec,
        rows: Rows,
    ) -> Result<Array, BundleError> {
        if !self.has(name) {
            let found = quoted(&self.names);
            return Err(self.wrong(format!("the array {name:?} is missing; it has {found}")));
        }
        let array = self.array(name)?;
        if array.datatype != spec.datatype {
            let (found, wanted) = (numpy_name(array.datatype), numpy_name(spec.datatype));
            let datatype = spec.datatype;
            return Err(self.wrong(format!(
                "the array {name:?} is {found}, model.toml says {datatype}: store it with \
                 .astype({wanted:?})"
            )));
        }
        let (batched, row) = row_shape(spec);
        let found: &[u64] = match (rows, batched, array.shape.split_first()) {
            (Rows::AsDeclared, false, _) => &array.shape,
            (_, _, Some((_, rest))) => rest,
            (_, _, None) => &[],
        };
        if array.shape.is_empty() || found != row {
            let shape = &array.shape;
            let row: Vec<String> = row.iter().map(u64::to_string).collect();
            let rows = if batched || rows == Rows::Many { "rows, " } else { "" };
            let row = row.join(", ");
            return Err(self.wrong(format!(
                "the array {name:?} has shape {shape:?}, model.toml asks for [{rows}{row}]"
            )));
        }
        if array.shape[0] == 0 {
            return Err(self.wrong(format!("the array {name:?} has no rows")));
        }
        Ok(array)
    }

    fn array(&mut self, name: &str) -> Result<Array, BundleError> {
        // One of them fits or none; a wrong type is noticed in the header, before any data.
        let mut descriptor = String::new();
        for read in READERS {
            match read(self, name)? {
                Ok(array) => return Ok(array),
                Err(found) => descriptor = found,
            }
        }
        Err(self.wrong(format!(
            "the array {name:?} has the type {descriptor}: use float32, float64, bool, \
             an integer type or text (.astype(str))"
        )))
    }

    /// The array if it has this element type, else the type that it has.
    fn read<T: Element>(&mut self, name: &str) -> Result<Result<Array, String>, BundleError> {
        let array: Result<ArrayD<T>, _> = self.reader.by_name::<OwnedRepr<T>, IxDyn>(name);
        match array {
            Ok(array) => {
                let shape = array.shape().iter().map(|dim| *dim as u64).collect();
                let mut bytes = Vec::with_capacity(array.len() * size_of::<T>());
                array.iter().for_each(|value| value.append_to(&mut bytes));
                Ok(Ok(Array { datatype: T::DATATYPE, shape, bytes }))
            }
            Err(ReadNpzError::Npy(ReadNpyError::WrongDescriptor(found))) => {
                Ok(Err(found.to_string()))
            }
            Err(error) => Err(self.wrong(format!("the array {name:?} cannot be read: {error}"))),
        }
    }

    pub fn wrong(&self, what: String) -> BundleError {
        BundleError::Array { path: self.path.clone(), what }
    }
}

/// A value that tensors are made of.
trait Element: ReadableElement {
    const DATATYPE: Datatype;

    /// Little-endian.
    fn append_to(&self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($number:ty => $datatype:ident)*) => {
        $(impl Element for $number {
            const DATATYPE: Datatype = Datatype::$datatype;

            fn append_to(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        })*
    };
}
elements!(
    f32 => Fp32 f64 => Fp64 i8 => Int8 i16 => Int16 i32 => Int32 i64 => Int64
    u8 => Uint8 u16 => Uint16 u32 => Uint32 u64 => Uint64
);

impl Element for bool {
    const DATATYPE: Datatype = Datatype::Bool;

    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }
}

/// An element of numpy's arrays of text: `U` (UTF-32) or `S` (bytes), filled up with zeros.
struct Text(Vec<u8>);

impl ReadableElement for Text {
    fn read_to_end_exact_vec<R: Read>(
        mut reader: R,
        descriptor: &Value,
        len: usize,
    ) -> Result<Vec<Self>, ReadDataError> {
        let wrong = || ReadDataError::WrongDescriptor(descriptor.clone());
        let Value::String(text) = descriptor else { return Err(wrong()) };
        let (kind, width) = match text.split_at_checked(2) {
            Some((kind @ ("<U" | "|S"), width)) => (kind, width.parse::<usize>()),
            _ => return Err(wrong()),
        };
        let width = width.map_err(|_| wrong())?;
        let each = if kind == "<U" { width.checked_mul(4) } else { Some(width) };
        let total = each.and_then(|each| each.checked_mul(len)).ok_or_else(wrong)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        match bytes.len().cmp(&total) {
            Ordering::Less => return Err(ReadDataError::MissingData),
            Ordering::Greater => return Err(ReadDataError::ExtraBytes(bytes.len() - total)),
            Ordering::Equal => {}
        }
        let one = |place: usize| {
            let each = total / len;
            let own = &bytes[place * each..][..each];
            if kind == "<U" { utf32(own).ok_or_else(wrong) } else { Ok(own.to_vec()) }
        };
        let mut texts = (0..len).map(one).collect::<Result<Vec<_>, _>>()?;
        for text in &mut texts {
            text.truncate(text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        Ok(texts.into_iter().map(Self).collect())
    }
}

fn utf32(bytes: &[u8]) -> Option<Vec<u8>> {
    let (letters, _) = bytes.as_chunks::<4>();
    let letter = |letter: &[u8; 4]| char::from_u32(u32::from_le_bytes(*letter));
    letters.iter().map(letter).collect::<Option<String>>().map(String::into_bytes)
}

impl Element for Text {
    const DATATYPE: Datatype = Datatype::Bytes;

    fn append_to(&self, bytes: &mut Vec<u8>) {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.0);
    }
}

impl Array {
    /// Every value as the drift sketches see it.
    pub fn values(&self) -> Vec<f32> {
        Values::from_le_bytes(self.datatype, &self.bytes).as_f32().into_owned()
    }

    pub fn named(self, name: &str) -> TensorData {
        let Self { datatype, shape, bytes } = self;
        TensorData { name: name.to_owned(), datatype, shape, bytes }
    }
}

fn numpy_name(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "bool",
        Datatype::Uint8 => "uint8",
        Datatype::Uint16 => "uint16",
        Datatype::Uint32 => "uint32",
        Datatype::Uint64 => "uint64",
        Datatype::Int8 => "int8",
        Datatype::Int16 => "int16",
        Datatype::Int32 => "int32",
        Datatype::Int64 => "int64",
        Datatype::Fp16 => "float16",
        Datatype::Fp32 => "float32",
        Datatype::Fp64 => "float64",
        Datatype::Bytes => "str",
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    if names.is_empty() { "no arrays".into() } else { names.join(", ") }
}
