//! What the engine knows of a publish.

use std::collections::HashMap;
use std::sync::Arc;

use imp_proto::config as pb;
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
            limits: publish.api_services.iter().flat_map(route_limits).collect(),
        }
    }
}

/// A route's rate takes the place of its service's.
fn route_limits(service: &pb::ApiService) -> Vec<RouteLimit> {
    let rate = |policies: &[pb::Policy]| {
        policies.iter().find_map(|policy| match &policy.kind {
            Some(Kind::RateLimit(rate)) => Some(*rate),
            // Envoy's. Each type is named, so that a new one does not compile before it is handled.
            Some(
                Kind::RequestHeaders(_)
                | Kind::ResponseHeaders(_)
                | Kind::IpAccess(_)
                | Kind::Cors(_),
            )
            | None => None,
        })
    };
    let limit = |id: String, rate: pb::RateLimit, routes| RouteLimit {
        id,
        requests: rate.requests,
        window_seconds: rate.window_seconds,
        routes,
    };
    let mut limits = Vec::new();
    let mut without = Vec::new();
    for route in &service.routes {
        match rate(&route.policies) {
            Some(own) => {
                limits.push(limit(format!("route/{}", route.id), own, vec![route.id.clone()]));
            }
            None => without.push(route.id.clone()),
        }
    }
    if let (Some(shared), false) = (rate(&service.policies), without.is_empty()) {
        limits.push(limit(format!("service/{}", service.id), shared, without));
    }
    limits
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
