//! One place where publishes are served: a connected Envoy.

use std::time::Duration;

/// Tells one connection of a target from another.
pub type TargetId = u64;

/// What takes or refuses revisions.
#[derive(Debug)]
pub struct Target {
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
}

/// An Envoy that is there answers in milliseconds, and one that takes in 10,000 hosts says something
/// all the time. One that says nothing for so long is waited for no longer.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

impl Target {
    /// One that has said nothing yet.
    pub fn new(id: &str, gateway: Option<String>, version: &str, connected_at_ms: i64) -> Self {
        let (id, version) = (id.to_owned(), version.to_owned());
        let (came, heard) = (Duration::ZERO, Duration::ZERO);
        Self { id, gateway, version, connected_at_ms, came, heard }
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
}
