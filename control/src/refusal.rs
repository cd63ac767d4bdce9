//! Why an operation was refused, in the words of the domain. REST makes a problem document of it, in
//! one place ([`crate::problem`]).

use std::time::Duration;

use imp_core::scope::Forbidden;
use imp_core::{Transition, Violation};
use imp_store::StoreError;
use thiserror::Error;

/// Why an operation was refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The object does not exist, or it is another tenant's: the two look the same.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The input names an object that does not exist, or that is another tenant's.
    #[error("no such {noun}")]
    UnknownReference { pointer: String, noun: &'static str },
    /// The field was set at creation.
    #[error("{pointer} cannot be changed")]
    Immutable { pointer: String },
    /// The input can be read and is wrong.
    #[error("{} fields are wrong", .0.len())]
    Invalid(Vec<Violation>),
    /// Agents would not take an object of this size.
    #[error("{detail}")]
    TooLarge { pointer: String, detail: String },
    /// Something that would have to serve it cannot.
    #[error("{} parts cannot be served", .lacking.len())]
    Unsupported { code: &'static str, lacking: Vec<Violation> },
    /// The objects are not in the state for it, or a cap is reached.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String, pointer: Option<String> },
    /// The actor may not do it.
    #[error("{detail}")]
    Forbidden { detail: String, pointer: Option<String> },
    /// The actor or its tenant asks too fast.
    #[error("too many requests of this token or tenant; come again later")]
    RateLimited { wait: Duration },
    /// Too much of the tenant's work is under way.
    #[error("too much of this tenant is worked on already; come again later")]
    Busy,
    /// Something that the operation needs does not answer. `cause` is for the log.
    #[error("{detail}")]
    Unavailable { code: &'static str, detail: &'static str, cause: String },
    /// The database refused it or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours. The text is for the log.
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

    /// Says which field stands in the way. Only conflicts and missing permissions have none yet.
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
