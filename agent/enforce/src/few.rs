//! Lists and texts that need no memory of their own as long as they are short: a call that passes
//! allocates nothing here.

use std::fmt;

/// A list, whose first items are in itself.
#[derive(Clone)]
pub struct Few<T, const N: usize> {
    first: [Option<T>; N],
    /// Once it has one, `first` is full.
    more: Vec<T>,
}

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { first: [const { None }; N], more: Vec::new() }
    }
}

impl<T, const N: usize> Few<T, N> {
    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(item),
            None => self.more.push(item),
        }
    }

    /// The items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.first.iter().flatten().chain(&self.more)
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().flatten().chain(&mut self.more)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<T, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut few = Self::default();
        few.extend(items);
        few
    }
}

impl<T, const N: usize> Extend<T> for Few<T, N> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for Few<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq<U>, U, const N: usize, const M: usize> PartialEq<[U; M]> for Few<T, N> {
    fn eq(&self, other: &[U; M]) -> bool {
        self.iter().count() == M && self.iter().zip(other).all(|(own, other)| own == other)
    }
}

impl<T: PartialEq, const N: usize> PartialEq for Few<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq, const N: usize> Eq for Few<T, N> {}

/// A text, which has a place of its own only if it is longer than `N`.
#[derive(Clone)]
pub struct Line<const N: usize>(Held<N>);

#[derive(Clone)]
enum Held<const N: usize> {
    Short { length: usize, bytes: [u8; N] },
    Long(String),
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self(Held::Short { length: 0, bytes: [0; N] })
    }
}

impl<const N: usize> Line<N> {
    /// Adds to its end.
    pub fn push_str(&mut self, text: &str) {
        if let Held::Short { length, bytes } = &mut self.0 {
            let end = *length + text.len();
            if let Some(place) = bytes.get_mut(*length..end) {
                place.copy_from_slice(text.as_bytes());
                *length = end;
                return;
            }
        }
        let mut long = match &mut self.0 {
            Held::Short { .. } => self.as_str().to_owned(),
            Held::Long(long) => std::mem::take(long),
        };
        long.push_str(text);
        self.0 = Held::Long(long);
    }

    /// Adds a letter.
    pub fn push(&mut self, letter: char) {
        self.push_str(letter.encode_utf8(&mut [0; 4]));
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Whole texts were copied.
            Held::Short { length, bytes } => {
                let bytes = bytes.get(..*length).unwrap_or_default();
                std::str::from_utf8(bytes).unwrap_or_default()
            }
            Held::Long(text) => text,
        }
    }
}

impl<const N: usize> fmt::Debug for Line<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> PartialEq for Line<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for Line<N> {}

impl<const N: usize> From<&str> for Line<N> {
    fn from(text: &str) -> Self {
        let mut line = Self::default();
        line.push_str(text);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_beyond_its_own_places() {
        for length in 0..6 {
            let mut few: Few<u32, 3> = (0..length).collect();
            assert!(few.iter().copied().eq(0..length));
            assert_eq!(few.is_empty(), length == 0);
            few.iter_mut().for_each(|number| *number += 1);
            assert!(few.iter().copied().eq(1..=length));
        }
        assert_eq!([1, 2].into_iter().collect::<Few<_, 1>>(), [1, 2]);
        assert_ne!([1, 2].into_iter().collect::<Few<_, 1>>(), [1]);
    }

    #[test]
    fn a_text_is_whole_whatever_its_length() {
        for (length, letter) in [(0, 'a'), (7, 'a'), (8, 'a'), (9, 'a'), (3, 'ä'), (5, 'ä')] {
            let (mut line, mut text) = (Line::<8>::default(), String::new());
            for _ in 0..length {
                line.push(letter);
                text.push(letter);
            }
            assert_eq!(line.as_str(), text);
            line.push_str("longer than eight");
            assert_eq!(line.as_str(), text + "longer than eight");
        }
    }
}
