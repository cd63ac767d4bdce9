//! One request as handlers see it: the caller, its scope, the path and the body.

use imp_core::tenant::Tenant;
use imp_store::Record as _;
use std::collections::HashMap;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use imp_core::scope::{Principal, TenantScope};
use imp_core::{Meta, TenantId};
use imp_grammar::caps;

use crate::admission::{Payer, SMALL};
use crate::operation::Operation;
use crate::problem::{Problem, version_mismatch};
use crate::rest::body::{self, Json};
use crate::rest::edge::REQUEST_ID;
use crate::rest::query::Query;
use crate::state::State;
use crate::workers::off_workers;

/// What a request costs in memory, as far as its head tells.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// The announced size of the body; `None` if it is not announced.
    body: Option<u64>,
    list: bool,
}

impl Weight {
    pub fn of(request: &Request, list: bool) -> Self {
        Self { body: http_body::Body::size_hint(request.body()).exact(), list }
    }

    /// A body is read, parsed and written again; for a list, a whole page may be in memory. A body
    /// that is announced as too large is not read at all.
    pub fn bytes(self) -> Result<usize, Problem> {
        let most = caps::BODY_BYTES.value;
        let body = self.body.unwrap_or(most);
        if body > most {
            return Err(too_large());
        }
        let page = if self.list { caps::PAGE_BYTES.size() } else { 0 };
        let body = usize::try_from(body).unwrap_or(usize::MAX).saturating_mul(4);
        Ok(body.max(page).max(SMALL))
    }
}

/// An authenticated and authorised request.
pub struct Call {
    pub state: State,
    pub principal: Principal,
    /// The operation, whose scope is what the caller may see of this kind of object.
    pub operation: Operation,
    pub query: Query,
    pub headers: HeaderMap,
    path: HashMap<String, String>,
    body: Bytes,
}

impl Call {
    /// Reads the whole request. Authentication and authorisation come before.
    pub async fn read(
        state: State,
        principal: Principal,
        scope: TenantScope,
        request: Request,
    ) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let raw = RawPathParams::from_request_parts(&mut parts, &state)
            .await
            .map_err(|_| Problem::not_found("object"))?;
        let path = raw.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let body = whole(body).await?;
        state.admission.charge(Payer::from(&principal), body.len());
        let headers = parts.headers;
        let mut operation = Operation::of_caller(&state, principal.clone(), scope);
        operation.request_id = request_id(&headers);
        Ok(Self { state, principal, operation, query, headers, path, body })
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.state.clock.now()
    }

    pub fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// Parses a path parameter that must be an id.
    pub fn path_id<T: FromStr>(&self, name: &str, noun: &'static str) -> Result<T, Problem> {
        self.path(name).parse().map_err(|_| Problem::not_found(noun))
    }

    /// The body as a JSON object.
    pub fn json(&self) -> Result<Json, Problem> {
        body::check_media_type(&self.headers)?;
        off_workers(self.body.len(), || Json::parse(&self.body))
    }

    /// Requires an empty body or `{}`.
    pub fn no_body(&self) -> Result<(), Problem> {
        if self.body.is_empty() {
            return Ok(());
        }
        match self.json()?.0.keys().next() {
            None => Ok(()),
            Some(key) => {
                let detail = "this operation takes no body".to_owned();
                Err(body::fault(&format!("/{key}"), "unknown_field", detail))
            }
        }
    }

    /// Narrows the scope to the tenant that the body or the query names; `NotFound` if the caller
    /// may not see it.
    pub fn within(&self, tenant: Option<TenantId>) -> Result<TenantScope, Problem> {
        let Some(tenant) = tenant else { return Ok(self.operation.scope) };
        self.operation.scope.within(tenant).ok_or_else(|| Problem::not_found("tenant"))
    }

    /// The tenant of a new object: the caller's own, or the one that an operator names.
    pub async fn owner(&self, named: Option<TenantId>) -> Result<(TenantId, TenantScope), Problem> {
        let scope = self.within(named)?;
        let Some(owner) = scope.tenant() else {
            let why = "an operator says for which tenant";
            return Err(Problem::invalid("/tenant_id", "required", why));
        };
        if self.operation.scope.tenant().is_none() {
            Tenant::get(&self.state.store, &scope, owner)
                .await?
                .ok_or_else(|| Problem::unknown_reference("/tenant_id", "tenant"))?;
        }
        Ok((owner, scope))
    }

    /// If `If-Match` is sent, it must name the current version (RFC 9110, section 13.1.1).
    pub fn precondition(&self, meta: &Meta) -> Result<(), Problem> {
        let sent = || self.headers.get_all(header::IF_MATCH).iter();
        let current = etag(meta.version);
        let holds = sent()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').map(str::trim).any(|tag| tag == "*" || tag == current));
        if sent().next().is_none() || holds { Ok(()) } else { Err(version_mismatch()) }
    }
}

/// The request id, which the edge sets on every request.
fn request_id(headers: &HeaderMap) -> String {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// Formats the version as an entity tag.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Reads the body within the limits of size and time.
async fn whole(body: Body) -> Result<Bytes, Problem> {
    let read = axum::body::to_bytes(body, caps::BODY_BYTES.size());
    match tokio::time::timeout(caps::BODY_TIME.time(), read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_length(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::unreadable("incomplete_body", "the body ended too early")),
        Err(_) => {
            let seconds = caps::BODY_TIME.time().as_secs();
            let detail = format!("the body did not come within {seconds} s");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

fn is_length(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

fn too_large() -> Problem {
    let detail = caps::BODY_BYTES.words();
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_is_given_up_at_its_time() {
        let began = tokio::time::Instant::now();
        let bytes = stream::unfold((), async |()| {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        let problem = whole(Body::from_stream(bytes)).await.unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (408, "body_timeout"));
        assert_eq!(began.elapsed(), caps::BODY_TIME.time());
    }
}
