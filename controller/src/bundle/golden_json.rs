//! A golden set as JSON: one object, whose keys are those of the arrays in an `.npz`. For models that
//! take or give text, which people want to read and to write by hand.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tidegate_agent::engine::Values;
use tidegate_wire::tensor::{Datatype, TensorSpec};

use super::error::{self, BundleError};
use super::golden::Arrays;
use super::npz::Array;

/// A file that was read.
pub(super) struct Json {
    path: PathBuf,
    arrays: Map<String, Value>,
}

impl Json {
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let text = error::read_text(path)?;
        let arrays = serde_json::from_str(&text).map_err(|error| BundleError::NotJson {
            path: path.into(),
            what: format!("{error}; it is an object of arrays, input.<tensor> and output.<tensor>"),
        })?;
        Ok(Self { path: path.into(), arrays })
    }
}

impl Arrays for Json {
    fn only(&self, known: &[String]) -> Result<(), BundleError> {
        match self.arrays.keys().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let known = known.join(", ");
                Err(self.wrong(format!("unknown array {name:?}: model.toml has {known}")))
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    fn tensor(&mut self, name: &str, spec: &TensorSpec) -> Result<Array, BundleError> {
        let Some(value) = self.arrays.get(name) else {
            return Err(self.wrong(format!("the array {name:?} is missing")));
        };
        let mut flat = Vec::new();
        let shape = shape(value, &mut flat).ok_or_else(|| {
            self.wrong(format!("the array {name:?} has rows of different lengths"))
        })?;
        let fits = shape.len() == spec.shape.len()
            && shape.iter().zip(&spec.shape).all(|(have, want)| match *want {
                -1 => *have > 0,
                want => u64::try_from(want) == Ok(*have),
            });
        if !fits {
            let wanted = &spec.shape;
            let text =
                format!("the array {name:?} has shape {shape:?}, model.toml asks for {wanted:?}");
            return Err(self.wrong(text));
        }
        let datatype = spec.datatype;
        let values = values(datatype, &flat).map_err(|found| {
            self.wrong(format!("the array {name:?} has the value {found}, which is no {datatype}"))
        })?;
        let mut bytes = Vec::new();
        values.put_le_bytes(&mut bytes);
        Ok(Array { datatype, shape, bytes })
    }

    fn wrong(&self, what: String) -> BundleError {
        BundleError::Array { path: self.path.clone(), what }
    }
}

/// The shape of nested arrays, and their elements in order; none if they are not all of one shape.
fn shape<'a>(value: &'a Value, flat: &mut Vec<&'a Value>) -> Option<Vec<u64>> {
    let Value::Array(rows) = value else {
        flat.push(value);
        return Some(Vec::new());
    };
    let mut shapes = rows.iter().map(|row| shape(row, flat));
    let first = shapes.next().unwrap_or(Some(Vec::new()))?;
    // All of them are looked at: that is what fills `flat`.
    let same = shapes.filter(|shape| shape.as_ref() != Some(&first)).count() == 0;
    same.then(|| [&[rows.len() as u64], first.as_slice()].concat())
}

/// `flat` as values of a type; otherwise the first that is none of it.
fn values(datatype: Datatype, flat: &[&Value]) -> Result<Values, String> {
    macro_rules! read {
        ($variant:ident, $read:expr) => {{
            let one = |value: &&Value| $read(*value).ok_or_else(|| value.to_string());
            Values::$variant(flat.iter().map(one).collect::<Result<_, String>>()?)
        }};
    }
    macro_rules! whole {
        ($variant:ident, $read:ident) => {
            read!($variant, |value: &Value| value.$read().and_then(|whole| whole.try_into().ok()))
        };
    }
    Ok(match datatype {
        Datatype::Bool => read!(Bool, Value::as_bool),
        Datatype::Uint8 => whole!(U8, as_u64),
        Datatype::Uint16 => whole!(U16, as_u64),
        Datatype::Uint32 => whole!(U32, as_u64),
        Datatype::Uint64 => whole!(U64, as_u64),
        Datatype::Int8 => whole!(I8, as_i64),
        Datatype::Int16 => whole!(I16, as_i64),
        Datatype::Int32 => whole!(I32, as_i64),
        Datatype::Int64 => whole!(I64, as_i64),
        Datatype::Fp32 => read!(F32, |value: &Value| value.as_f64().map(|wide| wide as f32)),
        Datatype::Fp64 => read!(F64, Value::as_f64),
        Datatype::Bytes => read!(Bytes, |value: &Value| value.as_str().map(Vec::from)),
        Datatype::Fp16 => return Err("FP16 in JSON; use an .npz".to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value, datatype: Datatype, shape: &[i64]) -> Result<Array, String> {
        let arrays = Map::from_iter([("input.x".to_string(), value)]);
        let mut json = Json { path: "golden.json".into(), arrays };
        let shape = shape.to_vec();
        let spec = TensorSpec { name: "x".into(), datatype, shape, labels: vec![], limits: None };
        json.tensor("input.x", &spec).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_and_numbers_are_read_row_by_row() {
        let texts = read(json!(["é", ""]), Datatype::Bytes, &[-1]).unwrap();
        assert_eq!((texts.shape, texts.bytes), (vec![2], b"\x02\0\0\0\xc3\xa9\0\0\0\0".to_vec()));
        let numbers = read(json!([[1, 2.5], [3, 4]]), Datatype::Fp32, &[-1, 2]).unwrap();
        assert_eq!(numbers.shape, [2, 2]);
        assert_eq!(numbers.values(), [1.0, 2.5, 3.0, 4.0]);
    }

    #[test]
    fn what_is_no_array_of_the_tensor_is_told() {
        let cases = [
            (json!([[1, 2], [3]]), Datatype::Fp32, "different lengths"),
            (json!([[1], [[2]]]), Datatype::Fp32, "different lengths"),
            (json!([[1, 2, 3]]), Datatype::Fp32, "asks for [-1, 2]"),
            (json!([]), Datatype::Fp32, "asks for [-1, 2]"),
            (json!([[1, "x"]]), Datatype::Fp32, "\"x\""),
            (json!([[1, 300]]), Datatype::Uint8, "300"),
            (json!([["a", 1]]), Datatype::Bytes, "1, which is no BYTES"),
        ];
        for (value, datatype, told) in cases {
            let error = read(value.clone(), datatype, &[-1, 2]).unwrap_err();
            assert!(error.contains(told) && error.contains("golden.json"), "{value}: {error}");
        }
    }
}
