//! Builds values from bytes that [`super::strict`] found to be deterministic CBOR.
//!
//! It goes by what the type asks for and takes nothing else: a struct is a map whose keys are
//! text, a byte string is no array, nothing has a tag. That leaves one encoding of a message, and
//! little code for every type, which counts on a microcontroller.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;

use serde::Deserialize;
use serde::de::{
    self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::DecodeError;
use super::strict::{Head, Walk};

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: (u8, u8) = (7, 22);

/// Reads the one value that `bytes` are.
pub(super) fn value<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader { walk: Walk { bytes, offset: 0 } };
    T::deserialize(&mut reader).map_err(|Mismatch(what)| DecodeError::Shape(what))
}

/// The CBOR is not what the type asks for.
#[derive(Debug)]
struct Mismatch(String);

impl core::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: Display>(what: T) -> Self {
        Self(what.to_string())
    }

    /// The value itself is left out: it is the sender's, and formatting floats takes 12 KB.
    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self(format!("{} where {wanted} belongs", kind(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self(format!("{} that is not {wanted}", kind(&found)))
    }
}

/// What kind of value came.
fn kind<'a>(found: &Unexpected<'a>) -> &'a str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a float",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        Unexpected::Bytes(_) => "a byte string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "a map",
        Unexpected::Other(other) => other,
        _ => "a variant",
    }
}

impl From<DecodeError> for Mismatch {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::NotDeterministic { what, .. } => Self(what.into()),
            _ => Self("not what was checked before".into()),
        }
    }
}

type Read<T> = Result<T, Mismatch>;

struct Reader<'de> {
    walk: Walk<'de>,
}

impl<'de> Reader<'de> {
    /// The argument of an item of this major type; else what came instead of `wanted`.
    fn expect(&mut self, major: u8, wanted: &'static str) -> Read<u64> {
        let head = self.walk.head()?;
        if head.major == major { Ok(head.argument) } else { Err(unexpected(head, wanted)) }
    }

    /// The next item's major type, and what else its first byte says.
    fn peek(&self) -> Option<(u8, u8)> {
        self.walk.bytes.get(self.walk.offset).map(|first| (first >> 5, first & 0x1f))
    }

    fn text(&mut self) -> Read<&'de str> {
        let length = self.expect(3, "text")?;
        let bytes = self.walk.take(length)?;
        core::str::from_utf8(bytes).map_err(de::Error::custom)
    }

    fn bytes(&mut self) -> Read<&'de [u8]> {
        let length = self.expect(2, "a byte string")?;
        Ok(self.walk.take(length)?)
    }

    /// Floats of any width, and integers too: whoever writes 1 for 1.0 means no harm.
    fn float(&mut self) -> Read<f64> {
        let (_, info) = self.peek().unwrap_or_default();
        let head = self.walk.head()?;
        match (head.major, info, head.argument) {
            (0, _, value) => Ok(value as f64),
            (1, _, value) => Ok(-1.0 - value as f64),
            (7, 25, bits) => Ok(half(bits as u16).into()),
            (7, 26, bits) => Ok(f32::from_bits(bits as u32).into()),
            (7, 27, bits) => Ok(f64::from_bits(bits)),
            _ => Err(unexpected(head, "a number")),
        }
    }

    fn null_next(&self) -> bool {
        self.peek() == Some(NULL)
    }

    fn items(&mut self) -> Read<Items<'_, 'de>> {
        let left = self.expect(4, "an array")?;
        Ok(Items { reader: self, left })
    }

    fn pairs(&mut self) -> Read<Items<'_, 'de>> {
        let left = self.expect(5, "a map")?;
        Ok(Items { reader: self, left })
    }
}

fn unexpected(head: Head, wanted: &'static str) -> Mismatch {
    let found = match (head.major, head.argument) {
        (0, value) => Unexpected::Unsigned(value),
        (1, _) => Unexpected::Other("a negative integer"),
        (2, _) => Unexpected::Bytes(b""),
        (3, _) => Unexpected::Str(""),
        (4, _) => Unexpected::Seq,
        (5, _) => Unexpected::Map,
        (6, _) => Unexpected::Other("a tag"),
        (_, FALSE) => Unexpected::Bool(false),
        (_, TRUE) => Unexpected::Bool(true),
        _ => Unexpected::Other("null or a float"),
    };
    de::Error::invalid_type(found, &wanted)
}

