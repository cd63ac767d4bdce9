//! From orders of the fleet to sets of objects, and from their standing to outcomes.

mod proxies;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use imp_kube::{Cluster, Keeper, Kind, Object, Order, Report, Standing, kinds};
use imp_process::clock;
use imp_proto::agent as pb;
use imp_translate::gateway_api::{
    CLUSTER, Decider, Deployed, GATEWAY, MANAGED_BY, MANAGER, Options, PROBE, PUBLISH, Plan,
    gateway_name, label,
};
use imp_translate::ir;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::GatewayApi;
use super::probe::{Probes, Serving, Told};
use crate::fleet::tracker::{Verdict, agent_rejected};
use crate::fleet::{Drift, Fleet, GatewayApiOrder};
use crate::port;

/// The kinds that are applied, watched and pruned.
pub(super) const KINDS: [&Kind; 12] = [
    &kinds::HTTP_ROUTE,
    &kinds::GATEWAY,
    &kinds::SECURITY_POLICY,
    &kinds::BACKEND_TRAFFIC_POLICY,
    &kinds::CLIENT_TRAFFIC_POLICY,
    &kinds::BACKEND_TLS_POLICY,
    &kinds::HTTP_ROUTE_FILTER,
    &kinds::BACKEND,
    &kinds::SERVICE,
    &kinds::ENDPOINT_SLICE,
    &kinds::CONFIG_MAP,
    &kinds::SECRET,
];

/// How often it is looked whether the agent is registered and has loaded everything.
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn run(
    cluster: Cluster,
    api: GatewayApi,
    fleet: Fleet,
    cancel: CancellationToken,
) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = drive(cluster, api, fleet) => {}
    }
}

async fn drive(cluster: Cluster, mut api: GatewayApi, fleet: Fleet) {
    let id = registered(&api).await;
    let keeper = Keeper {
        namespace: api.namespace.clone(),
        labels: format!("{MANAGED_BY}={MANAGER},{CLUSTER}={}", label(&id)),
        kinds: KINDS.to_vec(),
        set_of,
    };
    let (keeping, kept) = mpsc::unbounded_channel();
    let (sender, mut reports) = mpsc::unbounded_channel();
    tokio::spawn(keeper.run(cluster.clone(), kept, sender));
    let (asking, mut answers) = mpsc::unbounded_channel();
    let options = Options {
        namespace: api.namespace.clone(),
        cluster: id.clone(),
        upstreams: api.upstreams.clone(),
        names: api.names.clone(),
    };
    let mut orders = std::mem::replace(&mut api.orders, mpsc::unbounded_channel().1);
    let mut driver = Driver {
        plan: Plan::new(options),
        cluster: id,
        api,
        fleet,
        keeping,
        connection: cluster,
        probes: Probes::default(),
        asking,
        gateways: BTreeMap::new(),
        publishes: HashMap::new(),
        refused: BTreeSet::new(),
    };
    let mut complete = false;
    loop {
        let is_open = driver.fleet.is_open();
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(order) => driver.take(order),
                None => return,
            },
            report = reports.recv() => match report {
                Some(report) => driver.told(report),
                None => return,
            },
            Some(told) = answers.recv() => driver.answered(&told),
            () = tokio::time::sleep(LOOK), if !complete => {
                // Everything was told before that, and has been taken.
                complete = is_open;
                if complete {
                    driver.keep(Order::Complete);
                }
            }
        }
    }
}

