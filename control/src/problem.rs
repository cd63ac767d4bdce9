//! Error answers: RFC 9457 documents. Handlers return a [`Problem`]; the edge (`rest/edge.rs`)
//! writes it, because only the edge knows the request's path and id.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use imp_core::scope::Forbidden;
use imp_core::{ApiTokenId, Violation};
use imp_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::refusal::Refusal;

/// An error to be answered.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
    pub errors: Vec<Violation>,
    /// For the log, never for the caller.
    pub cause: Option<String>,
    /// Seconds after which trying again may help: `Retry-After`.
    pub retry_after: Option<u32>,
    /// The caller's valid token, for the log.
    pub token: Option<ApiTokenId>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let (errors, cause, retry_after, token) = (Vec::new(), None, None, None);
        Self { status, code, detail: detail.into(), errors, cause, retry_after, token }
    }

    /// The request itself cannot be read: 400.
    pub fn unreadable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "send a valid API token: Authorization: Bearer imp_pat_...",
        )
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: the object does not exist or is another tenant's; the answer is the same.
    pub fn not_found(noun: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {noun}"))
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: well-formed but invalid, with one fault.
    pub fn invalid(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::from_faults(vec![Violation {
            pointer: pointer.to_owned(),
            code,
            detail: detail.into(),
        }])
    }

    /// A body refers to an object that does not exist or is another tenant's.
    pub fn unknown_reference(pointer: &str, noun: &str) -> Self {
        let mut problem = Self::invalid(pointer, "unknown_reference", format!("no such {noun}"));
        problem.code = "unknown_reference";
        problem
    }

    pub fn immutable(pointer: &str) -> Self {
        let mut problem = Self::invalid(pointer, "immutable_field", "this field cannot be changed");
        problem.code = "immutable_field";
        problem
    }

    pub fn internal(cause: impl ToString) -> Self {
        let detail = "something went wrong here; the request id leads to the cause in the log";
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
        Self { cause: Some(cause.to_string()), ..problem }
    }

    /// 503: a temporary failure that is not the caller's fault.
    pub fn unavailable(code: &'static str, detail: &str, retry_after: u32, cause: String) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Self { cause: Some(cause), retry_after: Some(retry_after), ..problem }
    }

    /// Adds the time after which a retry may help, rounded up to whole seconds.
    pub fn after(self, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    /// 422: the faults of one body.
    fn from_faults(errors: Vec<Violation>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are wrong", many.len()),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// Converts a refusal or failure of the database.
    fn from_store(error: StoreError) -> Self {
        match error {
            StoreError::Taken { field } => {
                Self::conflict("name_taken", format!("this {field} is taken"))
                    .at(format!("/{field}"))
            }
            StoreError::InUse { by } => {
                Self::conflict("in_use", format!("{by} still refer to it; remove them first"))
            }
            StoreError::MissingReference { field } => {
                Self::unknown_reference(&format!("/{field}"), "object")
            }
            StoreError::VersionMismatch { .. } => version_mismatch(),
            StoreError::Unavailable(why) => {
                Self::unavailable("unavailable", "the database does not answer; try again", 1, why)
            }
            StoreError::StorageFull(why) => {
                let detail = "the database's disk is full or fails; nothing was changed";
                Self::unavailable("storage_full", detail, 5, why)
            }
            StoreError::Unconfirmed(why) => {
                let detail = "the database's disk did not confirm a change; it may be kept or lost";
                Self::unavailable("unavailable", detail, 5, why)
            }
            StoreError::Replaced(why) => {
                let detail = "the database's file was removed or replaced; nothing was changed";
                Self::unavailable("database_replaced", detail, 30, why)
            }
            other => Self::internal(other),
        }
    }

    /// Points at the field at fault.
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        let (code, detail) = (self.code, self.detail.clone());
        self.errors.push(Violation { pointer: pointer.into(), code, detail });
        self
    }
}

/// The only place where refusals of flows become answers.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        let pointed = |problem: Self, pointer: Option<String>| match pointer {
            Some(pointer) => problem.at(pointer),
            None => problem,
        };
        match refusal {
            Refusal::NotFound(noun) => Self::not_found(noun),
            Refusal::UnknownReference { pointer, noun } => Self::unknown_reference(&pointer, noun),
            Refusal::Immutable { pointer } => Self::immutable(&pointer),
            Refusal::Invalid(faults) => Self::from_faults(faults),
            Refusal::TooLarge { pointer, detail } => {
                Self { code: "too_large", ..Self::invalid(&pointer, "too_large", detail) }
            }
            Refusal::Unsupported { code, lacking } => Self { code, ..Self::from_faults(lacking) },
            Refusal::Conflict { code, detail, pointer } => {
                pointed(Self::conflict(code, detail), pointer)
            }
            Refusal::Forbidden { detail, pointer } => pointed(Self::forbidden(detail), pointer),
            Refusal::RateLimited { wait } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", words).after(wait)
            }
            Refusal::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_much_at_once", words)
                .after(Duration::from_secs(1)),
            Refusal::Unavailable { code, detail, cause } => {
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
                Self { cause: Some(cause), ..problem }
            }
            Refusal::Store(error) => Self::from_store(error),
            Refusal::Internal(cause) => Self::internal(cause),
        }
    }
}

/// Converts errors of REST's own transactions in the same way as refusals of flows.
macro_rules! as_refusal {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Refusal::from(error).into()
            }
        })*
    };
}
as_refusal!(Vec<Violation>, Forbidden, StoreError);

/// 412: `If-Match` named another version than the current one.
pub fn version_mismatch() -> Problem {
    let detail = "the object has changed since; get it again";
    Problem::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail)
}

/// The edge finds the problem in the extensions and writes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"imp-gateway\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of every answer of 400 and above (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:imp-gateway:problem:not_found")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// A stable word for programs.
    #[schema(example = "not_found")]
    pub code: String,
    /// Also in `X-Request-Id`; leads to the log.
    pub request_id: String,
    /// What is wrong with the body, field by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<Violation>,
}

impl ProblemDocument {
    pub fn new(problem: Problem, instance: &str, request_id: &str) -> Self {
        Self {
            kind: format!("urn:imp-gateway:problem:{}", problem.code),
            title: title(problem.code),
            status: problem.status.as_u16(),
            detail: problem.detail,
            instance: instance.to_owned(),
            code: problem.code.to_owned(),
            request_id: request_id.to_owned(),
            errors: problem.errors,
        }
    }
}

/// `name_taken` -> `Name taken`.
fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
