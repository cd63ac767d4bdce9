//! A target serves publishes: a connected Envoy.

use std::time::Duration;

/// Identifies a target's connection.
pub type TargetId = u64;

/// The controllers of Gateway API.
pub const GATEWAY_API: TargetId = TargetId::MAX;

/// A target, which accepts or rejects revisions.
#[derive(Debug)]
pub struct Target {
    pub id: String,
    /// The gateway that it serves; `None` for all.
    pub gateway: Option<String>,
    /// Envoy's version.
    pub version: String,
    /// Unix milliseconds.
    pub connected_at_ms: i64,
    /// Not an Envoy, but the controllers of Gateway API.
    pub(super) is_gateway_api: bool,
    /// When it connected and when it last answered, on the tracker's clock.
    pub(super) came: Duration,
    pub(super) heard: Duration,
}

/// A responsive Envoy answers within milliseconds, and one that takes in 10,000 hosts answers
/// continuously. An Envoy that is silent for this long is not waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

impl Target {
    /// A target without an answer yet.
    pub fn new(id: &str, gateway: Option<String>, version: &str, connected_at_ms: i64) -> Self {
        let (id, version) = (id.to_owned(), version.to_owned());
        let (came, heard) = (Duration::ZERO, Duration::ZERO);
        let is_gateway_api = false;
        Self { id, gateway, version, connected_at_ms, is_gateway_api, came, heard }
    }

    /// The controllers of Gateway API, which have all publishes that are delivered so.
    pub fn gateway_api() -> Self {
        Self { is_gateway_api: true, ..Self::new("gateway-api", None, "", 0) }
    }

    /// Whether it serves this gateway.
    pub fn serves(&self, gateway: &str) -> bool {
        self.gateway.as_deref().is_none_or(|own| own == gateway)
    }

    /// Whether it is an Envoy that serves this gateway.
    pub(super) fn is_envoy_of(&self, gateway: &str) -> bool {
        !self.is_gateway_api && self.serves(gateway)
    }

    /// Identifies it across connections. Includes the version, because another version of Envoy may
    /// decide differently.
    pub fn mark(&self) -> String {
        format!("{} {}", self.id, self.version)
    }

    /// When it will be silent about what has been wanted since then, if it says nothing until then.
    pub(super) fn silent_at(&self, wanted: Duration) -> Duration {
        let asked = self.came.max(wanted);
        (self.heard.max(asked) + ANSWER).min(asked + ANSWER * 4)
    }

    /// Whether it had enough time to answer about what has been wanted since then.
    pub(super) fn is_silent(&self, wanted: Duration, now: Duration) -> bool {
        let asked = self.came.max(wanted);
        let over = |since: Duration, limit| now.saturating_sub(since) >= limit;
        over(asked, ANSWER) && over(self.heard.max(asked), ANSWER) || over(asked, ANSWER * 4)
    }
}
