//! All gateways and publishes that are delivered by Gateway API, and which of them share hosts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imp_grammar::classes;
use serde_json::Value;

use super::deployed::{Deployed, Options};
use super::entry::{Comparison, Matches};
use super::reach::Reach;
use super::refusal::Refusal;
use super::{gateway, probe, routes};
use crate::ir;

/// Renders, and refuses a publish that would take another's calls.
pub struct Plan {
    options: Options,
    gateways: BTreeMap<String, Deployed>,
    publishes: HashMap<Arc<str>, Placed>,
    /// Publishes by gateway and host.
    hosts: BTreeMap<(String, Arc<str>), BTreeSet<Arc<str>>>,
}

/// Where a publish is, and what it matches there.
struct Placed {
    gateway: String,
    hostnames: Vec<Arc<str>>,
    base_path: String,
    matches: Vec<Matches>,
}

impl Plan {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            gateways: BTreeMap::new(),
            publishes: HashMap::new(),
            hosts: BTreeMap::new(),
        }
    }

    /// The objects of a gateway, in the order in which they are applied.
    pub fn set_gateway(
        &mut self,
        gateway: &ir::Gateway,
        deployed: Deployed,
    ) -> Result<Vec<Value>, Refusal> {
        let objects = gateway::render(&self.options, &deployed, gateway)?;
        self.gateways.insert(gateway.id.clone(), deployed);
        Ok(objects)
    }

    /// The route by which the proxies of a gateway say how far they are, and what to ask them.
    pub fn probe(&self, gateway: &ir::Gateway, mark: u64) -> (Value, Vec<probe::Target>) {
        let owner = gateway::owner(&self.options, gateway);
        (probe::route(&owner, gateway, mark), probe::targets(gateway))
    }

    /// Forgets a gateway. Its publishes keep their places.
    pub fn remove_gateway(&mut self, id: &str) {
        self.gateways.remove(id);
    }

    /// The objects of a publish, in the order in which they are applied. A refused publish keeps the
    /// place that its former revision has.
    pub fn set_publish(&mut self, publish: &ir::Publish) -> Result<Vec<Value>, Refusal> {
        let deployed = self.gateways.get(&publish.gateway_id);
        let deployed = deployed.ok_or_else(|| Refusal::NoGateway(publish.gateway_id.clone()))?;
        let rendered = routes::render(&self.options, deployed, publish)?;
        let placed = Placed {
            gateway: publish.gateway_id.clone(),
            hostnames: publish.hostnames.clone(),
            base_path: publish.base_path.clone(),
            matches: rendered.matches,
        };
        self.refuse_nested(deployed, &publish.id, &placed)?;
        self.remove_publish(&publish.id);
        for host in &placed.hostnames {
            let of_host = self.hosts.entry((placed.gateway.clone(), host.clone())).or_default();
            of_host.insert(publish.id.clone());
        }
        self.publishes.insert(publish.id.clone(), placed);
        Ok(rendered.objects)
    }

    /// Forgets a publish.
    pub fn remove_publish(&mut self, id: &str) {
        let Some(placed) = self.publishes.remove(id) else { return };
        for host in placed.hostnames {
            let key = (placed.gateway.clone(), host);
            if let Some(of_host) = self.hosts.get_mut(&key) {
                of_host.remove(id);
                if of_host.is_empty() {
                    self.hosts.remove(&key);
                }
            }
        }
    }

    /// Refuses a publish that would take calls of another on one of its hosts, or lose some to it.
    fn refuse_nested(
        &self,
        deployed: &Deployed,
        id: &Arc<str>,
        placed: &Placed,
    ) -> Result<(), Refusal> {
        for host in &placed.hostnames {
            let others = self.hosts.get(&(placed.gateway.clone(), host.clone())).into_iter();
            let others = others.flatten().filter(|other| *other != id);
            for other in others.filter_map(|other| self.publishes.get(other)) {
                if takes(deployed, placed, other) || takes(deployed, other, placed) {
                    let (host, base_path) = (host.to_string(), other.base_path.clone());
                    return Err(Refusal::Nested { host, base_path });
                }
            }
        }
        Ok(())
    }
}

/// Whether the class would try routes of the outer one before those of the inner, which owns everything
/// below its base path.
fn takes(deployed: &Deployed, outer: &Placed, inner: &Placed) -> bool {
    let base = outer.base_path.trim_end_matches('/');
    let below = inner.base_path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    if !below || inner.base_path == outer.base_path {
        return false;
    }
    if !deployed.class.can(classes::NESTED_BASE_PATHS) {
        return true;
    }
    // The inner one has a prefix for its whole base path, so only longer ones come before it.
    let reach = Reach::below(&inner.base_path);
    outer.matches.iter().filter(|route| route.reach.meets(&reach)).any(|route| {
        route.paths.iter().any(|path| {
            path.comparison != Comparison::Prefix || path.text.len() >= inner.base_path.len()
        })
    })
}
