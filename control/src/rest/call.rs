//! One request, as handlers see it: who asks, within which scope, for which path, with what.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use imp_core::scope::{Principal, TenantScope};
use imp_core::{Meta, TenantId};
use imp_store::tenant;

use crate::problem::{Problem, version_mismatch};
use crate::rest::body::{self, Json};
use crate::rest::query::Query;
use crate::state::State;

/// No body is larger than this.
const BODY_LIMIT: usize = 2 * 1024 * 1024;

/// An authenticated and authorised request.
pub struct Call {
    pub state: State,
    pub principal: Principal,
    /// What the caller may see of the kind of object that the operation is about.
    pub scope: TenantScope,
    pub query: Query,
    pub headers: HeaderMap,
    path: HashMap<String, String>,
    body: Bytes,
}

impl Call {
    /// Reads the whole request. Authentication and authorisation came before.
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
        let body = axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|_| too_large())?;
        Ok(Self { state, principal, scope, query, headers: parts.headers, path, body })
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.state.clock.now()
    }

    pub fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A path parameter that is an id and nothing else.
    pub fn path_id<T: FromStr>(&self, name: &str, noun: &str) -> Result<T, Problem> {
        self.path(name).parse().map_err(|_| Problem::not_found(noun))
    }

    /// The body as a JSON object, `null` prototypes and all.
    pub fn json(&self) -> Result<Json, Problem> {
        body::check_media_type(&self.headers)?;
        Json::parse(&self.body)
    }

    /// The body of an operation that takes none: nothing, or `{}`.
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

    /// The scope cut down to the tenant that the body or the query names. Another's does not exist.
    pub fn within(&self, tenant: Option<TenantId>) -> Result<TenantScope, Problem> {
        let Some(tenant) = tenant else { return Ok(self.scope) };
        self.scope.within(tenant).ok_or_else(|| Problem::not_found("tenant"))
    }

    /// The tenant that a new object belongs to: the caller's own, or the one an operator names.
    pub async fn owner(&self, named: Option<TenantId>) -> Result<(TenantId, TenantScope), Problem> {
        let scope = self.within(named)?;
        let Some(owner) = scope.tenant() else {
            let why = "an operator says for which tenant";
            return Err(Problem::invalid("/tenant_id", "required", why));
        };
        if self.scope.tenant().is_none() {
            tenant::get(&self.state.store, &scope, owner)
                .await?
                .ok_or_else(|| Problem::unknown_reference("/tenant_id", "tenant"))?;
        }
        Ok((owner, scope))
    }

    /// `If-Match`, when sent, must name the version there is (RFC 9110 13.1.1).
    pub fn precondition(&self, meta: &Meta) -> Result<(), Problem> {
        let sent = || self.headers.get_all(header::IF_MATCH).iter();
        let current = etag(meta.version);
        let holds = sent()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').map(str::trim).any(|tag| tag == "*" || tag == current));
        if sent().next().is_none() || holds { Ok(()) } else { Err(version_mismatch()) }
    }
}

/// The version as an entity tag.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

fn too_large() -> Problem {
    let detail = format!("at most {BODY_LIMIT} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}
