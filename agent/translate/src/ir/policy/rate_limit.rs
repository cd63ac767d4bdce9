//! `rate_limit`.

use imp_proto::config as pb;

/// How often all callers together may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What it is counted by: routes that name the same policy share one count.
    pub id: String,
    /// Calls per window.
    pub requests: u64,
    /// The window.
    pub window_seconds: u64,
}

pub(super) fn parse(id: String, message: &pb::RateLimit) -> RateLimit {
    let pb::RateLimit { requests, window_seconds } = *message;
    RateLimit { id, requests, window_seconds }
}
