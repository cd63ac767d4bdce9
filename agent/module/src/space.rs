//! Memory for what Envoy lends: it is copied before the next call into Envoy, and almost always fits.

use std::borrow::Cow;

/// Bytes for the texts of one call: host, key, metadata. What does not fit is allocated.
const SIZE: usize = 768;

/// The memory of one call.
pub(crate) struct Space([u8; SIZE]);

/// What of it is free.
pub(crate) struct Free<'s>(&'s mut [u8]);

impl Space {
    pub(crate) fn new() -> Self {
        Self([0; SIZE])
    }

    pub(crate) fn free(&mut self) -> Free<'_> {
        Free(&mut self.0)
    }
}

impl<'s> Free<'s> {
    /// A copy of bytes as text. What is no text is replaced.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Cow<'s, str> {
        if bytes.len() > self.0.len() {
            return Cow::Owned(String::from_utf8_lossy(bytes).into_owned());
        }
        let (own, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        self.0 = rest;
        own.copy_from_slice(bytes);
        String::from_utf8_lossy(own)
    }
}

/// Adds a further value of a header, with a comma as Envoy tells them to other filters.
pub(crate) fn join(all: &mut Cow<'_, str>, value: &[u8]) {
    let all = all.to_mut();
    all.push(',');
    all.push_str(&String::from_utf8_lossy(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_side_by_side_and_beyond_the_space() {
        let mut space = Space::new();
        let mut free = space.free();
        let long = "x".repeat(SIZE - 8);
        let [first, second] = [b"a".as_slice(), long.as_bytes()].map(|bytes| free.text(bytes));
        let [third, fourth] = [b"12345678".as_slice(), b"\xff1"].map(|bytes| free.text(bytes));
        assert_eq!((first.as_ref(), second.as_ref(), third.as_ref()), ("a", &*long, "12345678"));
        assert_eq!(fourth, "\u{fffd}1");
        assert!(matches!((&second, &third), (Cow::Borrowed(_), Cow::Owned(_))));
        let mut joined = first;
        join(&mut joined, b"b\xff");
        assert_eq!(joined, "a,b\u{fffd}");
    }
}
