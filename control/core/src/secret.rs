//! Secrets for callers: generated here, shown once, stored as a hash.
//!
//! The text is `imp_<kind>_<30 base62><6 base62>`: a prefix that secret scanners find, about 178
//! random bits, and a CRC-32 that refuses a typing error without a look-up. Because the text is that
//! random, SHA-256 is enough; a slow hash would only slow the gateway.

use std::fmt;

use rand::Rng as _;
use sha2::{Digest, Sha256};

/// The kinds of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A bearer token of the REST API.
    ApiToken,
    /// A token that registers one agent.
    Registration,
    /// A consumer's API key.
    ApiKey,
}

impl SecretKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::ApiToken => "imp_pat_",
            Self::Registration => "imp_reg_",
            Self::ApiKey => "imp_key_",
        }
    }
}

/// The SHA-256 of a secret's text: all that is ever stored or sent on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Hashes the text as a caller presents it.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// Prints nothing: not even the hash belongs in a log.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// The system's cryptographic random source.
#[expect(clippy::disallowed_methods, reason = "the one place of the domain that asks the system")]
pub(crate) fn rng() -> rand::rngs::ThreadRng {
    rand::rng()
}

/// A new secret. Its text is for the caller only.
pub struct Secret {
    text: String,
}

impl Secret {
    /// Generates a secret.
    pub fn new(kind: SecretKind) -> Self {
        let mut rng = rng();
        let random: String =
            (0..30).map(|_| char::from(ALPHABET[rng.random_range(0..62)])).collect();
        let check = base62(crc32(random.as_bytes()));
        Self { text: format!("{}{random}{check}", kind.prefix()) }
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The hash, to be stored.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.text)
    }

    /// The kind and the first four random characters, to recognise it.
    pub fn prefix(&self) -> &str {
        &self.text[..12]
    }

    /// The last four characters.
    pub fn last4(&self) -> &str {
        &self.text[self.text.len() - 4..]
    }
}

/// Checks the shape and checksum of a secret of this kind.
pub fn is_well_formed(kind: SecretKind, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(kind.prefix()) else { return false };
    if rest.len() != 36 || !rest.is_ascii() {
        return false;
    }
    let (random, check) = rest.split_at(30);
    base62(crc32(random.as_bytes())) == check
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn base62(mut number: u32) -> String {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits.iter().map(|&d| char::from(d)).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_crc32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_secret_is_recognised_and_a_changed_one_is_not() {
        let secret = Secret::new(SecretKind::ApiKey);
        assert!(is_well_formed(SecretKind::ApiKey, secret.reveal()));
        assert!(!is_well_formed(SecretKind::ApiToken, secret.reveal()));
        let mut changed = secret.reveal().to_owned();
        let last = if changed.ends_with('0') { "1" } else { "0" };
        changed.replace_range(changed.len() - 1.., last);
        assert!(!is_well_formed(SecretKind::ApiKey, &changed));
        assert!(!is_well_formed(SecretKind::ApiKey, "imp_key_ü"));
    }
}
