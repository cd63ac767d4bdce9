//! What the engine knows of a publish.

use std::collections::HashMap;
use std::sync::Arc;

use imp_proto::{config as pb, policies};
use pb::policy::Kind;

use crate::account::Home;
use crate::ledger::Ledger;
use crate::limit::{Limit, Spec};

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Public.
    None,
    /// A key.
    ApiKey,
    /// A way that this engine does not know: every call is refused.
    Unsupported,
}

/// Who may call a publish, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishAccess {
    /// Its id.
    pub publish_id: String,
    /// The gateway that serves it.
    pub gateway_id: String,
    /// Its owner.
    pub tenant_id: String,
    /// The product that it publishes.
    pub product_id: String,
    /// The environment that it is in.
    pub environment: String,
    /// How callers prove who they are.
    pub auth_mode: AuthMode,
    /// Answers 503 to everyone.
    pub suspended: bool,
    /// Rates over all callers.
    pub limits: Vec<RouteLimit>,
}

/// A rate that some routes share, over all callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLimit {
    /// Distinct in the publish; the count goes on while id and rate stay.
    pub id: String,
    /// Calls per window.
    pub requests: u64,
    /// The window.
    pub window_seconds: u64,
    /// Ids of the routes.
    pub routes: Vec<String>,
}

impl From<&pb::Publish> for PublishAccess {
    fn from(publish: &pb::Publish) -> Self {
        let auth_mode = match publish.auth_mode() {
            pb::publish::AuthMode::None => AuthMode::None,
            pb::publish::AuthMode::ApiKey => AuthMode::ApiKey,
            _ => AuthMode::Unsupported,
        };
        Self {
            publish_id: publish.id.clone(),
            gateway_id: publish.gateway_id.clone(),
            tenant_id: publish.tenant_id.clone(),
            product_id: publish.product_id.clone(),
            environment: publish.environment.clone(),
            auth_mode,
            suspended: publish.suspended,
            limits: route_limits(publish),
        }
    }
}

/// One per policy: the routes that name the same one share its count.
fn route_limits(publish: &pb::Publish) -> Vec<RouteLimit> {
    let publish = policies::present(publish);
    let mut limits: Vec<RouteLimit> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for route in publish.api_services.iter().flat_map(|service| &service.routes) {
        // A place that is not on the list is refused by who renders the publish.
        for policy in policies::of_route(&publish.policies, route).flatten() {
            let Some(rate) = rate(policy) else { continue };
            let place = *places.entry(policy.id.as_str()).or_insert_with(|| {
                limits.push(RouteLimit {
                    id: policy.id.clone(),
                    requests: rate.requests,
                    window_seconds: rate.window_seconds,
                    routes: Vec::new(),
                });
                limits.len() - 1
            });
            if let Some(limit) = limits.get_mut(place) {
                limit.routes.push(route.id.clone());
            }
        }
    }
    limits
}

fn rate(policy: &pb::Policy) -> Option<pb::RateLimit> {
    match &policy.kind {
        Some(Kind::RateLimit(rate)) => Some(*rate),
        // Envoy's. Each type is named, so that a new one does not compile before it is handled.
        Some(
            Kind::RequestHeaders(_) | Kind::ResponseHeaders(_) | Kind::IpAccess(_) | Kind::Cors(_),
        )
        | None => None,
    }
}

/// A publish with the state of its rates.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) id: Arc<str>,
    pub(crate) publish: PublishAccess,
    limits: HashMap<String, Limit>,
    /// Route to limit.
    by_route: HashMap<String, String>,
}

impl Access {
    /// Takes over the state of rates that did not change, from before or from the ledger.
    pub(crate) fn new(
        publish: PublishAccess,
        before: Option<&Self>,
        ledger: Option<&Arc<dyn Ledger>>,
    ) -> Self {
        let mut limits = HashMap::with_capacity(publish.limits.len());
        let mut by_route = HashMap::new();
        for limit in &publish.limits {
            let spec = Spec::rate("route", limit.requests, limit.window_seconds);
            let old = before.and_then(|before| before.limits.get(&limit.id));
            let owner = || format!("{}/{}/{}", publish.publish_id, limit.id, limit.requests);
            let home = ledger.map(|ledger| Home::new(ledger, &owner()));
            limits.insert(limit.id.clone(), Limit::new(spec, old, home));
            by_route.extend(limit.routes.iter().map(|route| (route.clone(), limit.id.clone())));
        }
        Self { id: publish.publish_id.as_str().into(), publish, limits, by_route }
    }

    /// Brings its counts to the ledger, also what it had no room for before.
    pub(crate) fn keep_all(&self) {
        self.limits.values().for_each(Limit::keep_all);
    }

    /// The rate of a route, if it has one.
    pub(crate) fn limit(&self, route_id: &str) -> Option<&Limit> {
        self.limits.get(self.by_route.get(route_id)?)
    }
}
