//! Why an operation was refused, in terms of the domain. REST converts it to a problem document, in
//! one place ([`crate::problem`]).

use std::time::Duration;

use imp_core::scope::Forbidden;
use imp_core::{Transition, Violation};
use imp_store::StoreError;
use thiserror::Error;

/// Why an operation was refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The object does not exist, or is another tenant's; the two are not distinguished.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The input refers to an object that does not exist, or is another tenant's.
    #[error("no such {noun}")]
    UnknownReference { pointer: String, noun: &'static str },
    /// The field cannot change after creation.
    #[error("{pointer} cannot be changed")]
    Immutable { pointer: String },
    /// The input is well-formed but invalid.
    #[error("{} fields are wrong", .0.len())]
    Invalid(Vec<Violation>),
    /// The object is larger than agents accept.
    #[error("{detail}")]
    TooLarge { pointer: String, detail: String },
    /// An agent that would have to serve it does not support it.
    #[error("{} parts cannot be served", .lacking.len())]
    Unsupported { code: &'static str, lacking: Vec<Violation> },
    /// The objects are in the wrong state, or a cap is reached.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String, pointer: Option<String> },
    /// The actor is not allowed to do it.
    #[error("{detail}")]
    Forbidden { detail: String, pointer: Option<String> },
    /// The actor or its tenant sends too many requests.
    #[error("too many requests of this token or tenant; retry later")]
    RateLimited { wait: Duration },
    /// Too many of the tenant's requests are running.
    #[error("too many requests of this tenant are running; retry later")]
    Busy,
    /// A dependency does not answer. `cause` is for the log.
    #[error("{detail}")]
    Unavailable { code: &'static str, detail: &'static str, cause: String },
    /// The database refused it or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An internal error. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    /// One fault of the input.
    pub fn invalid(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.to_owned(), detail.into());
        Self::Invalid(vec![Violation { pointer, code, detail }])
    }

    pub fn unknown_reference(pointer: &str, noun: &'static str) -> Self {
        Self::UnknownReference { pointer: pointer.to_owned(), noun }
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict { code, detail: detail.into(), pointer: None }
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::Forbidden { detail: detail.into(), pointer: None }
    }

    pub fn internal(cause: impl ToString) -> Self {
        Self::Internal(cause.to_string())
    }

    /// Points at the field at fault. Only conflicts and missing permissions have none yet.
    pub fn at(self, field: impl Into<String>) -> Self {
        let pointer = Some(field.into());
        match self {
            Self::Conflict { code, detail, .. } => Self::Conflict { code, detail, pointer },
            Self::Forbidden { detail, .. } => Self::Forbidden { detail, pointer },
            other => other,
        }
    }
}

impl From<Vec<Violation>> for Refusal {
    fn from(faults: Vec<Violation>) -> Self {
        Self::Invalid(faults)
    }
}

impl From<Transition> for Refusal {
    fn from(refused: Transition) -> Self {
        Self::conflict("invalid_transition", refused.to_string())
    }
}

impl From<Forbidden> for Refusal {
    fn from(forbidden: Forbidden) -> Self {
        Self::forbidden(forbidden.to_string())
    }
}
