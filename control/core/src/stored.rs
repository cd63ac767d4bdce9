//! Deserialises JSON that another release, older or newer, may have stored.
//!
//! What a caller sends is read strictly: an unknown field is a fault, since it would be without effect.
//! What is stored is read by the same types without that strictness ([`Json::stored`]): fields that this
//! release does not know are passed over, so that a newer release can add some while this one still runs. A
//! type of policy that it does not know is kept as it is ([`crate::policy::PolicyConfig::Unknown`]), and so
//! are words ([`NewerWord`]) and shapes ([`NewerChoice`]) that it does not know.

mod choice;
mod word;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::{Error, Value};

use crate::json::{FOREIGN, Json};

pub use choice::NewerChoice;
pub(crate) use choice::{Choice, choice, read_choice};
pub use word::{NewerWord, Word, read_word};
pub(crate) use word::{read_known, states, words};

/// Deserialises stored JSON.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    // Nearly always it has the shape of this release, for which strict reading is faster.
    let strict = match serde_json::from_str(json) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let value = serde_json::from_str(json)?;
    // The first error has the better position.
    T::deserialize(Json::stored(value)).map_err(|_| strict)
}

/// A part that this release does not know, kept unchanged; only stored JSON may have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign(pub(crate) Value);

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

/// Whether the field has its default, so that it is not written: former releases did not know it.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
