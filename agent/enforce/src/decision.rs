//! Decisions.

use crate::entitlement::Gap;
use crate::few::Few;
use crate::headers::Headers;
use crate::id::Id;
use crate::keys::BadKey;
use crate::limit::{self, Exceeded};

const UNSEEN_PLACE: &str = "unseen_place";
const GONE: &str = "publish_gone";

/// Headers of an admitted call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Headers for the upstream: `x-imp-consumer`, `x-imp-subscription`, `x-imp-customer`,
    /// `x-imp-plan`. Empty on a public publish.
    pub identity: Few<(&'static str, Id), 4>,
    /// Headers for the caller: `ratelimit-policy`, `ratelimit`.
    pub response_headers: Headers,
}

/// The reason why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status.
    pub status: u16,
    /// A word for programs: `unauthenticated`, `no_subscription`, `subscription_suspended`,
    /// `wrong_product`, `wrong_environment`, `wrong_publish`, `rate_limited`, `quota_exceeded`,
    /// `publish_suspended`, `unknown_publish`, `no_route`, `unsupported_auth_mode`.
    pub code: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// For logs only: distinguishes cases that callers must not be able to distinguish.
    pub log_reason: &'static str,
    /// For people: why the provider suspended the subscription.
    pub detail: Option<String>,
    /// Seconds after which a retry may succeed.
    pub retry_after: Option<u64>,
    /// Headers for the caller: `retry-after`, `www-authenticate`, `ratelimit-policy`, `ratelimit`.
    pub response_headers: Vec<(&'static str, String)>,
}

impl Denial {
    /// The body: an RFC 9457 problem document. For a 403 it also has the code as `reason`.
    pub fn problem(&self, request_id: &str) -> String {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "request_id": request_id,
        });
        if let Some(object) = body.as_object_mut() {
            if self.status == 403 {
                object.insert("reason".to_owned(), self.code.into());
            }
            if let Some(detail) = &self.detail {
                object.insert("detail".to_owned(), detail.clone().into());
            }
        }
        body.to_string()
    }

    /// The reason on one line.
    pub fn reason(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {}: {detail}", self.code, self.title),
            None => format!("{}: {}", self.code, self.title),
        }
    }

    fn new(status: u16, code: &'static str, title: &'static str) -> Self {
        Self {
            status,
            code,
            title,
            log_reason: code,
            detail: None,
            retry_after: None,
            response_headers: Vec::new(),
        }
    }

    /// The route names no publish that the engine knows.
    pub(crate) fn unknown_publish() -> Self {
        Self::new(403, "unknown_publish", "Unknown publish")
    }

    /// The publish has gone, and its route will: the answer is already that without a route.
    pub(crate) fn gone() -> Self {
        Self { log_reason: GONE, ..Self::new(404, "no_route", "No such route") }
    }

    /// As [`Self::unknown_publish`] for callers, at a place where no publish has been.
    pub(crate) fn unseen_place() -> Self {
        Self { log_reason: UNSEEN_PLACE, ..Self::unknown_publish() }
    }

    /// Whether another agent may know better: the route is of a publish that this one has never had.
    pub fn may_be_known_elsewhere(&self) -> bool {
        self.log_reason == UNSEEN_PLACE
    }

    pub(crate) fn publish_suspended() -> Self {
        Self::new(503, "publish_suspended", "Suspended")
    }

    pub(crate) fn unsupported_auth_mode() -> Self {
        Self::new(503, "unsupported_auth_mode", "This gateway cannot check the credential")
    }

    /// The same answer for all reasons, so that callers cannot tell them apart.
    pub(crate) fn unauthenticated(why: BadKey) -> Self {
        let log_reason = match why {
            BadKey::Missing => "missing_key",
            BadKey::Duplicate => "duplicate_key",
            BadKey::Malformed => "malformed_key",
            BadKey::Unknown => "unknown_key",
            BadKey::Expired => "expired_key",
        };
        let challenge =
            ("www-authenticate", r#"ApiKey realm="imp", header="X-API-Key""#.to_owned());
        Self {
            log_reason,
            response_headers: vec![challenge],
            ..Self::new(401, "unauthenticated", "A valid API key is required")
        }
    }

    pub(crate) fn no_subscription() -> Self {
        Self::not_entitled(Gap::NoSubscription, None)
    }

    pub(crate) fn not_entitled(gap: Gap, reason: Option<&str>) -> Self {
        match gap {
            Gap::NoSubscription => Self::new(403, "no_subscription", "No active subscription"),
            Gap::Suspended => Self {
                detail: reason.map(str::to_owned),
                ..Self::new(403, "subscription_suspended", "The subscription is suspended")
            },
            Gap::WrongProduct => {
                Self::new(403, "wrong_product", "The subscription is for another product")
            }
            Gap::WrongEnvironment => {
                Self::new(403, "wrong_environment", "The subscription is for another environment")
            }
            Gap::WrongPublish => {
                Self::new(403, "wrong_publish", "The subscription is for another publish")
            }
        }
    }

    pub(crate) fn limited(exceeded: Exceeded<'_>) -> Self {
        let (code, title) = if exceeded.quota {
            ("quota_exceeded", "The quota is used up")
        } else {
            ("rate_limited", "Too many requests")
        };
        let mut response_headers = vec![("retry-after", exceeded.retry_after.to_string())];
        let limits = limit::headers(exceeded.reports.iter());
        response_headers.extend(limits.iter().map(|(name, is)| (*name, is.as_str().to_owned())));
        Self {
            retry_after: Some(exceeded.retry_after),
            response_headers,
            ..Self::new(429, code, title)
        }
    }
}
