//! One table of all operations: each declares its route, its permission and its place in the
//! OpenAPI document together, so that none can be forgotten.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::routing::{MethodFilter, on};
use http::Method;
use imp_core::role::{Action, Kind};
use imp_core::scope::Principal;
use metrics::{SharedString, histogram};
use serde_json::Value;
use tracing::Span;

use crate::admission::Payer;
use crate::auth::authenticate;
use crate::problem::Problem;
use crate::rest::call::{Call, Weight};
use crate::rest::document::Document;
use crate::rest::param::{Param, is_paged};
use crate::rest::reply::Reply;
use crate::state::State;

/// An operation, as callers see it.
pub struct Op {
    /// Unique: `plans.create`.
    pub id: String,
    pub method: Method,
    pub path: String,
    pub summary: String,
    /// The permission needed; `None` if any valid token will do.
    pub needs: Option<(Kind, Action)>,
    /// All query parameters.
    pub query: Vec<Param>,
    /// The schema of the body, if it takes one.
    pub body: Option<Value>,
    /// The schema of the answer; `None` for 204.
    pub answer: Option<Value>,
    /// The status on success.
    pub status: u16,
    /// Whether it revokes or removes something.
    tightens: bool,
}

impl Op {
    fn new(id: String, method: Method, path: String, summary: String) -> Self {
        let (needs, query, body, answer, status) = (None, vec![], None, None, 200);
        Self { id, method, path, summary, needs, query, body, answer, status, tightens: false }
    }

    pub fn get(id: impl Into<String>, path: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(id.into(), Method::GET, path.into(), summary.into())
    }

    pub fn post(
        id: impl Into<String>,
        path: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        Self::new(id.into(), Method::POST, path.into(), summary.into())
    }

    pub fn put(id: impl Into<String>, path: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(id.into(), Method::PUT, path.into(), summary.into())
    }

    pub fn patch(
        id: impl Into<String>,
        path: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        Self::new(id.into(), Method::PATCH, path.into(), summary.into())
    }

    pub fn delete(
        id: impl Into<String>,
        path: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        let op = Self::new(id.into(), Method::DELETE, path.into(), summary.into());
        Self { status: 204, ..op.tightens() }
    }

    /// Marks an operation that revokes or removes something, so that it never waits for others.
    pub fn tightens(self) -> Self {
        Self { tightens: true, ..self }
    }

    pub fn needs(self, kind: Kind, action: Action) -> Self {
        Self { needs: Some((kind, action)), ..self }
    }

    pub fn query(mut self, params: &[Param]) -> Self {
        self.query.extend_from_slice(params);
        self
    }

    pub fn takes(self, schema: Value) -> Self {
        Self { body: Some(schema), ..self }
    }

    pub fn gives(self, status: u16, schema: Value) -> Self {
        Self { answer: Some(schema), status, ..self }
    }
}

/// Routes and their document.
#[derive(Default)]
pub struct Routes {
    pub router: Router<State>,
    pub document: Document,
}

impl Routes {
    /// Adds an operation on objects: the handler gets a call with the authorised scope.
    pub fn add<F, A>(&mut self, op: Op, handler: F)
    where
        F: Fn(Call) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        self.document.describe(&op);
        let filter = MethodFilter::try_from(op.method.clone()).unwrap_or(MethodFilter::GET);
        let rules = Arc::new(Rules {
            tightens: op.tightens,
            id: op.id.into(),
            needs: op.needs,
            query: op.query,
        });
        let serve = move |Shared(state): Shared<State>, request: Request| {
            let (handler, rules) = (handler.clone(), rules.clone());
            async move {
                Span::current().record("operation", &*rules.id);
                let started = Instant::now();
                let answer = rules.answer(state, request, handler).await;
                measure(rules.id.clone(), started, &answer);
                answer
            }
        };
        let router = std::mem::take(&mut self.router);
        self.router = router.route(&op.path, on(filter, serve));
    }
}

/// What is checked before the handler sees a request.
struct Rules {
    id: Arc<str>,
    needs: Option<(Kind, Action)>,
    query: Vec<Param>,
    tightens: bool,
}

impl Rules {
    async fn answer<F, A>(
        &self,
        state: State,
        request: Request,
        handler: F,
    ) -> Result<Reply, Problem>
    where
        F: Fn(Call) -> A,
        A: Future<Output = Result<Reply, Problem>>,
    {
        let principal = authenticate(&state, request.headers()).await?;
        let token = principal.token_id;
        let answer = self.admit(state, principal, request, handler).await;
        answer.map_err(|problem| Problem { token: Some(token), ..problem })
    }

    async fn admit<F, A>(
        &self,
        state: State,
        principal: Principal,
        request: Request,
        handler: F,
    ) -> Result<Reply, Problem>
    where
        F: Fn(Call) -> A,
        A: Future<Output = Result<Reply, Problem>>,
    {
        state.admission.count(&principal, self.tightens).await?;
        let scope = match self.needs {
            Some((kind, action)) => principal.authorise(kind, action)?,
            None => principal.own_scope(),
        };
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let payer = Payer::from(&principal);
        let bytes = Weight::of(&request, is_paged(&self.query)).bytes()?;
        // The turn comes first, so that a waiting request holds none of the tenant's memory.
        let _turn = state.admission.work(&scope, bytes).await?;
        let room = state.admission.room(principal.tenant_id, bytes).await?;
        let mut call = Call::read(state.clone(), principal, scope, request).await?;
        call.operation.tightens = self.tightens;
        call.query.check(&self.query)?;
        let reply = handler(call).await?;
        if method.is_safe() {
            // A power failure must not take back what was read. Writes have waited for their own.
            state.store.settled().await?;
        }
        // A 304 was read and written all the same, so it is charged.
        state.admission.charge(payer, reply.bytes());
        Ok(reply.conditional(&method, &headers).holding(room))
    }
}

fn measure(operation: Arc<str>, started: Instant, answer: &Result<Reply, Problem>) {
    let status = answer.as_ref().map_or_else(|problem| problem.status, Reply::status);
    let seconds = started.elapsed().as_secs_f64();
    let (operation, status) = (SharedString::from(operation), status.as_str().to_owned());
    histogram!("imp_http_request_seconds", "operation" => operation, "status" => status)
        .record(seconds);
}
