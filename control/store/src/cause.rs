//! What made a change.

/// The request or job behind a row of the outbox, and the trace that it belongs to. Empty texts are
/// unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The request's id, or the job's.
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
