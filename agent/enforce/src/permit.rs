//! The second phase of a decision: the end of an admitted call.

use std::fmt;
use std::time::Duration;

use crate::decision::Admission;
use crate::headers::Headers;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// Bytes of the bodies of request and response together.
        bytes: u64,
        /// From the decision to the last byte.
        duration: Duration,
    },
    /// Not reported: the ext_authz service hears nothing after its answer, or the call was
    /// abandoned.
    Unknown,
}

/// Is notified when a call ends, in whatever way: to release a slot, or to count bytes.
pub trait OnFinish: fmt::Debug + Send + Sync {
    /// Called once.
    fn finished(self: Box<Self>, outcome: Outcome);
}

/// The right to make one call. It ends with [`Permit::finish`]; dropping it counts as an unknown
/// outcome, so nothing that was taken for the call stays taken.
#[derive(Debug)]
#[must_use = "a permit that is dropped is over"]
pub struct Permit {
    admission: Admission,
    on_finish: Vec<Box<dyn OnFinish>>,
}

impl Permit {
    pub(crate) fn new(admission: Admission) -> Self {
        Self { admission, on_finish: Vec::new() }
    }

    /// The headers of the call.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Takes the headers for the caller, who is answered long after the decision.
    pub fn take_response_headers(&mut self) -> Headers {
        std::mem::take(&mut self.admission.response_headers)
    }

    /// Adds a receiver for the end of the call.
    pub fn and(mut self, on_finish: impl OnFinish + 'static) -> Self {
        self.on_finish.push(Box::new(on_finish));
        self
    }

    /// Whether anybody wants to know how the call ends.
    pub fn is_awaited(&self) -> bool {
        !self.on_finish.is_empty()
    }

    /// Ends the call.
    pub fn finish(mut self, status: u16, bytes: u64, duration: Duration) {
        self.tell(Outcome::Answered { status, bytes, duration });
    }

    fn tell(&mut self, outcome: Outcome) {
        self.on_finish.drain(..).for_each(|on_finish| on_finish.finished(outcome));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tell(Outcome::Unknown);
    }
}
