//! The cause of a change.

/// The request or job that caused an outbox row, and its trace. Empty texts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The id of the request or job.
    pub request_id: String,
    /// The W3C trace context, `00-<trace id>-<span id>-<flags>`.
    pub traceparent: String,
}

impl Cause {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.request_id.is_empty() && self.traceparent.is_empty()
    }
}
