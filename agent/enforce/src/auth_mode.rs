//! How callers authenticate.

use serde::{Deserialize, Serialize};

/// How callers authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuthMode {
    /// No authentication.
    None,
    /// A key.
    ApiKey,
    /// A mode that this engine does not know: every call is refused.
    Unsupported,
}

impl AuthMode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ApiKey => "api_key",
            Self::Unsupported => "unsupported",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::None, Self::ApiKey, Self::Unsupported].into_iter().find(|mode| mode.word() == word)
    }

    /// The stricter of the two.
    pub(crate) fn or_stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unsupported, _) | (_, Self::Unsupported) => Self::Unsupported,
            (Self::ApiKey, _) | (_, Self::ApiKey) => Self::ApiKey,
            (Self::None, Self::None) => Self::None,
        }
    }
}
