//! One connected Envoy.

use std::collections::HashMap;
use std::time::Duration;

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
    /// When it came and when it last said something, on the tracker's clock.
    pub(super) came: Duration,
    pub(super) heard: Duration,
    verdicts: HashMap<Key, Verdict>,
}

/// An Envoy that is there answers in milliseconds, and one that takes in 10,000 hosts says something
/// all the time. One that says nothing for so long is waited for no longer.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

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
        let (came, heard, verdicts) = (Duration::ZERO, Duration::ZERO, HashMap::new());
        Self { id, gateway, version, connected_at_ms, came, heard, verdicts }
    }

    /// Whether it serves this gateway.
    pub fn serves(&self, gateway: &str) -> bool {
        self.gateway.as_deref().is_none_or(|own| own == gateway)
    }

    /// Names it over its connections. Another version of Envoy may think otherwise.
    pub fn mark(&self) -> String {
        format!("{} {}", self.id, self.version)
    }

    /// It was given enough time for an answer about what has been wanted since then.
    pub(super) fn is_silent(&self, wanted: Duration, now: Duration) -> bool {
        let asked = self.came.max(wanted);
        let over = |since: Duration, limit| now.saturating_sub(since) >= limit;
        over(asked, ANSWER) && over(self.heard.max(asked), ANSWER) || over(asked, ANSWER * 4)
    }

    /// What it said about this version.
    pub(super) fn verdict(&self, key: &Key, version: &str) -> Option<bool> {
        let verdict = self.verdicts.get(key).filter(|verdict| verdict.version == version)?;
        Some(verdict.words.is_none())
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
