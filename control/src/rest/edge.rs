//! The outermost layer: request ids, one log line per request, and every error a problem document.

use std::any::Any;
use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use imp_process::traces;
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::problem::{Problem, ProblemDocument};
use crate::rest::refusals::{self, Refusal};

/// The header with the request's id, also in every answer and in audit rows.
pub const REQUEST_ID: &str = "x-request-id";

/// Wraps every request.
pub async fn edge(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let id_text = id.to_str().unwrap_or_default().to_owned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());

    let span = info_span!("request", %method, path, request_id = id_text, operation = Empty, status = Empty);
    let caller = request.headers().get(traces::TRACEPARENT).and_then(|value| value.to_str().ok());
    traces::follow(&span, caller.unwrap_or_default());

    let mut response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    if response.status().is_client_error() || response.status().is_server_error() {
        note_refusal(&response, method.as_str(), &path, &id_text);
        response = document(response, &path, &id_text);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    harden(&path, response.headers_mut());
    let (status, took) = (response.status().as_u16(), started.elapsed());
    tracing::debug!(%method, path, status, took_us = took.as_micros(), request_id = id_text, "request");
    response
}

/// Logs and counts failed authentication and authorisation.
fn note_refusal(response: &Response, method: &str, path: &str, request_id: &str) {
    let status = response.status().as_u16();
    if status == 401 || status == 403 {
        let token = response.extensions().get::<Problem>().and_then(|problem| problem.token);
        refusals::note(&Refusal { status, token, method, path, request_id });
    }
}

/// Sets security headers: browsers may do nothing with an answer but display the documentation
/// page.
fn harden(path: &str, headers: &mut HeaderMap) {
    let is_page = path == "/docs" || path.starts_with("/docs/");
    let policy = if is_page { PAGE_POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
    for (name, value) in [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The page's policy: its own scripts and styles, style attributes, requests to this server only.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The caller's own id if it is a plain word, otherwise a new one.
fn request_id(request: &Request) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    let sent = request.headers().get(REQUEST_ID).filter(plain).cloned();
    let fresh = || HeaderValue::try_from(Uuid::now_v7().to_string());
    sent.or_else(|| fresh().ok()).unwrap_or_else(|| HeaderValue::from_static("-"))
}

/// Replaces the body; keeps headers such as `Allow` and `WWW-Authenticate`.
fn document(response: Response, path: &str, id: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let problem = parts.extensions.remove::<Problem>().unwrap_or_else(|| bare(parts.status));
    if let Some(cause) = &problem.cause {
        tracing::error!(request_id = id, path, cause, "request failed");
    }
    let body = serde_json::to_vec(&ProblemDocument::new(problem, path, id)).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    let kind = HeaderValue::from_static("application/problem+json");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    Response::from_parts(parts, body.into())
}

/// The problem for errors from the router or a layer.
fn bare(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::new(status, "not_found", "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(status, "method_not_allowed", "see the Allow header")
        }
        other => Problem::new(other, "error", other.canonical_reason().unwrap_or("error")),
    }
}

/// Handles a panic in a handler; the panic hook has logged it.
pub fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal("a handler panicked").into_response()
}
