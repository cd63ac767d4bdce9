//! Shapes: enums whose variants hold something, `{"prefix": "/pay"}`.

use std::marker::PhantomData;

use serde::de::{Deserializer, EnumAccess, Visitor, value};
use serde::{Deserialize as _, Serialize, Serializer};
use serde_json::Value;

use super::word::{NewerWord, interned};
use crate::json::{CHOICE, Json};

/// A shape (`{"prefix": "/pay"}`) that a newer release stored and this one does not know. It is
/// shown and stored unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewerChoice {
    word: NewerWord,
    document: Value,
}

impl NewerChoice {
    /// The field that names the shape.
    pub fn word(&self) -> &'static str {
        self.word.as_str()
    }

    fn of(document: Value) -> Option<Self> {
        let word = match &document {
            Value::String(word) => word,
            Value::Object(fields) => fields.keys().next()?,
            _ => return None,
        };
        Some(Self { word: interned(word)?, document })
    }
}

impl Serialize for NewerChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document.serialize(serializer)
    }
}

/// An enum of shapes, one of which is [`NewerChoice`].
pub(crate) trait Choice: Sized {
    /// Deserialises the shapes that this release knows.
    fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    fn newer(newer: NewerChoice) -> Self;
}

/// Deserialises a shape. An unknown one is kept if it was stored.
pub(crate) fn read_choice<'de, T: Choice, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Shapes<T>(PhantomData<T>);

    impl<'de, T: Choice> Visitor<'de> for Shapes<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object with one field")
        }

        fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<T, A::Error> {
            T::known(value::EnumAccessDeserializer::new(data))
        }

        /// Called for stored JSON only.
        fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<T, D::Error> {
            let document = Value::deserialize(of)?;
            T::known(Json::stored(document.clone())).or_else(|error| {
                let newer = NewerChoice::of(document).map(T::newer);
                newer.ok_or_else(|| serde::de::Error::custom(error))
            })
        }
    }

    deserializer.deserialize_enum(CHOICE, &[], Shapes(PhantomData))
}

/// Implements serde's traits for an enum of shapes that is declared with
/// `#[serde(remote = "Self")]`.
macro_rules! choice {
    ($type:ident) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::stored::read_choice(deserializer)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    Self::Newer(newer) => serde::Serialize::serialize(newer, serializer),
                    known => Self::serialize(known, serializer),
                }
            }
        }

        impl crate::stored::Choice for $type {
            fn known<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }

            fn newer(newer: crate::stored::NewerChoice) -> Self {
                Self::Newer(newer)
            }
        }
    };
}
pub(crate) use choice;