/// The value of a half-precision float.
///
/// # Source
/// IEEE 754-2019, section 3.4 (binary16).
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction as f32 / 16_777_216.0,
        31 => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

macro_rules! integers {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
            self.deserialize_i64(visitor)
        }
    )*};
}

macro_rules! same_as {
    ($($name:ident: $other:ident,)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
            self.$other(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Mismatch;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match self.peek().unwrap_or(NULL) {
            (0 | 1, _) => self.deserialize_i64(visitor),
            (2, _) => self.deserialize_bytes(visitor),
            (3, _) => self.deserialize_str(visitor),
            (4, _) => self.deserialize_seq(visitor),
            (5, _) => self.deserialize_map(visitor),
            (_, 25..=27) => self.deserialize_f64(visitor),
            (_, 20 | 21) => self.deserialize_bool(visitor),
            _ => self.deserialize_unit(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let head = self.walk.head()?;
        match (head.major, i64::try_from(head.argument)) {
            (0, _) => visitor.visit_u64(head.argument),
            (1, Ok(value)) => visitor.visit_i64(-1 - value),
            _ => Err(unexpected(head, "an integer of at most 64 bits")),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64
    }

    same_as! {
        deserialize_f32: deserialize_f64,
        deserialize_string: deserialize_str,
        deserialize_char: deserialize_str,
        deserialize_identifier: deserialize_str,
        deserialize_byte_buf: deserialize_bytes,
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let head = self.walk.head()?;
        match (head.major, head.argument) {
            (7, FALSE) => visitor.visit_bool(false),
            (7, TRUE) => visitor.visit_bool(true),
            _ => Err(unexpected(head, "true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.null_next() {
            self.walk.head()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let null = self.null_next();
        let head = self.walk.head()?;
        if null { visitor.visit_unit() } else { Err(unexpected(head, "null")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let mut items = self.items()?;
        let value = visitor.visit_seq(&mut items)?;
        items.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let mut pairs = self.pairs()?;
        let value = visitor.visit_map(&mut pairs)?;
        pairs.end()?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_map(visitor)
    }

    /// A variant without content is its name; one with content is a map from its name to that.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        if self.peek().is_some_and(|(major, _)| major == 3) {
            return visitor.visit_enum(Variant { reader: self, content: Content::None });
        }
        match self.expect(5, "a variant")? {
            1 => visitor.visit_enum(Variant { reader: self, content: Content::Follows }),
            _ => Err(de::Error::custom("a variant is a map of one pair")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.walk.item(0)?;
        visitor.visit_unit()
    }
}

/// What is left of an array or a map.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: u64,
}

impl Items<'_, '_> {
    fn next(&mut self) -> bool {
        let more = self.left > 0;
        self.left -= u64::from(more);
        more
    }

    /// Nothing may be left over.
    fn end(&self) -> Read<()> {
        if self.left == 0 { Ok(()) } else { Err(de::Error::custom("more items than belong there")) }
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        if self.next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    /// Every item has a byte at least, so this is no more than the bytes that came.
    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left).ok()
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Mismatch;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        if self.next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<T::Value> {
        seed.deserialize(&mut *self.reader)
    }
}

/// Whether something stands after a variant's name.
#[derive(PartialEq)]
enum Content {
    None,
    Follows,
}

struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    content: Content,
}

impl<'a, 'de> Variant<'a, 'de> {
    fn content(self) -> Read<&'a mut Reader<'de>> {
        match self.content {
            Content::Follows => Ok(self.reader),
            Content::None => Err(de::Error::custom("the variant's content is missing")),
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<(T::Value, Self)> {
        let name = seed.deserialize(&mut *self.reader)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Mismatch;

    fn unit_variant(self) -> Read<()> {
        match self.content {
            Content::None => Ok(()),
            Content::Follows => Err(de::Error::custom("the variant has no content")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<T::Value> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        de::Deserializer::deserialize_seq(self.content()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        de::Deserializer::deserialize_map(self.content()?, visitor)
    }
}
