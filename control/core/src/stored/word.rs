//! Words: states and kinds that are stored as text.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize as _;
use serde::de::{
    DeserializeOwned, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor, value,
};

/// An enum that is stored as a word.
pub trait Word: DeserializeOwned {
    /// The value for a newer release's word; `None` if the enum has no such variant.
    fn newer(_word: NewerWord) -> Option<Self> {
        None
    }
}

/// A word that this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewerWord(&'static str);

impl NewerWord {
    /// The stored text.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// Parses a stored word.
pub fn read_word<T: Word>(text: &str) -> Result<T, value::Error> {
    let known: value::StrDeserializer<'_, value::Error> = text.into_deserializer();
    T::deserialize(known).or_else(|error| interned(text).and_then(T::newer).ok_or(error))
}

/// Deserialises a word. An unknown one is kept if it was stored.
pub(crate) fn read_known<'de, T: Word + Copy, D: Deserializer<'de>>(
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

        /// Called for stored JSON only.
        fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<T, D::Error> {
            let word = String::deserialize(of)?;
            let unknown = || serde::de::Error::unknown_variant(&word, self.1);
            interned(&word).and_then(T::newer).ok_or_else(unknown)
        }
    }

    deserializer.deserialize_enum(name, words, Words(name, words, known))
}

/// How many words of newer releases are kept, and how long one may be.
const WORDS: usize = 256;
const WORD_BYTES: usize = 64;

/// Interns the word for the life of the process: states are `Copy`, and there are few of them.
pub(super) fn interned(text: &str) -> Option<NewerWord> {
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

/// Defines an enum of states or kinds with the words from `as_str`. Adds the variant `Newer` for a
/// word that a newer release stored, which is kept unchanged and which requests cannot use.
macro_rules! states {
    (
        $(#[doc = $doc:expr])*
        $(#[derive($default:ident)])?
        pub enum $type:ident {
            $($(#[$about:meta])* $state:ident,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash $(, $default)?)]
        pub enum $type {
            $($(#[$about])* $state,)*
            /// A newer release's word. No transition leaves it, except revoking a key.
            Newer(crate::stored::NewerWord),
        }

        impl $type {
            /// The word, if this release does not know it.
            pub fn newer_word(self) -> Option<&'static str> {
                if let Self::Newer(word) = self { Some(word.as_str()) } else { None }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                static WORDS: std::sync::LazyLock<Vec<&'static str>> =
                    std::sync::LazyLock::new(|| vec![$($type::$state.as_str()),*]);
                let known = &[$(Self::$state),*];
                crate::stored::read_known(deserializer, stringify!($type), &WORDS, known)
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

/// Like [`states!`], with the words beside the variants.
macro_rules! words {
    (
        $(#[$($about:tt)*])*
        pub enum $type:ident {
            $($(#[$($note:tt)*])* $word:ident = $text:literal,)*
        }
    ) => {
        crate::stored::states! {
            $(#[$($about)*])*
            pub enum $type {
                $($(#[$($note)*])* $word,)*
            }
        }

        impl $type {
            /// The word in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                    Self::Newer(word) => word.as_str(),
                }
            }
        }
    };
}
pub(crate) use words;
