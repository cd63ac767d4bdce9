//! Reading JSON that a release stored, which may be an older or a newer one.
//!
//! What a caller sends is read strictly: an unknown field is a fault, since it would be without effect.
//! What is stored is read by the same types without that strictness: fields that this release does not
//! know are passed over, so that a newer release can add some while this one still runs. A type of
//! policy that it does not know is kept as it is ([`crate::policy::PolicyConfig::Unknown`]), and so is a
//! state that it does not know ([`Word`]).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::de::value::{self, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

/// Reads what was stored.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    // Nearly always it has the shape of this release, and the strict reading is the fast one.
    let strict = match serde_json::from_str(json) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let value = serde_json::from_str(json)?;
    // The former error knows the place.
    T::deserialize(Stored(value)).map_err(|_| strict)
}

/// An enum that is stored as a word.
pub trait Word: DeserializeOwned {
    /// What stands for a word of a newer release; None if it has no such variant.
    fn newer(_word: NewerWord) -> Option<Self> {
        None
    }
}

/// A word that this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewerWord(&'static str);

impl NewerWord {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// Reads a word that was stored.
pub fn read_word<T: Word>(text: &str) -> Result<T, value::Error> {
    let known: value::StrDeserializer<'_, value::Error> = text.into_deserializer();
    T::deserialize(known).or_else(|error| interned(text).and_then(T::newer).ok_or(error))
}

/// Reads a word of JSON. Of what is stored, one of a newer release is kept.
pub(crate) fn word<'de, T: Word + Copy, D: Deserializer<'de>>(
    deserializer: D,
    name: &'static str,
    words: &'static [&'static str],
    known: &[T],
) -> Result<T, D::Error> {
    struct Words<'k, T>(&'static str, &'static [&'static str], &'k [T]);

    impl<'de, T: Word + Copy> Visitor<'de> for Words<'_, T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "enum {}", self.0)
        }

        fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<T, A::Error> {
            let (word, content) = data.variant::<String>()?;
            content.unit_variant()?;
            let found = self.1.iter().zip(self.2).find(|(known, _)| **known == word);
            let unknown = || serde::de::Error::unknown_variant(&word, self.1);
            found.map(|(_, state)| *state).ok_or_else(unknown)
        }

        /// Only [`Stored`] asks for it.
        fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<T, D::Error> {
            let word = String::deserialize(of)?;
            let unknown = || serde::de::Error::unknown_variant(&word, self.1);
            interned(&word).and_then(T::newer).ok_or_else(unknown)
        }
    }

    deserializer.deserialize_enum(name, words, Words(name, words, known))
}

/// So many words of newer releases are kept, and none that is longer.
const WORDS: usize = 256;
const WORD_BYTES: usize = 64;

/// The word for as long as the process runs: states are `Copy`, and there are few of them.
fn interned(text: &str) -> Option<NewerWord> {
    static WORDS_SEEN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut seen = WORDS_SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(word) = seen.get(text) {
        return Some(NewerWord(word));
    }
    if text.is_empty() || text.len() > WORD_BYTES || seen.len() >= WORDS {
        return None;
    }
    let word: &'static str = Box::leak(text.to_owned().into_boxed_str());
    seen.insert(word);
    Some(NewerWord(word))
}

/// The states of something, or its kinds, which `as_str` names. To them comes the variant `Newer`: a word that a newer
/// release stored, which is kept as it is, and which no request can name.
macro_rules! states {
    (
        $(#[doc = $doc:expr])*
        $(#[derive($default:ident)])?
        pub enum $type:ident {
            $($(#[$about:meta])* $state:ident,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash $(, $default)?)]
        pub enum $type {
            $($(#[$about])* $state,)*
            /// Of a newer release. Nothing leads out of it here but the end of a key.
            Newer(crate::stored::NewerWord),
        }

        impl $type {
            /// The word that this release does not know, if it is one.
            pub fn newer_word(self) -> Option<&'static str> {
                if let Self::Newer(word) = self { Some(word.as_str()) } else { None }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                static WORDS: std::sync::LazyLock<Vec<&'static str>> =
                    std::sync::LazyLock::new(|| vec![$($type::$state.as_str()),*]);
                let known = &[$(Self::$state),*];
                crate::stored::word(deserializer, stringify!($type), &WORDS, known)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl crate::stored::Word for $type {
            fn newer(word: crate::stored::NewerWord) -> Option<Self> {
                Some(Self::Newer(word))
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let about: Vec<&str> = [$($doc),*].map(str::trim).to_vec();
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(about.join("\n")))
                    .enum_values(Some([$(Self::$state.as_str()),*]))
                    .into()
            }
        }

        impl utoipa::ToSchema for $type {}
    };
}
pub(crate) use states;

/// A part that only stored JSON may have: what this release does not know, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign(pub(crate) Value);

/// No deserializer of requests answers to this name.
const FOREIGN: &str = "imp_core::stored::Foreign";

impl<'de> Deserialize<'de> for Foreign {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept;
        impl<'de> Visitor<'de> for Kept {
            type Value = Foreign;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("something that this release knows")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Foreign, D::Error> {
                Value::deserialize(deserializer).map(Foreign)
            }
        }
        deserializer.deserialize_unit_struct(FOREIGN, Kept)
    }
}

/// A value from the database.
struct Stored(Value);

impl<'de> Deserializer<'de> for Stored {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(fields) => visitor.visit_map(Fields::of(fields)),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            FOREIGN => visitor.visit_newtype_struct(self.0),
            _ => self.0.deserialize_unit_struct(name, visitor),
        }
    }

    /// Without the fields that the type does not have.
    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Value::Object(fields) = &mut self.0 {
            fields.retain(|name, _| known.contains(&name.as_str()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(fields) if fields.len() == 1 => visitor.visit_enum(Choice(fields)),
            // What is no state has no use for it, and fails.
            Value::String(word) if !variants.contains(&word.as_str()) => {
                visitor.visit_newtype_struct(Value::String(word))
            }
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit seq
        tuple tuple_struct map identifier ignored_any
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Stored(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The type of something stands before what depends on it.
struct Fields {
    left: std::vec::IntoIter<(String, Value)>,
    value: Value,
}

impl Fields {
    fn of(fields: Map<String, Value>) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by_key(|(name, _)| name != "type");
        Self { left: fields.into_iter(), value: Value::Null }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        self.value = value;
        let name: StringDeserializer<Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Stored(self.value.take()))
    }
}

/// `{"prefix": "/pay"}`: the one field names the variant.
struct Choice(Map<String, Value>);

impl<'de> EnumAccess<'de> for Choice {
    type Error = Error;
    type Variant = Content;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content), Error> {
        let (name, value) = self.0.into_iter().next().unwrap_or_default();
        let name: StringDeserializer<Error> = name.into_deserializer();
        Ok((seed.deserialize(name)?, Content(value)))
    }
}

struct Content(Value);

impl<'de> VariantAccess<'de> for Content {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self.0)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Stored(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        Stored(self.0).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Stored(self.0).deserialize_struct("", fields, visitor)
    }
}

/// What is not written: a field of its default value, which former releases didn't have.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