/// The id of the cluster, once the agent is registered.
async fn registered(api: &GatewayApi) -> String {
    loop {
        if let Ok(Some(identity)) = api.file.load() {
            return identity.cluster_id;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The set of an object is its publish, or its gateway.
fn set_of(object: &Value) -> Option<String> {
    let labels = object.pointer("/metadata/labels")?;
    let of = |name: &str| labels.get(name)?.as_str();
    match of(PROBE) {
        Some(_) => of(GATEWAY).map(of_probe),
        None => of(PUBLISH).map(of_publish).or_else(|| of(GATEWAY).map(of_gateway)),
    }
}

fn of_publish(id: &str) -> String {
    format!("publish/{}", label(id))
}

fn of_gateway(id: &str) -> String {
    format!("gateway/{}", label(id))
}

fn of_probe(gateway: &str) -> String {
    format!("probe/{}", label(gateway))
}

struct Driver {
    plan: Plan,
    /// The id of the cluster.
    cluster: String,
    api: GatewayApi,
    fleet: Fleet,
    keeping: mpsc::UnboundedSender<Order>,
    /// For questions to proxies, and their answers.
    connection: Cluster,
    probes: Probes,
    asking: mpsc::UnboundedSender<Told>,
    gateways: BTreeMap<String, Gateway>,
    /// By the name of the set.
    publishes: HashMap<String, Publish>,
    /// Publishes that cannot be rendered beside others: tried again when one of these leaves.
    refused: BTreeSet<String>,
}

struct Gateway {
    gateway: ir::Gateway,
    /// Whether there are objects of it. Only a publish makes some.
    deployed: bool,
    decider: Option<Decider>,
    /// Whether its controller has accepted its policies once. Before that no publish is applied: the routes would be
    /// there without what closes them.
    is_closed: bool,
    /// Why its controller does not take it.
    refused: Option<String>,
}

struct Publish {
    publish: ir::Publish,
    /// What became of the revision, as was told last.
    standing: Option<(u64, Standing)>,
}

impl Driver {
    fn take(&mut self, order: GatewayApiOrder) {
        match order {
            GatewayApiOrder::Gateway(gateway) => self.take_gateway(gateway),
            GatewayApiOrder::ForgetGateway(id) => {
                self.plan.remove_gateway(&id);
                if self.gateways.remove(&id).is_some_and(|known| known.deployed) {
                    self.withdraw(&id);
                }
            }
            GatewayApiOrder::Publish(publish) => {
                let set = of_publish(&publish.id);
                let publish = Publish { publish, standing: None };
                self.publishes.insert(set.clone(), publish);
                self.render(&set);
                self.try_again();
            }
            GatewayApiOrder::ForgetPublish(id) => {
                let set = of_publish(&id);
                let known = self.publishes.remove(&set);
                self.plan.remove_publish(&id);
                self.refused.remove(&set);
                self.keep(Order::Forget { set });
                if let Some(known) = known {
                    self.probes.forget(&known.publish.gateway_id, &of_publish(&id));
                    self.undeploy(&known.publish.gateway_id);
                }
                self.try_again();
            }
        }
    }

    fn take_gateway(&mut self, gateway: ir::Gateway) {
        let id = gateway.id.clone();
        let known = self.gateways.remove(&id);
        let (deployed, decider, is_closed) = known.map_or((false, None, false), |it| {
            let is_closed = it.is_closed && it.gateway.class == gateway.class;
            (it.deployed, it.decider, is_closed)
        });
        let gateway = Gateway { gateway, deployed, decider, is_closed, refused: None };
        self.gateways.insert(id.clone(), gateway);
        let of_gateway = |(_, it): &(&String, &Publish)| it.publish.gateway_id == id;
        let sets: Vec<_> =
            self.publishes.iter().filter(of_gateway).map(|(set, _)| set.clone()).collect();
        if !sets.is_empty() {
            self.deploy(&id);
        }
        sets.iter().for_each(|set| self.render(set));
    }

    /// Takes the objects of a gateway away when its last publish has gone.
    fn undeploy(&mut self, id: &str) {
        if self.publishes.values().any(|it| it.publish.gateway_id == id) {
            return;
        }
        self.plan.remove_gateway(id);
        if let Some(gateway) = self.gateways.get_mut(id).filter(|gateway| gateway.deployed) {
            (gateway.deployed, gateway.is_closed, gateway.refused) = (false, false, None);
            self.withdraw(id);
        }
    }

    fn withdraw(&mut self, gateway: &str) {
        self.probes.close(gateway);
        for set in [of_probe(gateway), of_gateway(gateway)] {
            self.keep(Order::Forget { set });
        }
    }

    /// Has the objects of a gateway applied. Says why not, if so.
    fn deploy(&mut self, id: &str) -> Option<String> {
        let Some(known) = self.gateways.get(id) else {
            return Some(format!("the agent has no gateway {id}"));
        };
        let word = known.gateway.class.clone();
        let class = self.api.classes.iter().find(|class| class.class.word == word).cloned();
        let Some(class) = class else {
            return Some(format!("--gateway-class does not name '{word}': the cluster has none"));
        };
        let decider = match known.decider.clone() {
            None if class.class.has_policies => self.decider(id),
            known => known,
        };
        let deployed = Deployed { class: class.class, name: class.name, decider: decider.clone() };
        let known = self.gateways.get_mut(id)?;
        known.decider = decider;
        match self.plan.set_gateway(&known.gateway, deployed) {
            Ok(objects) => {
                known.deployed = true;
                known.is_closed |= !class.class.has_policies;
                let (set, gateway) = (of_gateway(id), gateway_name(id));
                let objects = objects_of(objects);
                self.keep(Order::Want { set, revision: 0, gateway, objects });
                let mark = self.probes.open(id, now_ms());
                self.mark(id, mark);
                self.probe(id);
                None
            }
            Err(refusal) => Some(refusal.to_string()),
        }
    }

    /// The service that decides about calls of a gateway, if proxies can find it.
    fn decider(&self, gateway: &str) -> Option<Decider> {
        let address = self.api.agent.as_ref()?;
        let issued = port::issue_for_controller(&self.api.state_dir, &self.cluster, gateway);
        match issued {
            Ok([authority, certificate, key]) => Some(Decider {
                host: address.endpoint(),
                port: address.port,
                authority,
                certificate,
                key,
            }),
            Err(error) => {
                tracing::error!(%error, "no certificate for proxies of Gateway API");
                None
            }
        }
    }

    /// Has the objects of a publish applied; where that cannot be, its former ones stay.
    fn render(&mut self, set: &str) {
        let Some(known) = self.publishes.get(set) else { return };
        let publish = known.publish.clone();
        let gateway = &publish.gateway_id;
        let is_deployed = self.gateways.get(gateway).is_some_and(|it| it.deployed);
        let fault = if is_deployed { None } else { self.deploy(gateway) };
        let rendered = match fault {
            Some(fault) => Err(fault),
            None => self.plan.set_publish(&publish).map_err(|refusal| refusal.to_string()),
        };
        match rendered {
            Ok(_) if !self.gateways.get(gateway).is_some_and(|it| it.is_closed) => {
                self.refused.remove(set);
                let waits = Standing::Waiting(format!("Gateway {}", gateway_name(gateway)));
                if let Some(known) = self.publishes.get_mut(set) {
                    known.standing = Some((publish.revision, waits));
                }
                self.keep(Order::Hold { set: set.to_owned() });
                self.tell(set);
            }
            Ok(objects) => {
                self.refused.remove(set);
                let objects = objects_of(objects);
                let (set, gateway) = (set.to_owned(), gateway_name(gateway));
                self.keep(Order::Want { set, revision: publish.revision, gateway, objects });
            }
            Err(fault) => {
                self.refused.insert(set.to_owned());
                let verdict = Verdict::Refused(Box::new(agent_rejected(&fault)));
                self.fleet.stands(&publish.id, publish.revision, verdict);
            }
        }
    }

    /// A publish that another one was in the way of may fit now.
    fn try_again(&mut self) {
        for set in self.refused.clone() {
            self.render(&set);
        }
    }

    fn told(&mut self, report: Report) {
        let (set, revision, standing) = match report {
            Report::Stands { set, revision, standing } => (set, revision, standing),
            Report::Drifted { set: of, object, field, by } => {
                let (at_ms, ids) = (clock::now().timestamp_millis(), self.publishes_of(&of));
                return self.fleet.drifted(Drift { of, object, field, by, at_ms }, ids);
            }
            Report::Corrected { set, object } => {
                return self.fleet.corrected(&object, self.publishes_of(&set));
            }
        };
        if let Some(known) = self.publishes.get_mut(&set) {
            if known.publish.revision == revision {
                let gateway = known.publish.gateway_id.clone();
                match standing {
                    Standing::Accepted => self.probes.accepted(&gateway, &set, revision),
                    _ => self.probes.forget(&gateway, &set),
                }
                known.standing = Some((revision, standing));
                self.tell(&set);
                self.probe(&gateway);
            }
            return;
        }
        let Some((id, gateway)) =
            self.gateways.iter_mut().find(|(id, _)| of_gateway(id) == set || of_probe(id) == set)
        else {
            return;
        };
        let id = id.clone();
        if of_probe(&id) == set {
            if standing == Standing::Accepted {
                self.probes.written(&id, revision);
            }
            return;
        }
        let closes = standing == Standing::Accepted && !gateway.is_closed;
        gateway.is_closed |= closes;
        let refused = match standing {
            Standing::Refused(words) => Some(words),
            Standing::Applying | Standing::Waiting(_) | Standing::Accepted => None,
        };
        let is_news = gateway.refused != refused;
        gateway.refused = refused;
        let on_it = |(_, it): &(&String, &Publish)| it.publish.gateway_id == id;
        let sets: Vec<_> =
            self.publishes.iter().filter(on_it).map(|(set, _)| set.clone()).collect();
        for set in sets.iter().filter(|_| closes) {
            self.render(set);
        }
        for set in sets.iter().filter(|_| is_news) {
            self.tell(set);
        }
    }

    /// The publishes that a set concerns: its own, or those of its gateway.
    fn publishes_of(&self, set: &str) -> Vec<Arc<str>> {
        if let Some(known) = self.publishes.get(set) {
            return vec![known.publish.id.clone()];
        }
        let on_it = |it: &&Publish| of_gateway(&it.publish.gateway_id) == set;
        self.publishes.values().filter(on_it).map(|it| it.publish.id.clone()).collect()
    }

    /// Tells the fleet how a publish stands.
    fn tell(&self, set: &str) {
        let Some(Publish { publish, standing: Some((revision, standing)) }) =
            self.publishes.get(set)
        else {
            return;
        };
        let gateway = self.gateways.get(&publish.gateway_id);
        let refused = gateway.and_then(|gateway| gateway.refused.as_ref());
        let verdict = match (refused, standing) {
            (Some(words), _) | (None, Standing::Refused(words)) => refused_by(words),
            (None, Standing::Accepted) => {
                match self.probes.serving(&publish.gateway_id, set, *revision) {
                    Serving::Yes => Verdict::Accepted,
                    Serving::Asked => Verdict::Gone,
                    Serving::No => not_served(),
                }
            }
            (None, Standing::Applying | Standing::Waiting(_)) => Verdict::Gone,
        };
        let id: &Arc<str> = &publish.id;
        self.fleet.stands(id, *revision, verdict);
    }

    /// The keeper ends only with the driver.
    fn keep(&self, order: Order) {
        let _ends_with_the_driver = self.keeping.send(order);
    }
}

fn refused_by(words: &str) -> Verdict {
    Verdict::Refused(Box::new(pb::PublishError {
        code: "gateway_api_refused".to_owned(),
        hint: format!("The API server or the controller of the class does not take it: {words}"),
        ..Default::default()
    }))
}

fn not_served() -> Verdict {
    Verdict::Refused(Box::new(pb::PublishError {
        code: "not_served".to_owned(),
        hint: "The controller of the class has accepted it, but proxies of the gateway go on with former \
               configuration: they refuse something on it, possibly somebody else's."
            .to_owned(),
        ..Default::default()
    }))
}

fn now_ms() -> u64 {
    u64::try_from(clock::now().timestamp_millis()).unwrap_or_default()
}

/// The renderer makes objects of kinds that the keeper knows, or a test fails.
fn objects_of(rendered: Vec<Value>) -> Vec<Object> {
    let known = |json: Value| {
        Object::new(json).inspect_err(|error| tracing::error!(%error, "an object is left out")).ok()
    };
    rendered.into_iter().filter_map(known).collect()
}
