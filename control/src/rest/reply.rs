//! Answers: an object with its entity tag, a list, or nothing.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admission::Permit;
use crate::listen::Welcome;
use crate::problem::Problem;
use crate::rest::call::etag;

/// A handler's answer.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
    etag: Option<String>,
    location: Option<String>,
    /// Released when the last byte is written.
    room: Option<Permit>,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Send it as `page_token` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

impl Reply {
    pub fn ok(view: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(view).map_err(Problem::internal)?;
        Ok(Self {
            status: StatusCode::OK,
            body: Some(body),
            etag: None,
            location: None,
            room: None,
        })
    }

    /// Answers with an object and its version.
    pub fn object(view: &impl Serialize, version: i64) -> Result<Self, Problem> {
        Ok(Self { etag: Some(etag(version)), ..Self::ok(view)? })
    }

    /// Answers with a new object and its location.
    pub fn created(view: &impl Serialize, version: i64, path: String) -> Result<Self, Problem> {
        let object = Self::object(view, version)?;
        Ok(Self { status: StatusCode::CREATED, location: Some(path), ..object })
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn none() -> Self {
        let (status, body) = (StatusCode::NO_CONTENT, None);
        Self { status, body, etag: None, location: None, room: None }
    }

    /// A body that is already JSON.
    pub fn json(body: Vec<u8>) -> Self {
        let (status, body) = (StatusCode::OK, Some(body));
        Self { status, body, etag: None, location: None, room: None }
    }

    /// Holds its share of the memory until it is sent.
    pub fn holding(self, room: Permit) -> Self {
        Self { room: Some(room), ..self }
    }

    /// The size of the body.
    pub fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::len)
    }

    /// `If-None-Match` on a GET: 304 without a body.
    pub fn conditional(mut self, method: &Method, headers: &HeaderMap) -> Self {
        let Some(current) = self.etag.as_deref().filter(|_| *method == Method::GET) else {
            return self;
        };
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == current)
        });
        if known {
            self.status = StatusCode::NOT_MODIFIED;
            self.body = None;
        }
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let room = self.room;
        let held = |bytes: Vec<u8>| {
            let whole = Full::new(Bytes::from(bytes));
            // The closure lives as long as the body.
            Body::new(whole.map_frame(move |frame| {
                let _room = &room;
                frame
            }))
        };
        let body = self.body.map(held);
        let mut response = Response::new(body.unwrap_or_else(Body::empty));
        *response.status_mut() = self.status;
        // Handlers run only for authenticated callers.
        response.extensions_mut().insert(Welcome);
        let has_body = !matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let content_type = has_body.then(|| "application/json".to_owned());
        let headers = [
            (header::CONTENT_TYPE, content_type),
            (header::ETAG, self.etag),
            (header::LOCATION, self.location),
            // Answers are for this caller only.
            (header::CACHE_CONTROL, Some("private, no-cache".to_owned())),
        ];
        for (name, value) in headers {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
