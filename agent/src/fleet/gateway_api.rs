//! What is delivered by Gateway API instead of to Envoys: told to the driver that applies it
//! ([`crate::gateway_api`]), and followed here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use imp_grammar::classes;
use imp_translate::ir::{self, Delivery};
use tokio::sync::mpsc;

use super::Fleet;
use super::core::Core;
use super::fallback::{Fallback, Path};
use super::tracker::{About, GATEWAY_API, Outcome, Target, Verdict, agent_rejected};
use crate::intake;

/// What the driver is told. All gateways; of publishes those that it delivers.
#[derive(Debug)]
pub enum GatewayApiOrder {
    Gateway(ir::Gateway),
    ForgetGateway(String),
    Publish(ir::Publish),
    ForgetPublish(Arc<str>),
}

/// Where a publish goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To Envoys.
    Envoys,
    /// To Envoys, of which none is connected, and by Gateway API.
    Both,
    GatewayApi,
}

/// What is delivered so.
#[derive(Debug, Default)]
pub(super) struct ByGatewayApi {
    orders: Option<mpsc::UnboundedSender<GatewayApiOrder>>,
    /// The classes that the driver can deliver to.
    served: Vec<&'static str>,
    /// The class of each gateway.
    classes: HashMap<String, String>,
    publishes: HashMap<Arc<str>, Way>,
    pub(super) fallback: Fallback,
    /// Publishes that are to go both ways.
    pub(super) moving: Vec<Arc<str>>,
}

impl ByGatewayApi {
    pub(super) fn told_to(
        &mut self,
        orders: mpsc::UnboundedSender<GatewayApiOrder>,
        served: Vec<&'static str>,
        fallback_after: Option<Duration>,
    ) {
        let after = fallback_after.filter(|_| served.contains(&classes::ENVOY_GATEWAY.word));
        self.fallback = Fallback::new(after);
        (self.orders, self.served) = (Some(orders), served);
    }

    pub(super) fn served(&self) -> &[&'static str] {
        &self.served
    }

    pub(super) fn way(&self, id: &str) -> Way {
        self.publishes.get(id).copied().unwrap_or(Way::Envoys)
    }

    /// The publishes that go both ways.
    pub(super) fn both(&self) -> impl Iterator<Item = &Arc<str>> {
        self.publishes.iter().filter(|(_, way)| **way == Way::Both).map(|(id, _)| id)
    }

    /// The gateways that Envoys of ours serve, or should.
    pub(super) fn with_envoys(&self) -> BTreeSet<String> {
        let ids = self.classes.keys().filter(|id| self.has_xds(id));
        ids.cloned().collect()
    }

    /// Has a publish delivered, whichever other way it goes.
    pub(super) fn set(&mut self, routes: ir::Publish, way: Way) {
        self.publishes.insert(routes.id.clone(), way);
        self.tell(GatewayApiOrder::Publish(routes));
    }

    pub(super) fn forget(&mut self, id: &str) {
        if let Some((id, _)) = self.publishes.remove_entry(id) {
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

impl Fleet {
    /// From now on gateways and publishes that are delivered by Gateway API are told there. Before
    /// anything is restored.
    /// `classes` are those that can be; `fallback_after`: publishes of gateways that had no Envoy for so long are, too.
    pub fn deliver_by_gateway_api(
        &self,
        orders: mpsc::UnboundedSender<GatewayApiOrder>,
        classes: Vec<&'static str>,
        fallback_after: Option<Duration>,
    ) {
        let mut core = self.lock();
        core.tracker.open(GATEWAY_API, Target::gateway_api());
        core.by_gateway_api.told_to(orders, classes, fallback_after);
    }

    /// The classes that are served by Gateway API.
    pub fn gateway_api_classes(&self) -> Vec<&'static str> {
        self.lock().by_gateway_api.served().to_vec()
    }

    /// Takes what became of a revision that was delivered by Gateway API.
    pub fn stands(&self, publish: &Arc<str>, revision: u64, verdict: Verdict) {
        let mut core = self.lock();
        core.tracker.heard(GATEWAY_API);
        let (publish, target) = (publish.clone(), GATEWAY_API);
        core.tracker.take(Outcome { publish, revision, target, verdict });
        self.tell(core);
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
            false => {
                self.forget_path(&id);
                self.assembly.remove_gateway(&id)
            }
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
            if self.way_of(&routes) != self.by_gateway_api.way(&id) {
                self.deliver(routes);
                self.note_stale(&id);
            }
        }
    }

    pub(super) fn way_of(&self, routes: &ir::Publish) -> Way {
        let gateway = &routes.gateway_id;
        let has_xds = self.by_gateway_api.has_xds(gateway);
        match (routes.delivery, self.by_gateway_api.fallback.path(gateway)) {
            (Delivery::GatewayApi, _) => Way::GatewayApi,
            (Delivery::Auto | Delivery::Xds, _) if !has_xds => Way::GatewayApi,
            (Delivery::Auto, Some(Path::GatewayApi(_))) => Way::Both,
            // What an Envoy has already, or what is new, needs no other way.
            (Delivery::Auto, Some(Path::Returning(_))) => match self.by_gateway_api.way(&routes.id)
            {
                Way::Both => Way::Both,
                Way::Envoys | Way::GatewayApi => Way::Envoys,
            },
            (Delivery::Auto, Some(Path::Direct | Path::Grace(_)) | None) | (Delivery::Xds, _) => {
                Way::Envoys
            }
        }
    }

    /// Takes the routes of a publish to where they go.
    pub(super) fn deliver(&mut self, routes: ir::Publish) {
        let (id, way) = (routes.id.clone(), self.way_of(&routes));
        self.tracker.deliver(&id, way != Way::Envoys);
        self.drifts.forget(&id);
        self.tracker.say(&id, About::Drifted, None);
        let (to_envoys, by_gateway_api) = match way {
            Way::Envoys => (Some(routes), None),
            Way::Both => (Some(routes.clone()), Some(routes)),
            Way::GatewayApi => (None, Some(routes)),
        };
        match by_gateway_api {
            Some(routes) => self.by_gateway_api.set(routes, way),
            None => self.by_gateway_api.forget(&id),
        }
        self.say_path(&id);
        let delta = match to_envoys {
            Some(routes) => self.assembly.set_publish(routes),
            None => {
                self.tracker.leave_envoys(&id);
                self.acks.need(&id, None);
                self.assembly.remove_publish(&id)
            }
        };
        self.stage(delta);
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
