//! Digests of access rules: routes name their rules by them.
//!
//! `<mode>.<owner>.<hash>`: the mode of authentication, 12 hexadecimal digits for the gateway and
//! the product, and 16 over everything that decides. Routes of a former release have no owner.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::auth_mode::AuthMode;

/// The hexadecimal digits of an owner and of a hash.
pub(crate) const OWNER: usize = 12;
const HASH: usize = 16;

/// Identifies access rules, in every process and build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest {
    pub(crate) mode: AuthMode,
    pub(crate) owner: u64,
    pub(crate) hash: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, owner, hash } = self;
        write!(f, "{}.{owner:0OWNER$x}.{hash:0HASH$x}", mode.word())
    }
}

/// The rules that a route names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    /// At least this is required, even if the rules are no longer known.
    pub(crate) mode: AuthMode,
    pub(crate) owner: Option<u64>,
    /// `None` if the text is not a digest.
    exact: Option<(AuthMode, u64)>,
}

impl Named {
    /// Reads the digest of a route. Never fails: a text that is not a digest names no rules.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('.');
        let word = parts.next().unwrap_or_default();
        let known = AuthMode::of_word(word);
        let (owner, hash) = match (parts.next(), parts.next(), parts.next()) {
            (Some(owner), Some(hash), None) => (hex(owner, OWNER), hex(hash, HASH)),
            (Some(hash), None, _) => (None, hex(hash, HASH)),
            _ => (None, None),
        };
        let mode = match owner {
            // A mode of a newer release.
            Some(_) => known.unwrap_or(AuthMode::Unsupported),
            None => known.unwrap_or(AuthMode::None),
        };
        Self { mode, owner, exact: known.zip(hash) }
    }

    /// Whether these are the named rules.
    pub(crate) fn is(&self, digest: &Digest) -> bool {
        self.exact == Some((digest.mode, digest.hash))
            && self.owner.is_none_or(|owner| owner == digest.owner)
    }
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let more = |number: u64, byte: u8| Some(number << 4 | u64::from(digit(byte)?));
    if text.len() != digits {
        return None;
    }
    text.bytes().try_fold(0, more)
}

/// A hash of texts and numbers.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Hashes the length first, so that different lists of texts never hash the same input.
    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    /// The first 64 bits.
    pub(crate) fn finish(self) -> u64 {
        let bytes = self.0.finalize();
        bytes.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }

    /// The first bits, as many as an owner has digits for.
    pub(crate) fn finish_owner(self) -> u64 {
        self.finish() >> (64 - 4 * OWNER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: Digest =
        Digest { mode: AuthMode::ApiKey, owner: 0xabc, hash: 0x88e7_2ffb_9af3_428e };

    #[test]
    fn a_digest_is_named_with_and_without_its_owner() {
        let text = DIGEST.to_string();
        assert_eq!(text, "api_key.000000000abc.88e72ffb9af3428e");
        assert!(Named::parse(&text).is(&DIGEST));
        assert!(Named::parse("api_key.88e72ffb9af3428e").is(&DIGEST), "a former release's");
        for other in [
            "",
            "api_key",
            "none.88e72ffb9af3428e",
            "api_key.88e72ffb9af3428f",
            "api_key.88E72FFB9AF3428E",
            "api_key.+8e72ffb9af3428e",
            "none.000000000abc.88e72ffb9af3428e",
            "api_key.000000000abd.88e72ffb9af3428e",
            "api_key.000000000abc.88e72ffb9af3428e.",
        ] {
            assert!(!Named::parse(other).is(&DIGEST), "{other}");
        }
    }

    #[test]
    fn a_route_requires_its_mode_whatever_else_it_says() {
        let mode = |text: &str| Named::parse(text).mode;
        assert_eq!(mode("api_key.what"), AuthMode::ApiKey);
        assert_eq!(mode("unsupported.0000000000000000"), AuthMode::Unsupported);
        assert_eq!(mode("jwt.000000000abc.88e72ffb9af3428e"), AuthMode::Unsupported);
        assert_eq!(mode("none.000000000abc.88e72ffb9af3428e"), AuthMode::None);
        assert_eq!(mode("0123456789abcdef"), AuthMode::None);
    }
}
