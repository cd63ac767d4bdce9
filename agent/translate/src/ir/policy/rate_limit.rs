//! `rate_limit`.

use imp_proto::config as pb;

/// A rate over all callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Identifies the count: routes that name the same policy share one.
    pub id: String,
    /// Calls per window.
    pub requests: u64,
    pub window_seconds: u64,
}

pub(super) fn parse(id: String, message: &pb::RateLimit) -> RateLimit {
    let pb::RateLimit { requests, window_seconds } = *message;
    RateLimit { id, requests, window_seconds }
}
