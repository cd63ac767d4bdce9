//! The names and versions of what is held.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A version: 32 hexadecimal digits of a hash in 16 bytes, or another text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    Hash([u8; 16]),
    Text(Box<str>),
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        let mut hash = [0; 16];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut hash) {
            Ok(()) if lower => Self::Hash(hash),
            _ => Self::Text(text.into()),
        }
    }
}

impl Version {
    fn text(&self) -> String {
        match self {
            Self::Hash(hash) => hex::encode(hash),
            Self::Text(text) => text.to_string(),
        }
    }
}

/// The resources of one kind.
#[derive(Debug, Default)]
pub(super) struct Versions {
    by_name: BTreeMap<Arc<str>, Version>,
}

impl Versions {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn insert(&mut self, name: &Arc<str>, version: &str) {
        self.by_name.insert(name.clone(), version.into());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// Gives all of them this version.
    pub(super) fn set_all(&mut self, version: &str) {
        self.by_name.values_mut().for_each(|known| *known = version.into());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (String, String)> {
        self.by_name.iter().map(|(name, version)| (name.to_string(), version.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_as_they_came() {
        let mut versions = Versions::default();
        let hash = "00112233445566778899aabbccddeeff";
        let texts = [hash, &hash.to_uppercase(), "unknown", "", &hash[1..], &format!("{hash}00")];
        for text in texts {
            versions.insert(&"a".into(), text);
            assert_eq!(versions.iter().collect::<Vec<_>>(), [("a".to_owned(), text.to_owned())]);
        }
        versions.set_all("unknown");
        assert_eq!(versions.iter().next().unwrap().1, "unknown");
        versions.remove("a");
        assert_eq!(versions.len(), 0);
    }
}
