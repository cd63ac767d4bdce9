//! What is delivered by Gateway API instead of to Envoys: told to the driver that applies it
//! ([`crate::gateway_api`]), and followed here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use imp_grammar::classes;
use imp_translate::ir::{self, Delivery};
use tokio::sync::mpsc;

use super::Fleet;
use super::core::Core;
use super::tracker::{GATEWAY_API, Outcome, Target, Verdict, agent_rejected};
use crate::intake;

/// What the driver is told. All gateways; of publishes those that it delivers.
#[derive(Debug)]
pub enum GatewayApiOrder {
    Gateway(ir::Gateway),
    ForgetGateway(String),
    Publish(ir::Publish),
    ForgetPublish(Arc<str>),
}

/// An object that somebody else has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Its publish or gateway.
    pub of: String,
    pub object: String,
    pub field: String,
    /// The field manager that wrote last, if that is known.
    pub by: Option<String>,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// The drifts that are remembered.
const DRIFTS: usize = 20;

/// What is delivered so.
#[derive(Debug, Default)]
pub(super) struct ByGatewayApi {
    orders: Option<mpsc::UnboundedSender<GatewayApiOrder>>,
    /// The classes that the driver can deliver to.
    served: Vec<&'static str>,
    /// The class of each gateway.
    classes: HashMap<String, String>,
    publishes: HashSet<Arc<str>>,
    /// The last ones.
    drifts: VecDeque<Drift>,
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

impl Fleet {
    /// From now on gateways and publishes that are delivered by Gateway API are told there. Before
    /// anything is restored.
    /// `classes` are those that can be.
    pub fn deliver_by_gateway_api(
        &self,
        orders: mpsc::UnboundedSender<GatewayApiOrder>,
        classes: Vec<&'static str>,
    ) {
        let mut core = self.lock();
        core.tracker.open(GATEWAY_API, Target::gateway_api());
        core.by_gateway_api.told_to(orders, classes);
    }

    /// The classes that are served by Gateway API.
    pub fn gateway_api_classes(&self) -> Vec<&'static str> {
        self.lock().by_gateway_api.served().to_vec()
    }

    /// Remembers that somebody else has changed an object, which is being corrected.
    pub fn drifted(&self, drift: Drift) {
        let mut core = self.lock();
        let drifts = &mut core.by_gateway_api.drifts;
        drifts.truncate(DRIFTS - 1);
        drifts.push_front(drift);
    }

    /// The last drifts, the newest first.
    pub fn drifts(&self) -> Vec<Drift> {
        self.lock().by_gateway_api.drifts.iter().cloned().collect()
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
