//! The policies of a publish: one list on the publish, with each route's indices into it. The
//! control plane resolves which apply to a route; agents have no precedence rules.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};

use crate::config as pb;
use pb::policy::Kind;

/// The policy types of this build's contract, by their API names.
pub const TYPES: [&str; 5] =
    ["rate_limit", "request_headers", "response_headers", "ip_access", "cors"];

/// The type of a policy, as in [`TYPES`].
pub fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::RateLimit(_) => "rate_limit",
        Kind::RequestHeaders(_) => "request_headers",
        Kind::ResponseHeaders(_) => "response_headers",
        Kind::IpAccess(_) => "ip_access",
        Kind::Cors(_) => "cors",
    }
}

/// Fills [`pb::Publish::policies`].
#[derive(Debug, Default)]
pub struct List {
    policies: Vec<pb::Policy>,
    /// The used ids, and the next number to try for a duplicate.
    ids: HashMap<String, u32>,
}

impl List {
    /// Appends a policy and returns its index. Ids are unique only within a service (tenants may
    /// write them), so a duplicate id gets a number.
    pub fn push(&mut self, mut policy: pb::Policy) -> u32 {
        if let Some(&next) = self.ids.get(&policy.id) {
            let (own, mut number) = (policy.id.clone(), next);
            while self.ids.contains_key(&policy.id) {
                policy.id = format!("{own}-{number}");
                number += 1;
            }
            // The numbers before are used, too: thousands of equal ids cost no more than different
            // ones.
            self.ids.insert(own, number);
        }
        self.ids.insert(policy.id.clone(), 2);
        let place = self.policies.len();
        self.policies.push(policy);
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// The list.
    pub fn finish(self) -> Vec<pb::Policy> {
        self.policies
    }
}

/// The policies that apply to a route. `None` if an index is out of range.
pub fn of_route<'a>(
    policies: &'a [pb::Policy],
    route: &'a pb::Route,
) -> impl Iterator<Item = Option<&'a pb::Policy>> {
    route.policy_indexes.iter().map(|index| policies.get(usize::try_from(*index).ok()?))
}

/// Converts a publish to the current format with [`pb::Publish::policies`]. A control plane of the
/// former release has filled only the lists of services and routes, where the route's policy
/// replaces the service's, type by type.
pub fn present(publish: &pb::Publish) -> Cow<'_, pb::Publish> {
    let mut services = publish.api_services.iter();
    let is_former = publish.policies.is_empty()
        && services.any(|service| {
            let mut routes = service.routes.iter();
            !service.policies.is_empty() || routes.any(|route| !route.policies.is_empty())
        });
    if !is_former {
        return Cow::Borrowed(publish);
    }
    let mut publish = publish.clone();
    let mut list = List::default();
    for service in &mut publish.api_services {
        resolve(service, &mut list);
    }
    publish.policies = list.finish();
    Cow::Owned(publish)
}

fn resolve(service: &mut pb::ApiService, list: &mut List) {
    let shared = first_of_each_type(std::mem::take(&mut service.policies));
    // The indices of those that apply to some route.
    let mut places = vec![None; shared.len()];
    for route in &mut service.routes {
        let own = first_of_each_type(std::mem::take(&mut route.policies));
        let types: Vec<_> = own.iter().map(type_of).collect();
        route.policy_indexes.extend(own.into_iter().map(|policy| list.push(policy)));
        for (policy, place) in shared.iter().zip(&mut places) {
            if !types.contains(&type_of(policy)) {
                let place = place.get_or_insert_with(|| list.push(policy.clone()));
                route.policy_indexes.push(*place);
            }
        }
    }
}

fn first_of_each_type(policies: Vec<pb::Policy>) -> Vec<pb::Policy> {
    let mut seen = HashSet::new();
    policies.into_iter().filter(|policy| seen.insert(type_of(policy))).collect()
}

/// `None` for a newer control plane's type.
fn type_of(policy: &pb::Policy) -> Option<Discriminant<Kind>> {
    policy.kind.as_ref().map(discriminant)
}
