//! Deserialisation from JSON. Requests are read strictly, with typed errors (serde_json reports all
//! errors as one type with a sentence; here serde's own calls tell the kind). Stored JSON is read
//! leniently, skipping what this release does not know (module `stored`).

use std::fmt;

use serde::de::value::{Error as Words, StringDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// The name under which a type asks for a value as it is. Only [`Json::stored`] gives it.
pub(crate) const FOREIGN: &str = "imp_core::stored::Foreign";

/// The name under which a choice of shapes reads one of a newer release. Only [`Json::stored`] gives it.
pub(crate) const CHOICE: &str = "imp_core::stored::Choice";

/// Why a value does not fit the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// A required field is missing.
    Missing(&'static str),
    /// The type has no such field.
    Unknown {
        /// Name of the field.
        field: String,
        /// serde's description.
        detail: String,
    },
    /// A value of the wrong JSON type.
    Type(String),
    /// A value of the right JSON type that is not allowed.
    Value(String),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "missing field `{field}`"),
            Self::Unknown { detail, .. } | Self::Type(detail) | Self::Value(detail) => {
                f.write_str(detail)
            }
        }
    }
}

impl std::error::Error for Misfit {}

/// The sentences are serde's.
impl de::Error for Misfit {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Self::Value(detail.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::Type(Words::invalid_type(found, wanted).to_string())
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let detail = Words::unknown_field(field, known).to_string();
        Self::Unknown { field: field.to_owned(), detail }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// A deserialiser of a JSON value.
#[derive(Debug)]
pub struct Json {
    value: Value,
    from: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Request,
    Storage,
}

impl Json {
    /// Reads a request: unknown fields are faults.
    pub fn request(value: Value) -> Self {
        Self { value, from: From::Request }
    }

    /// Reads stored JSON of any release: what the type does not know is skipped or kept.
    pub fn stored(value: Value) -> Self {
        Self { value, from: From::Storage }
    }
}

impl<'de> Deserializer<'de> for Json {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let from = self.from;
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, Some(number)) => visitor.visit_f64(number),
                (None, None, None) => Err(Misfit::Value("a number out of range".to_owned())),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                let mut items = Items { left: items.into_iter(), from };
                let read = visitor.visit_seq(&mut items)?;
                match items.left.len() {
                    more if more > 0 && from == From::Request => {
                        Err(de::Error::invalid_length(more, &"fewer elements in array"))
                    }
                    _ => Ok(read),
                }
            }
            Value::Object(fields) => visitor.visit_map(Fields::of(fields, from)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match (self.from, name) {
            (From::Storage, FOREIGN) => visitor.visit_newtype_struct(self),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        if let (From::Storage, Value::Object(fields)) = (self.from, &mut self.value) {
            fields.retain(|name, _| known.contains(&name.as_str()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let from = self.from;
        match self.value {
            value if from == From::Storage && is_kept(name, variants, &value) => {
                visitor.visit_newtype_struct(Self { value, from })
            }
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            Value::Object(fields) => {
                let mut fields = fields.into_iter();
                match (fields.next(), fields.next()) {
                    (Some((name, value)), None) => {
                        visitor.visit_enum(Variant { name, content: Self { value, from } })
                    }
                    _ => Err(de::Error::invalid_value(Unexpected::Map, &"one field")),
                }
            }
            value => Self { value, from }.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// Whether the enum itself handles this value: a shape, or an unknown word.
fn is_kept(name: &str, variants: &[&str], value: &Value) -> bool {
    name == CHOICE || value.as_str().is_some_and(|word| !variants.contains(&word))
}

struct Items {
    left: std::vec::IntoIter<Value>,
    from: From,
}

impl<'de> SeqAccess<'de> for &mut Items {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let from = self.from;
        self.left.next().map(|value| seed.deserialize(Json { value, from })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// Yields `type` before the fields that depend on it, so that their faults have a pointer.
struct Fields {
    left: std::vec::IntoIter<(String, Value)>,
    value: Value,
    from: From,
}

impl Fields {
    fn of(fields: Map<String, Value>, from: From) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by_key(|(name, _)| name != "type");
        Self { left: fields.into_iter(), value: Value::Null, from }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        self.value = value;
        let name: StringDeserializer<Misfit> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        seed.deserialize(Json { value: self.value.take(), from: self.from })
    }
}

/// `{"prefix": "/pay"}`: the only field names the variant.
struct Variant {
    name: String,
    content: Json,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Misfit;
    type Variant = Json;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Json), Misfit> {
        let name: StringDeserializer<Misfit> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Json {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        de::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_struct("", fields, visitor)
    }
}
