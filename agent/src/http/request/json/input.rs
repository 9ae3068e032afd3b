//! One input of a request.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidegate_wire::tensor::Datatype;

use crate::engine::Values;
use crate::http::request::numbers::ReadValues;
use crate::protocol::Described;

#[derive(Deserialize)]
pub(in crate::http::request) struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<InputParameters>,
    #[serde(borrow, default)]
    pub(in crate::http::request) data: Option<Data<'a>>,
}

/// An input's values.
pub(in crate::http::request) enum Data<'a> {
    /// Still to be read, when the tensor's type is known.
    Text(&'a RawValue),
    /// As many as the shape has, of the type that the input says it has.
    Read(Values),
}

impl<'de: 'a, 'a> Deserialize<'de> for Data<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Self::Text)
    }
}

#[derive(Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<u64>,
    #[serde(default)]
    shared_memory_region: Option<IgnoredAny>,
}

impl Input<'_> {
    /// Bytes that it has behind the JSON.
    pub(in crate::http::request) fn binary_size(&self) -> Option<u64> {
        self.parameters.as_ref()?.binary_data_size
    }

    pub(in crate::http::request) fn in_shared_memory(&self) -> bool {
        let parameters = self.parameters.as_ref();
        parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some())
    }
}

impl Described for Input<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn datatype(&self) -> &str {
        &self.datatype
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }
}

/// An input whose values are read at once where its type and shape stand before them.
pub(super) struct Straight<'a>(pub(super) Input<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Straight<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StraightVisitor).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Name,
    Shape,
    Datatype,
    Parameters,
    Data,
    #[serde(other)]
    Other,
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct StraightVisitor;

impl<'de> Visitor<'de> for StraightVisitor {
    type Value = Input<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an input")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut name, mut shape, mut datatype) = (None, None, None);
        let (mut parameters, mut data) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Name => once(&mut name, map.next_value::<Text<'de>>()?.0)?,
                Field::Shape => once(&mut shape, map.next_value::<Vec<i64>>()?)?,
                Field::Datatype => once(&mut datatype, map.next_value::<Text<'de>>()?.0)?,
                Field::Parameters => once(&mut parameters, map.next_value()?)?,
                Field::Data => {
                    let known = expected(datatype.as_deref(), shape.as_deref());
                    let values = match known {
                        Some(seed) => Some(Data::Read(map.next_value_seed(seed)?)),
                        None => map.next_value()?,
                    };
                    once(&mut data, values)?;
                }
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Input {
            name: name.ok_or_else(|| A::Error::missing_field("name"))?,
            shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
            datatype: datatype.ok_or_else(|| A::Error::missing_field("datatype"))?,
            parameters: parameters.flatten(),
            data: data.flatten(),
        })
    }
}

fn once<T, E: Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a field is given twice")),
    }
}

/// What to read, if type and shape are known and can be.
fn expected(datatype: Option<&str>, shape: Option<&[i64]>) -> Option<ReadValues> {
    let datatype = *Datatype::ALL.iter().find(|known| Some(known.name()) == datatype)?;
    let dims = shape?.iter().map(|dim| usize::try_from(*dim).ok());
    let count = dims.into_iter().try_fold(1_usize, |all, dim| all.checked_mul(dim?))?;
    Some(ReadValues { datatype, count })
}
