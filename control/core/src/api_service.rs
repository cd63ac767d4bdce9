//! An API service: the definition of an API. It is independent of gateways and clusters.

use std::collections::{HashMap, HashSet};

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::Policy;
use crate::route::{Backend, Route};
use crate::stored::states;
use crate::upstream::UpstreamPolicy;
use crate::{
    ApiServiceId, BackendId, Check, Meta, TenantId, Transition, Violations, grammar, route_order,
};

/// The writable fields of an API service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiServiceSpec {
    /// Unique in the tenant together with `version`.
    #[schema(example = "payment-service")]
    pub name: String,
    /// The API's version, not the object's.
    #[serde(default = "first")]
    #[schema(example = "v1")]
    pub api_version: String,
    /// A description for people.
    #[serde(default)]
    pub description: String,
    /// Which calls go to which backend.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The upstreams.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Policies of the service or of single routes.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

fn first() -> String {
    "v1".to_owned()
}

impl Check for ApiServiceSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.take("api_version", grammar::name(&self.api_version));
        v.take("description", grammar::description(&self.description));
        // Counts come first, so that an input that is too large is not checked in detail.
        let counted = [
            v.at_most("routes", self.routes.len(), &caps::ROUTES_PER_SERVICE),
            v.at_most("backends", self.backends.len(), &caps::BACKENDS_PER_SERVICE),
            v.at_most("policies", self.policies.len(), &caps::POLICIES_PER_SERVICE),
            self.count_expressions(v),
        ];
        if counted.contains(&false) {
            return;
        }
        v.each("backends", &self.backends, |v, backend| backend.check(v));
        v.each("routes", &self.routes, |v, route| route.check(v));
        v.each("policies", &self.policies, |v, policy| policy.check(v));
        distinct(v, "backends", self.backends.iter().map(|b| b.name.as_str()));
        distinct(v, "routes", self.routes.iter().map(|r| r.name.as_str()));
        distinct(v, "policies", self.policies.iter().map(|p| p.name.as_str()));
        self.check_references(v);
        route_order::check(&self.routes, v);
    }
}

fn distinct<'a>(v: &mut Violations, list: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    v.within(list, |v| {
        for (index, name) in names.enumerate() {
            if !seen.insert(name) {
                let detail = format!("'{name}' is there already");
                v.within(index, |v| v.add("name", "duplicate_name", detail));
            }
        }
    });
}

impl ApiServiceSpec {
    /// A word that this release does not know, with its field. Unknown policy types are handled
    /// separately ([`crate::policy::PolicyConfig::Unknown`]).
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        let routes = self.routes.iter().find_map(Route::newer_word);
        let backends = || self.backends.iter().find_map(Backend::newer_word);
        let policies = || self.policies.iter().find_map(|policy| policy.config.newer_word());
        routes.or_else(backends).or_else(policies)
    }

    fn count_expressions(&self, v: &mut Violations) -> bool {
        let cap = &caps::REGEXES_PER_SERVICE;
        let expressions = self.routes.iter().map(Route::expressions).sum();
        if !cap.admits(expressions) {
            let detail = format!("at most {} regular expressions in a service", cap.value);
            v.add("routes", "too_many_regexes", detail);
        }
        cap.admits(expressions)
    }

    fn check_references(&self, v: &mut Violations) {
        let known = self.backend_names();
        v.each("routes", &self.routes, |v, route| {
            for (name, _) in route.weighted() {
                if !known.contains_key(name) {
                    v.add(
                        "backend_id",
                        "unknown_backend",
                        format!("no backend '{name}' in this service"),
                    );
                }
            }
        });
        let routes: HashSet<_> = self.routes.iter().map(|route| route.name.as_str()).collect();
        let mut taken = HashSet::new();
        v.each("policies", &self.policies, |v, policy| {
            let route = policy.route.as_deref();
            if route.is_some_and(|name| !routes.contains(name)) {
                v.add("route", "unknown_route", "no route of that name in this service");
            }
            if !taken.insert((policy.config.kind(), route)) {
                v.add("type", "duplicate_policy", "one policy of a type per service and per route");
            }
        });
    }

    /// The number of routes, backends, policies and parts of policies: a measure of the work it
    /// causes.
    pub fn parts(&self) -> usize {
        let policies: usize = self.policies.iter().map(|policy| 1 + policy.config.parts()).sum();
        self.routes.len() + self.backends.len() + policies
    }

    /// Checks that the deployment lets tenants use every upstream.
    pub fn check_upstreams(&self, policy: &UpstreamPolicy, v: &mut Violations) {
        v.each("backends", &self.backends, |v, backend| {
            v.each("endpoints", &backend.endpoints, |v, endpoint| {
                v.take("host", policy.check(&endpoint.host));
            });
        });
    }

    /// Maps the names and ids of backends, either of which routes may use.
    pub fn backend_names(&self) -> HashMap<String, BackendId> {
        let by_name = self.backends.iter().map(|b| (b.name.clone(), b.id));
        by_name.chain(self.backends.iter().map(|b| (b.id.to_string(), b.id))).collect()
    }

    /// Gives parts the ids that parts of the same name had before.
    pub fn keep_ids(&mut self, before: &Self) {
        let ids: HashMap<_, _> = before.backends.iter().map(|b| (b.name.as_str(), b.id)).collect();
        for backend in &mut self.backends {
            backend.id = ids.get(backend.name.as_str()).copied().unwrap_or(backend.id);
        }
        let ids: HashMap<_, _> = before.routes.iter().map(|r| (r.name.as_str(), r.id)).collect();
        for route in &mut self.routes {
            route.id = ids.get(route.name.as_str()).copied().unwrap_or(route.id);
        }
        let ids: HashMap<_, _> = before.policies.iter().map(|p| (p.name.as_str(), p.id)).collect();
        for policy in &mut self.policies {
            policy.id = ids.get(policy.name.as_str()).copied().unwrap_or(policy.id);
        }
    }
}

/// An API service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiService {
    /// The service's unique id.
    pub id: ApiServiceId,
    /// The tenant that owns it.
    pub tenant_id: TenantId,
    /// Its state in the life cycle.
    pub status: ApiServiceStatus,
    /// Counts the changes of `spec`. A publish holds a frozen copy of one revision.
    pub revision: i64,
    #[serde(flatten)]
    pub spec: ApiServiceSpec,
    #[serde(flatten)]
    pub meta: Meta,
}

states! {
    /// draft -> published -> deprecated -> retired; blocked by an operator from any but retired.
    pub enum ApiServiceStatus {
        /// Never published.
        Draft,
        /// In at least one publish, now or earlier.
        Published,
        /// Still served, but enters no new publish.
        Deprecated,
        /// Retired; final.
        Retired,
    }
}

impl ApiServiceStatus {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
        }
    }

    /// Enters a publish.
    pub fn publish(self) -> Result<Self, Transition> {
        match self {
            Self::Draft | Self::Published => Ok(Self::Published),
            _ => Err(self.refuse("published")),
        }
    }

    /// Enters no new publishes from now on.
    pub fn deprecate(self) -> Result<Self, Transition> {
        match self {
            Self::Published => Ok(Self::Deprecated),
            _ => Err(self.refuse("deprecated")),
        }
    }

    /// Retires it; the caller ensures that nothing serves it.
    pub fn retire(self) -> Result<Self, Transition> {
        match self {
            Self::Draft | Self::Deprecated => Ok(Self::Retired),
            _ => Err(self.refuse("retired")),
        }
    }

    fn refuse(self, to: &'static str) -> Transition {
        Transition { kind: "API service", from: self.as_str(), to }
    }
}
