//! An API service: the blueprint of an API. It knows no gateway and no cluster.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::Policy;
use crate::route::{Backend, Route};
use crate::upstream::UpstreamPolicy;
use crate::{ApiServiceId, BackendId, Check, Meta, TenantId, Transition, Violations, grammar};

/// What a caller writes of an API service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiServiceSpec {
    /// With `version`, unique in the tenant.
    #[schema(example = "payment-service")]
    pub name: String,
    /// The API's version, not the object's.
    #[serde(default = "first")]
    #[schema(example = "v1")]
    pub api_version: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Which calls go where.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The upstreams.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Of the service or of single routes.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

fn first() -> String {
    "v1".to_owned()
}

/// Limits of one service, so that one tenant cannot fill a gateway.
const MAX_ROUTES: usize = 500;
const MAX_BACKENDS: usize = 100;
const MAX_POLICIES: usize = 500;

impl Check for ApiServiceSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.take("api_version", grammar::name(&self.api_version));
        v.take("description", grammar::text(&self.description, 4000));
        at_most(v, "routes", self.routes.len(), MAX_ROUTES);
        at_most(v, "backends", self.backends.len(), MAX_BACKENDS);
        at_most(v, "policies", self.policies.len(), MAX_POLICIES);
        v.each("backends", &self.backends, |v, backend| backend.check(v));
        v.each("routes", &self.routes, |v, route| route.check(v));
        v.each("policies", &self.policies, |v, policy| policy.check(v));
        distinct(v, "backends", self.backends.iter().map(|b| b.name.as_str()));
        distinct(v, "routes", self.routes.iter().map(|r| r.name.as_str()));
        distinct(v, "policies", self.policies.iter().map(|p| p.name.as_str()));
        self.check_references(v);
    }
}

fn at_most(v: &mut Violations, list: &str, length: usize, max: usize) {
    if length > max {
        v.add(list, "too_many", format!("at most {max}"));
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
        let mut taken = HashSet::new();
        v.each("policies", &self.policies, |v, policy| {
            let route = policy.route.as_deref();
            if route.is_some_and(|name| self.routes.iter().all(|r| r.name != name)) {
                v.add("route", "unknown_route", "no route of that name in this service");
            }
            if !taken.insert((policy.config.kind(), route)) {
                v.add("type", "duplicate_policy", "one policy of a type per service and per route");
            }
        });
    }

    /// Whether every upstream is one that the deployment lets tenants reach.
    pub fn check_upstreams(&self, policy: &UpstreamPolicy, v: &mut Violations) {
        v.each("backends", &self.backends, |v, backend| {
            v.each("endpoints", &backend.endpoints, |v, endpoint| {
                v.take("host", policy.check(&endpoint.host));
            });
        });
    }

    /// Backends by name and by id, which is how routes refer to them.
    pub fn backend_names(&self) -> HashMap<String, BackendId> {
        let by_name = self.backends.iter().map(|b| (b.name.clone(), b.id));
        by_name.chain(self.backends.iter().map(|b| (b.id.to_string(), b.id))).collect()
    }

    /// Takes over the ids of parts that were there before under the same name.
    pub fn keep_ids(&mut self, before: &Self) {
        for backend in &mut self.backends {
            if let Some(old) = before.backends.iter().find(|old| old.name == backend.name) {
                backend.id = old.id;
            }
        }
        for route in &mut self.routes {
            if let Some(old) = before.routes.iter().find(|old| old.name == route.name) {
                route.id = old.id;
            }
        }
        for policy in &mut self.policies {
            if let Some(old) = before.policies.iter().find(|old| old.name == policy.name) {
                policy.id = old.id;
            }
        }
    }
}

/// An API service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiService {
    /// Its id.
    pub id: ApiServiceId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Where it stands.
    pub status: ApiServiceStatus,
    /// Counts the changes of `spec`. A publish holds a frozen copy of one revision.
    pub revision: i64,
    /// What was written.
    #[serde(flatten)]
    pub spec: ApiServiceSpec,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

/// draft -> published -> deprecated -> retired; blocked by an operator from any but retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiServiceStatus {
    /// Never published.
    Draft,
    /// In at least one publish so far.
    Published,
    /// Serves on, enters no new publish.
    Deprecated,
    /// Over.
    Retired,
}

impl ApiServiceStatus {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
        }
    }

    /// Entering a publish.
    pub fn publish(self) -> Result<Self, Transition> {
        match self {
            Self::Draft | Self::Published => Ok(Self::Published),
            _ => Err(self.refuse("published")),
        }
    }

    /// No new publishes from now on.
    pub fn deprecate(self) -> Result<Self, Transition> {
        match self {
            Self::Published => Ok(Self::Deprecated),
            _ => Err(self.refuse("deprecated")),
        }
    }

    /// Over; the caller makes sure that nothing serves it.
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
