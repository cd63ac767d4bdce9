//! What is delivered by Gateway API instead of to Envoys: told to the driver that applies it
//! ([`crate::gateway_api`]), and followed here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use imp_grammar::classes;
use imp_translate::ir::{self, Delivery};
use tokio::sync::mpsc;

use super::core::Core;
use super::tracker::agent_rejected;
use crate::intake;

/// What the driver is told. All gateways; of publishes those that it delivers.
#[derive(Debug)]
pub enum GatewayApiOrder {
    Gateway(ir::Gateway),
    ForgetGateway(String),
    Publish(ir::Publish),
    ForgetPublish(Arc<str>),
}

/// What is delivered so.
#[derive(Debug, Default)]
pub(super) struct ByGatewayApi {
    orders: Option<mpsc::UnboundedSender<GatewayApiOrder>>,
    /// The classes that the driver can deliver to.
    served: Vec<&'static str>,
    /// The class of each gateway.
    classes: HashMap<String, String>,
    publishes: HashSet<Arc<str>>,
}

impl ByGatewayApi {
    pub(super) fn told_to(
        &mut self,
        orders: mpsc::UnboundedSender<GatewayApiOrder>,
        served: Vec<&'static str>,
    ) {
        (self.orders, self.served) = (Some(orders), served);
    }

    pub(super) fn served(&self) -> &[&'static str] {
        &self.served
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.publishes.contains(id)
    }

    pub(super) fn forget(&mut self, id: &str) {
        if let Some(id) = self.publishes.take(id) {
            self.tell(GatewayApiOrder::ForgetPublish(id));
        }
    }

    pub(super) fn forget_gateway(&mut self, id: &str) {
        if self.classes.remove(id).is_some() {
            self.tell(GatewayApiOrder::ForgetGateway(id.to_owned()));
        }
    }

    /// Whether Envoys of the gateway are served by xDS. One that has not come yet is taken for that.
    fn has_xds(&self, gateway: &str) -> bool {
        self.classes.get(gateway).is_none_or(|class| class == classes::ENVOY_GATEWAY.word)
    }

    /// The driver ends only with the agent.
    fn tell(&self, order: GatewayApiOrder) {
        if let Some(orders) = &self.orders {
            let _ends_with_the_agent = orders.send(order);
        }
    }
}

impl Core {
    /// Takes a gateway. One of another class has no listeners on Envoys.
    pub(super) fn place_gateway(&mut self, gateway: ir::Gateway) {
        let (id, class) = (gateway.id.clone(), gateway.class.clone());
        let former = self.by_gateway_api.classes.insert(id.clone(), class.clone());
        self.by_gateway_api.tell(GatewayApiOrder::Gateway(gateway.clone()));
        let delta = match self.by_gateway_api.has_xds(&id) {
            true => self.assembly.set_gateway(gateway),
            false => self.assembly.remove_gateway(&id),
        };
        self.stage(delta);
        // Publishes that came before the gateway, or before it changed its class.
        if former.as_ref().is_some_and(|former| *former != class) || former.is_none() {
            self.deliver_again(&id);
        }
    }

    fn deliver_again(&mut self, gateway: &str) {
        let of_gateway = |id: &&Arc<str>| self.tracker.gateway_of(id) == Some(gateway);
        let ids: Vec<_> = self.revisions.keys().filter(of_gateway).cloned().collect();
        for id in ids {
            let Some(known) = self.revisions.get(&id) else { continue };
            let (access, wire) = (known.wanted.access.clone(), known.wanted.wire.bytes());
            let Ok(parsed) = intake::publish(&wire, &id) else { continue };
            let mut routes = parsed.routes;
            routes.id = access.publish_id().clone();
            if self.goes_by_gateway_api(&routes) != self.by_gateway_api.has(&id) {
                self.deliver(routes);
                self.note_stale(&id);
            }
        }
    }

    fn goes_by_gateway_api(&self, routes: &ir::Publish) -> bool {
        match routes.delivery {
            Delivery::GatewayApi => true,
            Delivery::Auto | Delivery::Xds => !self.by_gateway_api.has_xds(&routes.gateway_id),
        }
    }

    /// Takes the routes of a publish to where they go.
    pub(super) fn deliver(&mut self, routes: ir::Publish) {
        let (id, by_gateway_api) = (routes.id.clone(), self.goes_by_gateway_api(&routes));
        self.tracker.deliver(&id, by_gateway_api);
        if !by_gateway_api {
            self.by_gateway_api.forget(&id);
            let delta = self.assembly.set_publish(routes);
            return self.stage(delta);
        }
        let delta = self.assembly.remove_publish(&id);
        self.stage(delta);
        self.acks.need(&id, None);
        self.by_gateway_api.publishes.insert(id);
        self.by_gateway_api.tell(GatewayApiOrder::Publish(routes));
    }

    /// The wanted revision is all that is delivered.
    pub(super) fn follow_gateway_api(&mut self, id: &str) {
        let wanted = self.revisions.get(id).map(|known| known.wanted.number);
        self.tracker.render(id, wanted);
        let why =
            "it is delivered by Gateway API, and this agent has no API server: see --kubeconfig";
        let misplaced = self.by_gateway_api.orders.is_none().then(|| agent_rejected(why));
        self.tracker.place(id, misplaced.or_else(|| self.refused_gateway_of(id)));
    }
}
