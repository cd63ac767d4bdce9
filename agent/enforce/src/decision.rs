//! What is asked and what is answered.

use chrono::{DateTime, Utc};

/// One call at the door.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which publish the route belongs to; empty when the route did not say.
    pub publish_id: &'a str,
    /// Which route.
    pub route_id: &'a str,
    /// The value of `x-api-key`.
    pub api_key: Option<&'a str>,
    /// The header was there more than once.
    pub duplicate_key: bool,
    /// The time of the call.
    pub now: DateTime<Utc>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Goes to the upstream.
    Allow(Admission),
    /// Does not.
    Deny(Denial),
}

/// Headers of an admitted call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// For the upstream: `x-imp-consumer`, `x-imp-subscription`, `x-imp-customer`, `x-imp-plan`.
    /// Empty on a public publish.
    pub identity: Vec<(&'static str, String)>,
    /// For the caller: `ratelimit-policy`, `ratelimit`.
    pub response_headers: Vec<(&'static str, String)>,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status.
    pub status: u16,
    /// For programs: `unauthenticated`, `no_subscription`, `subscription_suspended`,
    /// `wrong_product`, `wrong_environment`, `rate_limited`, `quota_exceeded`,
    /// `publish_suspended`, `unknown_publish`, `unsupported_auth_mode`.
    pub code: &'static str,
    /// For people, one line.
    pub title: &'static str,
    /// For logs only: tells apart what callers must not be able to tell apart.
    pub log_reason: &'static str,
    /// For people: why the provider suspended the subscription.
    pub detail: Option<String>,
    /// Seconds after which it is worth trying again.
    pub retry_after: Option<u64>,
    /// For the caller: `retry-after`, `www-authenticate`, `ratelimit-policy`, `ratelimit`.
    pub response_headers: Vec<(&'static str, String)>,
}

impl Denial {
    /// The body: an RFC 9457 problem document.
    pub fn problem(&self, request_id: &str) -> String {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "request_id": request_id,
        });
        if let (Some(detail), Some(object)) = (&self.detail, body.as_object_mut()) {
            object.insert("detail".to_owned(), detail.clone().into());
        }
        body.to_string()
    }
}
