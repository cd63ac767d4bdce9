//! What publishes with equal rules share.

use std::collections::HashMap;
use std::sync::Arc;

use imp_proto::{config as pb, policies};
use pb::policy::Kind;

use crate::auth_mode::AuthMode;
use crate::digest::{Digest, Hasher};
use crate::spec::Spec;
use crate::terms::Terms;

/// Access rules without what is a publish's own. The digest identifies them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AccessRules {
    gateway_id: Arc<str>,
    /// The terms of calls without a consumer: tenant, product and environment.
    public: Arc<Terms>,
    digest: Digest,
    /// Rates over all callers.
    rates: Box<[RouteRate]>,
    /// The rate of each route that has one, by its place in the list. Sorted by route.
    by_route: Box<[(Box<str>, usize)]>,
}

/// A rate that some routes share, over all callers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RouteRate {
    /// Distinct in the publish; the count continues while id and window stay the same.
    pub(crate) id: Box<str>,
    pub(crate) spec: Spec,
    pub(super) requests: u64,
    pub(super) window_seconds: u64,
}

/// The parts of rules.
pub(super) struct Parts<'a> {
    pub(super) gateway_id: &'a str,
    pub(super) tenant_id: &'a str,
    pub(super) product_id: &'a str,
    pub(super) environment: &'a str,
    pub(super) auth_mode: AuthMode,
}

impl From<&pb::Publish> for AccessRules {
    fn from(publish: &pb::Publish) -> Self {
        let auth_mode = match publish.auth_mode() {
            pb::publish::AuthMode::None => AuthMode::None,
            pb::publish::AuthMode::ApiKey => AuthMode::ApiKey,
            _ => AuthMode::Unsupported,
        };
        let parts = Parts {
            gateway_id: &publish.gateway_id,
            tenant_id: &publish.tenant_id,
            product_id: &publish.product_id,
            environment: &publish.environment,
            auth_mode,
        };
        let (rates, by_route) = route_rates(publish);
        Self::new(&parts, rates, by_route)
    }
}

impl AccessRules {
    /// `by_route` maps routes to places in `rates`; the last entry of a route counts.
    pub(super) fn new(
        parts: &Parts<'_>,
        rates: Vec<RouteRate>,
        by_route: HashMap<String, usize>,
    ) -> Self {
        let mut by_route: Box<[_]> =
            by_route.into_iter().map(|(route, rate)| (route.into_boxed_str(), rate)).collect();
        by_route.sort_unstable();
        let public = Terms {
            tenant_id: parts.tenant_id.into(),
            product_id: parts.product_id.into(),
            environment: parts.environment.into(),
            ..Terms::default()
        };
        Self {
            gateway_id: parts.gateway_id.into(),
            public: Arc::new(public),
            digest: digest(parts, &rates, &by_route),
            rates: rates.into(),
            by_route,
        }
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The terms of calls without a consumer.
    pub(crate) fn public(&self) -> &Arc<Terms> {
        &self.public
    }

    pub(crate) fn gateway_id(&self) -> &str {
        &self.gateway_id
    }

    pub(crate) fn rates(&self) -> &[RouteRate] {
        &self.rates
    }

    /// The place in the list of the route's rate, if it has one.
    pub(crate) fn rate_of(&self, route: &str) -> Option<usize> {
        let place = self.by_route.binary_search_by(|(other, _)| (**other).cmp(route)).ok()?;
        self.by_route.get(place).map(|(_, rate)| *rate)
    }

    /// The routes of a rate, in order.
    pub(super) fn routes_of(&self, rate: usize) -> impl Iterator<Item = &str> {
        self.by_route.iter().filter(move |(_, of)| *of == rate).map(|(route, _)| &**route)
    }
}

impl RouteRate {
    pub(super) fn new(id: &str, requests: u64, window_seconds: u64) -> Self {
        let spec = Spec::rate("route", requests, window_seconds);
        Self { id: id.into(), spec, requests, window_seconds }
    }
}

fn digest(parts: &Parts<'_>, rates: &[RouteRate], by_route: &[(Box<str>, usize)]) -> Digest {
    let owner = |hash: &mut Hasher| {
        [parts.gateway_id, parts.tenant_id, parts.product_id, parts.environment]
            .into_iter()
            .for_each(|text| hash.text(text));
    };
    let (mut of_owner, mut hash) = (Hasher::default(), Hasher::default());
    owner(&mut of_owner);
    owner(&mut hash);
    hash.text(parts.auth_mode.word());
    let mut routes_of = vec![Vec::new(); rates.len()];
    for (route, rate) in by_route {
        routes_of.get_mut(*rate).into_iter().for_each(|routes| routes.push(&**route));
    }
    let mut sorted: Vec<(&RouteRate, Vec<&str>)> = rates.iter().zip(routes_of).collect();
    sorted.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    for (rate, routes) in sorted {
        hash.text(&rate.id);
        hash.number(rate.requests);
        hash.number(rate.window_seconds);
        hash.number(routes.len() as u64);
        routes.into_iter().for_each(|route| hash.text(route));
    }
    Digest { mode: parts.auth_mode, owner: of_owner.finish_owner(), hash: hash.finish() }
}

/// One per policy: routes that name the same policy share its count.
fn route_rates(publish: &pb::Publish) -> (Vec<RouteRate>, HashMap<String, usize>) {
    let publish = policies::present(publish);
    let (mut rates, mut by_route) = (Vec::new(), HashMap::new());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for route in publish.api_services.iter().flat_map(|service| &service.routes) {
        // An index outside of the list is refused when the publish is rendered.
        for policy in policies::of_route(&publish.policies, route).flatten() {
            let Some(rate) = rate(policy) else { continue };
            let place = *places.entry(policy.id.as_str()).or_insert_with(|| {
                rates.push(RouteRate::new(&policy.id, rate.requests, rate.window_seconds));
                rates.len() - 1
            });
            by_route.insert(route.id.clone(), place);
        }
    }
    (rates, by_route)
}

fn rate(policy: &pb::Policy) -> Option<pb::RateLimit> {
    match &policy.kind {
        Some(Kind::RateLimit(rate)) => Some(*rate),
        // Enforced by Envoy. Each type is named, so that a new one does not compile before it is
        // handled.
        Some(
            Kind::RequestHeaders(_) | Kind::ResponseHeaders(_) | Kind::IpAccess(_) | Kind::Cors(_),
        )
        | None => None,
    }
}
