//! The nonces of a stream's responses, which the client answers with (R30).

use std::fmt;

/// A nonce: a number, in its shortest form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce(u64);

impl Nonce {
    /// Whether this is its text. The client may send anything.
    pub(super) fn is(self, text: &str) -> bool {
        !text.starts_with(['0', '+']) && text.parse() == Ok(self.0)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Generates unique nonces.
#[derive(Debug, Default)]
pub(super) struct Nonces(u64);

impl Nonces {
    pub(super) fn next(&mut self) -> Nonce {
        self.0 += 1;
        Nonce(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r30_a_nonce_is_its_own_text_and_no_other() {
        let mut nonces = Nonces::default();
        let (first, second) = (nonces.next(), nonces.next());
        assert!(first.is(&first.to_string()) && second.is("2"));
        for text in ["", "2", "01", "+1", " 1", "1 ", "-1", "1.0", "x", "99999999999999999999"] {
            assert!(!first.is(text), "{text}");
        }
    }
}
