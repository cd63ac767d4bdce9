//! One connected Envoy.

use std::collections::HashMap;

use super::Key;

/// One connected Envoy and its verdicts.
#[derive(Debug)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// The gateway that it serves; None: all of them.
    pub gateway: Option<String>,
    /// Of Envoy.
    pub version: String,
    /// Unix milliseconds.
    pub connected_at_ms: i64,
    verdicts: HashMap<Key, Verdict>,
}

/// What an Envoy said last about a resource.
#[derive(Debug)]
pub(super) struct Verdict {
    version: String,
    /// None: it took it.
    words: Option<String>,
}

impl Verdict {
    pub(super) fn acked(version: &str) -> Self {
        Self { version: version.to_owned(), words: None }
    }

    pub(super) fn nacked(version: &str, words: &str) -> Self {
        Self { version: version.to_owned(), words: Some(words.to_owned()) }
    }
}

impl Node {
    /// One that has said nothing yet.
    pub fn new(id: &str, gateway: Option<String>, version: &str, connected_at_ms: i64) -> Self {
        let (id, version) = (id.to_owned(), version.to_owned());
        Self { id, gateway, version, connected_at_ms, verdicts: HashMap::new() }
    }

    /// Whether it serves this gateway.
    pub fn serves(&self, gateway: &str) -> bool {
        self.gateway.as_deref().is_none_or(|own| own == gateway)
    }

    pub(super) fn record(&mut self, key: &Key, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => self.verdicts.insert(key.clone(), verdict),
            None => self.verdicts.remove(key),
        };
    }

    /// True: has all of it. Err: refused one of them, in these words.
    pub(super) fn judges<'a>(
        &'a self,
        needs: &'a [(Key, String)],
    ) -> Result<bool, (&'a Key, &'a str)> {
        let mut all = true;
        for (key, version) in needs {
            match self.verdicts.get(key).filter(|verdict| verdict.version == *version) {
                Some(Verdict { words: Some(words), .. }) => return Err((key, words)),
                Some(Verdict { words: None, .. }) => {}
                None => all = false,
            }
        }
        Ok(all)
    }
}
