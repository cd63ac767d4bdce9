//! Ids of the control plane in little memory: almost all of them are UUIDs.

use std::fmt;
use std::sync::Arc;

/// The length of a UUID in text.
const LENGTH: usize = 36;

/// Where a UUID has dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// An id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// A UUID in its usual form, in lower case.
    Uuid([u8; 16]),
    /// Any other text.
    Other(Arc<str>),
}

/// The text of an id.
#[derive(Debug)]
pub enum Text<'a> {
    Uuid([u8; LENGTH]),
    Other(&'a str),
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        uuid(text).map_or_else(|| Self::Other(text.into()), Self::Uuid)
    }
}

impl Default for Id {
    fn default() -> Self {
        Self::Other(Arc::default())
    }
}

impl Id {
    /// Its text, for as long as the id lives.
    pub fn text(&self) -> Text<'_> {
        match self {
            Self::Uuid(bytes) => Text::Uuid(written(*bytes)),
            Self::Other(text) => Text::Other(text),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Other(text) if text.is_empty())
    }
}

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            // Digits and dashes.
            Self::Uuid(text) => std::str::from_utf8(text).unwrap_or_default(),
            Self::Other(text) => text,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// The bytes of a UUID; `None` for any other text, and for any other form.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; LENGTH] = text.as_bytes().try_into().ok()?;
    let (mut bytes, mut at) = ([0; 16], 0);
    for (place, letter) in text.iter().enumerate() {
        if DASHES.contains(&place) {
            if *letter != b'-' {
                return None;
            }
            continue;
        }
        let digit = match letter {
            b'0'..=b'9' => letter - b'0',
            b'a'..=b'f' => letter - b'a' + 10,
            _ => return None,
        };
        let byte = bytes.get_mut(at / 2)?;
        *byte = *byte << 4 | digit;
        at += 1;
    }
    Some(bytes)
}

/// Where each byte of a UUID begins.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

fn written(bytes: [u8; 16]) -> [u8; LENGTH] {
    let mut text = [b'-'; LENGTH];
    let digit = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    for (at, byte) in PLACES.into_iter().zip(bytes) {
        if let Some([high, low]) = text.get_mut(at..at + 2) {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_comes_back_as_it_was() {
        let uuids =
            ["00000000-0000-0000-0000-000000000000", "0190a000-7000-8000-1234-56789abcdef0"];
        for text in uuids {
            let id = Id::from(text);
            assert!(matches!(id, Id::Uuid(_)), "{text}");
            assert_eq!((id.text().as_str(), id.to_string().as_str()), (text, text));
        }
        for text in [
            "",
            "sub",
            "0190A000-7000-8000-1234-56789ABCDEF0",
            "0190a000-7000-8000-1234-56789abcdef",
            "0190a000-7000-8000-1234-56789abcdefg",
            "0190a0007000-8000--1234-56789abcdef0",
            "0190a000-7000-8000-1234-56789abcdef00",
        ] {
            let id = Id::from(text);
            assert!(matches!(id, Id::Other(_)), "{text}");
            assert_eq!((id.text().as_str(), id.to_string().as_str()), (text, text));
        }
        assert!(size_of::<Id>() <= 24);
    }
}
