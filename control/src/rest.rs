//! The REST API: one router with the routes and their document.

pub mod actions;
pub mod api_services;
pub mod api_tokens;
pub mod body;
pub mod call;
pub mod client_apps;
pub mod clusters;
pub mod consumers;
pub mod credentials;
pub mod crud;
pub mod customers;
pub mod depth;
pub mod document;
pub mod domains;
pub mod edge;
pub mod entity;
pub mod gateways;
pub mod me;
pub mod param;
pub mod plans;
pub mod policy_types;
pub mod product_publishes;
pub mod products;
pub mod query;
pub mod refusals;
pub mod reply;
pub mod routes;
pub mod subscriptions;
pub mod tenants;
pub mod usage;

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::auth::authenticate;
use crate::problem::Problem;
use crate::rest::routes::Routes;
use crate::state::State;

/// Everything below `/v1`.
fn routes() -> Routes {
    let mut routes = Routes::default();
    me::mount(&mut routes);
    tenants::mount(&mut routes);
    api_tokens::mount(&mut routes);
    api_services::mount(&mut routes);
    gateways::mount(&mut routes);
    domains::mount(&mut routes);
    products::mount(&mut routes);
    plans::mount(&mut routes);
    policy_types::mount(&mut routes);
    clusters::mount(&mut routes);
    product_publishes::mount(&mut routes);
    customers::mount(&mut routes);
    subscriptions::mount(&mut routes);
    client_apps::mount(&mut routes);
    consumers::mount(&mut routes);
    credentials::mount(&mut routes);
    usage::mount(&mut routes);
    routes
}

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
    routes().document.finish()
}

/// The whole service.
pub fn router(state: State) -> Router {
    let Routes { router, document } = routes();
    let document: Arc<str> = document.finish().to_string().into();
    let openapi =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) };
    let docs = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    router
        .route("/openapi.json", get(openapi))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(docs)
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(CatchPanicLayer::custom(edge::panicked))
        .layer(middleware::from_fn(edge::edge))
        .with_state(state)
}

/// For operators only, because metrics cover every cluster.
async fn metrics(Shared(state): Shared<State>, headers: HeaderMap) -> Response {
    match authenticate(&state, &headers).await {
        Ok(caller) if caller.tenant_id.is_none() => imp_process::metrics::text().into_response(),
        Ok(_) => Problem::forbidden("metrics are for operators").into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Ready if the database accepts a write.
async fn ready(Shared(state): Shared<State>) -> Response {
    match state.readiness.check(&state.store).await {
        Ok(()) => "ready".into_response(),
        Err(problem) => problem.into_response(),
    }
}
