//! The agent's inputs from the control plane.

use std::collections::BTreeMap;

use imp_agent::intake::{self, Item};
use imp_enforce::Engine;
use imp_proto::config::ResourceType;
use imp_translate::{Assembly, Delta, Layout, Options};
use imp_xds::Resource;
use imp_xds::wire::DeltaDiscoveryResponse;
use prost::Message as _;

use super::bytes::chunk;

pub(super) fn options() -> Options {
    Options {
        bind_address: "127.0.0.1".to_owned(),
        layout: Layout::ScopedRoutes,
        agent_cluster: "agent".to_owned(),
        upstreams: Default::default(),
        door: Default::default(),
        tells_hosts: false,
    }
}

/// Length-prefixed responses of the delta stream. Invalid resources are refused; valid ones are
/// served, and removed again.
pub(super) fn delta_stream(bytes: &[u8]) {
    let mut rest = bytes;
    let mut agent = Agent::new();
    while let Some(message) = chunk(&mut rest) {
        let Ok(response) = DeltaDiscoveryResponse::decode(message) else { return };
        let Some(kind) = ResourceType::of(&response.type_url) else { continue };
        for resource in response.resources {
            let Some(any) = resource.resource else { continue };
            let resource = Resource::new(resource.name, resource.version, any.value);
            if let Ok(item) = intake::parse(kind, &resource) {
                agent.put(item);
            }
        }
        for name in &response.removed_resources {
            agent.remove(kind, name);
        }
    }
    agent.leave();
}

struct Agent {
    assembly: Assembly,
    engine: Engine,
    /// The resources of an Envoy for all gateways: type URL and name.
    envoy: BTreeMap<(&'static str, String), String>,
    held: Vec<(ResourceType, String)>,
}

impl Agent {
    fn new() -> Self {
        let assembly = Assembly::new(options());
        Self { assembly, engine: Engine::new(), envoy: BTreeMap::new(), held: Vec::new() }
    }

    fn put(&mut self, item: Item) {
        match item {
            Item::Gateway(gateway) => {
                self.held.push((ResourceType::Gateway, gateway.id.clone()));
                let delta = self.assembly.set_gateway(gateway);
                self.follow(delta);
            }
            Item::Publish(publish) => {
                self.held.push((ResourceType::Publish, publish.routes.id.to_string()));
                self.engine.put_publish(publish.access);
                let delta = self.assembly.set_publish(publish.routes);
                self.follow(delta);
            }
            Item::Entitlement(entitlement) => self.engine.put_entitlement(entitlement),
            Item::Credential(credential) => self.engine.put_credential(credential),
        }
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Gateway => {
                let delta = self.assembly.remove_gateway(name);
                self.follow(delta);
            }
            ResourceType::Publish => {
                self.engine.remove_publish(name);
                let delta = self.assembly.remove_publish(name);
                self.follow(delta);
            }
            ResourceType::Entitlement => self.engine.remove_entitlement(name),
            ResourceType::Credential => self.engine.remove_credential(name),
        }
    }

    fn follow(&mut self, delta: Delta) {
        for rendered in delta.all.upserts {
            self.envoy.insert(
                (rendered.type_url, rendered.name.to_string()),
                rendered.version.to_string(),
            );
        }
        for removed in delta.all.removals {
            self.envoy.remove(&removed);
        }
    }

    /// Checks that after removal only the enforcement filter stays, if there ever was a gateway.
    fn leave(&mut self) {
        for (kind, name) in std::mem::take(&mut self.held) {
            self.remove(kind, &name);
        }
        self.envoy.retain(|(type_url, _), _| *type_url != imp_translate::xds::EXTENSION);
        assert_eq!(self.envoy, BTreeMap::new(), "left behind");
    }
}
