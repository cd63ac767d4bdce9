//! The state that must be consistent, under one lock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use imp_enforce::{Engine, PublishAccess};
use imp_proto::config::ResourceType;
use imp_translate::xds::{EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_translate::{Assembly, Delta, Options};
use imp_xds::StreamId;
use tracing::Span;

use super::Size;
use super::acknowledgements::{Acknowledgements, Key};
use super::door::Doors;
use super::drifts::Drifts;
use super::gateway_api::{ByGatewayApi, Way};
use super::gateway_resources::{GatewayResources, Staged};
use super::hosts::Hosts;
use super::leads::Leads;
use super::observer::EnvoyEvent;
use super::proof::Proof;
use super::refused_gateways::RefusedGateways;
use super::rules::FormerRules;
use super::streams::Streams;
use super::tracker::{Target, TargetId, Tracker, agent_rejected, gateway_rejected};
use super::verdicts::{Doubts, Retries};
use crate::intake::{Contents, Item, Publish, Rejected, Wire};
use crate::lkg::{self, Lkg, Table};
use crate::module::Feed;

/// The publishes that are followed without a break.
const PORTION: usize = 256;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) assembly: Assembly,
    pub(super) tracker: Tracker,
    pub(super) acks: Acknowledgements,
    pub(super) engine: Engine,
    pub(super) feed: Option<Feed>,
    pub(super) hosts: Hosts,
    pub(super) leads: Leads,
    pub(super) streams: Streams,
    /// Whether some Envoys are somebody else's.
    attaches: bool,
    pub(super) doors: Doors,
    /// Envoys without the module, beside others that may have it.
    pub(super) plain: BTreeSet<TargetId>,
    pub(super) lkg: Lkg,
    pub(super) revisions: HashMap<Arc<str>, Box<Revisions>>,
    pub(super) contents: Contents,
    pub(super) gateways: HashSet<String>,
    pub(super) refused_gateways: RefusedGateways,
    pub(super) by_gateway_api: ByGatewayApi,
    pub(super) drifts: Drifts,
    /// Versions that some Envoy has accepted, among those rendered now.
    pub(super) proven: HashMap<Key, Proof>,
    pub(super) doubts: Doubts,
    pub(super) retries: Retries,
    /// Envoys that opened a listener after failures.
    pub(super) reopened: BTreeSet<StreamId>,
    pub(super) started: Instant,
    staged: Staged,
    pub(super) gateway_resources: GatewayResources,
    /// Resources that changed, by gateway: publishes that need them may need another version now.
    touched: HashSet<(Arc<str>, Key)>,
    /// Publishes whose needed resources may have changed.
    stale: BTreeSet<String>,
    /// The same since the first Envoy came, when it begins to matter what publishes need.
    unfollowed: Vec<Arc<str>>,
    /// While set, the engine is not updated.
    pub(super) restoring: bool,
    /// Publishes that have former rules.
    pub(super) with_former_rules: BTreeSet<String>,
    pub(super) swept: Instant,
}

/// The revisions of a publish that may be serving. Their routes name the access rules that apply to
/// them, so the engine holds the rules of all of them.
#[derive(Debug)]
pub(super) struct Revisions {
    pub(super) wanted: Revision,
    /// The fallback until Envoys have the wanted revision.
    pub(super) former: Option<Box<Revision>>,
    /// The rules of every revision whose routes some Envoy may still run.
    pub(super) former_rules: FormerRules,
    /// Open until all Envoys have the wanted revision.
    pub(super) under_way: Span,
}

#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) access: PublishAccess,
    pub(super) wire: Wire,
}

impl Core {
    pub(super) fn new(
        (options, engine, feed): (Options, Engine, Option<Feed>),
        lkg: Lkg,
        gateway_resources: GatewayResources,
        doors: Doors,
    ) -> Self {
        Self {
            attaches: options.tells_hosts,
            assembly: Assembly::new(options),
            tracker: Tracker::default(),
            acks: Acknowledgements::default(),
            engine,
            feed,
            hosts: Hosts::default(),
            leads: Leads::default(),
            streams: Streams::default(),
            doors,
            plain: BTreeSet::new(),
            lkg,
            revisions: HashMap::new(),
            contents: Contents::default(),
            gateways: HashSet::new(),
            refused_gateways: RefusedGateways::default(),
            by_gateway_api: ByGatewayApi::default(),
            drifts: Drifts::default(),
            proven: HashMap::new(),
            doubts: Doubts::default(),
            retries: Retries::default(),
            reopened: BTreeSet::new(),
            started: Instant::now(),
            staged: Staged::default(),
            gateway_resources,
            touched: HashSet::new(),
            stale: BTreeSet::new(),
            unfollowed: Vec::new(),
            restoring: false,
            with_former_rules: BTreeSet::new(),
            swept: Instant::now(),
        }
    }

    /// Takes a new item.
    pub(super) fn put(&mut self, item: Item) {
        let publish = match &item {
            Item::Publish(publish) => Some(publish.routes.id.clone()),
            _ => None,
        };
        self.hold(item);
        if let Some(id) = publish.filter(|id| self.assembly.refused(id).is_none()) {
            self.keep_no_refusal(&id);
        }
    }

    pub(super) fn keep_no_refusal(&self, id: &str) {
        self.lkg.remove(Table::Refused, id.to_owned());
        self.lkg.remove(Table::Former, id.to_owned());
    }

    /// Takes an item that is new or restored.
    pub(super) fn hold(&mut self, item: Item) {
        match item {
            Item::Gateway(gateway) => {
                let id = gateway.id.clone();
                self.gateways.insert(id.clone());
                self.refused_gateways.taken(&id);
                self.place_gateway(gateway);
                self.leads.gateway_changed(&id);
                if !self.restoring {
                    self.stale.extend(self.assembly.publishes_on(&id));
                }
            }
            Item::Publish(publish) => self.hold_publish(*publish),
            // For the engine only: `Fleet::enforce`.
            Item::Entitlement(_) | Item::Credential(_) => {}
        }
    }

    fn hold_publish(&mut self, publish: Publish) {
        let Publish { mut routes, access, wire, span } = publish;
        let access = self.engine.share(access);
        // One copy of these texts.
        routes.id = access.publish_id().clone();
        routes.hostnames = access.hostnames().to_vec();
        let (id, number) = (routes.id.clone(), routes.revision);
        let proven = self.assembly.proven(&id);
        let (before, mut former_rules) = match self.revisions.remove(&id) {
            Some(known) => {
                let former = known.former.map(|former| *former);
                (vec![Some(known.wanted), former], known.former_rules)
            }
            None => (vec![], FormerRules::default()),
        };
        let before: Vec<Revision> = before.into_iter().flatten().collect();
        let former = before.iter().rev().find(|known| proven == Some(known.number)).cloned();
        let fallback = former.as_ref().map(|former| &former.access);
        let replaced = before.into_iter().next();
        let changed = replaced.is_some_and(|old| former_rules.add(old.access, &access, fallback));
        let former = former.map(Box::new);
        let wanted = Revision { number, access, wire: self.contents.share(wire) };
        let revisions = Revisions { wanted, former, former_rules, under_way: span };
        self.revisions.insert(id.clone(), Box::new(revisions));
        if changed {
            self.keep_former_rules(&id);
        }
        self.tracker.want(id.clone(), &routes.gateway_id, number);
        if self.attaches {
            self.leads.note_upgrades(&routes);
        }
        // Only staged, so that the engine knows the rules before anybody has routes that name them.
        self.deliver(routes);
        self.enforce(&id);
        self.note_stale(&id);
    }

    /// Gives the engine the rules of all revisions whose routes an Envoy may run. Each route names
    /// its own rules, so neither stricter nor looser ones apply to calls of other routes.
    /// Suspending and resuming apply to all of them at once.
    pub(super) fn enforce(&self, id: &str) {
        let Some(revisions) = self.revisions.get(id).filter(|_| !self.restoring) else { return };
        self.feed_rules(revisions);
        let (wanted, former) = (&revisions.wanted.access, revisions.former_rules.iter());
        self.engine.put_rules(wanted.clone(), former.cloned());
    }

    /// Tells modules the rules of every publish, after a restart.
    pub(super) fn feed_all(&self) {
        self.revisions.values().for_each(|revisions| self.feed_rules(revisions));
    }

    fn feed_rules(&self, revisions: &Revisions) {
        if let Some(feed) = &self.feed {
            feed.put_rules(&revisions.wanted.access, revisions.former_rules.iter());
        }
    }

    pub(super) fn remove(&mut self, kind: ResourceType, id: &str) {
        match kind {
            ResourceType::Gateway => {
                self.gateways.remove(id);
                self.refused_gateways.taken(id);
                self.stale.extend(self.assembly.publishes_on(id));
                let delta = self.assembly.remove_gateway(id);
                self.stage(delta);
                self.forget_path(id);
                self.by_gateway_api.forget_gateway(id);
                self.leads.gateway_changed(id);
            }
            ResourceType::Publish => {
                let delta = self.assembly.remove_publish(id);
                self.stage(delta);
                self.by_gateway_api.forget(id);
                self.drifts.forget(id);
                self.leads.forget_upgrades(id);
                if let Some(feed) = &self.feed {
                    feed.remove_publish(id);
                }
                self.engine.remove_publish(id);
                self.revisions.remove(id);
                self.acks.need(&id.into(), None);
                self.tracker.remove(id);
                self.with_former_rules.remove(id);
                for table in [Table::Acked, Table::Refused, Table::Former, Table::Rules] {
                    self.lkg.remove(table, id);
                }
            }
            ResourceType::Entitlement | ResourceType::Credential => {}
        }
    }

    /// Keeps the previous version of the gateway.
    pub(super) fn reject_gateway(&mut self, id: &str, rejected: &Rejected) {
        self.refused_gateways.rejected(id, gateway_rejected(&rejected.reason));
        self.stale.extend(self.assembly.publishes_on(id));
    }

    /// Keeps the previous version of the publish.
    pub(super) fn reject(&mut self, id: &str, rejected: &Rejected) {
        self.tracker.reject(id, rejected.revision, agent_rejected(&rejected.reason));
    }

    pub(super) fn happened(&mut self, event: EnvoyEvent) {
        match event {
            EnvoyEvent::Came {
                stream,
                id,
                gateway,
                version,
                is_plain,
                at_ms,
                of_type,
                attached,
            } => {
                let (target, is_new) = match of_type {
                    Some(of_type) => {
                        self.streams.came(stream, (id.clone(), gateway.clone()), of_type)
                    }
                    None => (stream, true),
                };
                if !is_new {
                    // What it had of this type it says again.
                    return self.acks.forget(target, of_type.unwrap_or_default());
                }
                tracing::info!(%id, gateway = gateway.as_deref().unwrap_or("all"), %version, attached, "an Envoy is connected");
                if is_plain {
                    self.plain.insert(target);
                }
                self.tracker.open(target, Target::new(&id, gateway.clone(), &version, at_ms));
                if self.acks.open(target, attached) {
                    self.unfollowed = self.revisions.keys().cloned().collect();
                }
                if let Some(gateway) = gateway.filter(|_| attached) {
                    self.tell_led(target, &gateway);
                }
                self.came(target);
            }
            EnvoyEvent::Left { stream } => {
                let Some(stream) = self.streams.left(stream) else { return };
                if let Some(node) = self.tracker.target(stream) {
                    tracing::info!(id = %node.id, "an Envoy left");
                }
                self.left(stream);
                self.plain.remove(&stream);
                self.scopes_arrived();
            }
            EnvoyEvent::Has { stream, type_url, resources } => {
                let stream = self.streams.target(stream);
                self.tracker.heard(stream);
                for resource in resources {
                    let key = (type_url, resource.name().clone());
                    self.has(stream, &key, resource.version());
                    self.answered(stream, &key);
                    if type_url == SCOPE {
                        self.scope_arrived(&key.1);
                    }
                }
            }
            EnvoyEvent::Refused { stream, type_url, name, version, words } => {
                let key = (type_url, name);
                if !self.door_refused(stream, &key, &version, &words) {
                    let stream = self.streams.target(stream);
                    let version = self.stands_for(stream, &key, &version);
                    self.refused(stream, &key, &version, &words);
                }
            }
            EnvoyEvent::Separate => self.separate(),
        }
    }

    fn has(&mut self, stream: StreamId, key: &Key, version: Option<&Arc<str>>) {
        let Some(version) = version else { return self.acks.acked(stream, key, None) };
        let needed = self.stands_for(stream, key, version);
        self.acks.acked(stream, key, Some(&needed));
        if needed == *version {
            self.accepted(key.clone(), version);
        }
    }

    /// Stages a delta, except for what must wait for modules.
    pub(super) fn stage(&mut self, delta: Delta) {
        if self.attaches {
            self.leads.note(&delta);
        }
        let delta = self.hosts_first(delta);
        self.stage_now(delta);
    }

    /// Stages a delta and records what it affects.
    pub(super) fn stage_now(&mut self, delta: Delta) {
        // What is restored is followed as a whole.
        for (gateway, of_gateway) in delta.gateways.iter().filter(|_| !self.restoring) {
            let upserts = of_gateway.upserts.iter().map(|r| (r.type_url, &*r.name));
            let removals = of_gateway.removals.iter().map(|(url, name)| (*url, name.as_str()));
            let needed = |(url, _): &(&str, _)| [SCOPE, ROUTES, LISTENER, EXTENSION].contains(url);
            for (url, name) in upserts.chain(removals).filter(needed) {
                self.touched.insert((gateway.clone(), (url, name.into())));
            }
        }
        for (url, name) in &delta.all.removals {
            if self.proven.remove(&(*url, name.as_str().into())).is_some() {
                self.lkg.remove(Table::Proven, lkg::key(url, name));
            }
        }
        self.staged.add(delta);
    }

    /// Marks the publish: the resources it needs may have changed.
    pub(super) fn note_stale(&mut self, id: &str) {
        if !self.restoring {
            self.stale.insert(id.to_owned());
        }
    }

    /// Makes the staged changes visible.
    pub(super) fn commit(&mut self) {
        let touched = self.staged.gateways();
        let gone: Vec<_> = touched.filter(|id| !self.gateways.contains(&***id)).cloned().collect();
        self.gateway_resources.commit(&mut self.staged);
        gone.iter().for_each(|id| self.gateway_resources.forget(id));
    }

    /// Updates the resources that each affected publish needs.
    pub(super) fn follow_all(&mut self) {
        for (gateway, key) in mem::take(&mut self.touched) {
            self.stale.extend(self.assembly.publishes_of(&gateway, key.0, &key.1));
            // Publishes that used it, and now wait outside while others are tried.
            self.stale.extend(self.acks.users_of(&key).map(|id| id.to_string()));
        }
        mem::take(&mut self.stale).iter().for_each(|id| self.follow_one(id));
    }

    /// Updates what all publishes need.
    pub(super) fn follow_everything(&mut self) {
        let ids: Vec<_> = self.revisions.keys().cloned().collect();
        ids.iter().for_each(|id| self.follow_one(id));
    }

    fn follow_one(&mut self, id: &str) {
        let way = self.by_gateway_api.way(id);
        if way != Way::GatewayApi {
            let needs = self.follow(id);
            if way == Way::Envoys {
                self.tracker.render(id, needs);
            }
        }
        if way != Way::Envoys {
            return self.follow_gateway_api(id);
        }
        let misplaced = self.assembly.misplaced(id);
        let misplaced = misplaced.map(|why| agent_rejected(&why.to_string()));
        let misplaced = misplaced.or_else(|| self.refused_gateway_of(id));
        self.tracker.place(id, misplaced.or_else(|| self.not_led(id)));
    }

    /// Whether [`Self::follow_some`] has something to do.
    pub(super) fn is_behind(&self) -> bool {
        !self.unfollowed.is_empty() || self.tracker.is_behind()
    }

    /// Updates what some publishes need, since the first Envoy came.
    pub(super) fn follow_some(&mut self) {
        let kept = self.unfollowed.len().saturating_sub(PORTION);
        self.stale.extend(self.unfollowed.drain(kept..).map(|id| id.to_string()));
        self.follow_all();
    }

    /// Updates what a publish needs. Until the first Envoy is here that matters only for those that
    /// were refused before a restart, which makes the start shorter. Returns the revision that they are sent.
    fn follow(&mut self, id: &str) -> Option<u64> {
        let matters = self.acks.is_followed() || self.assembly.refused(id).is_some();
        let mut needs = matters.then(|| self.assembly.requirements(id)).flatten();
        if let Some((_, needs)) = needs.as_mut().filter(|_| self.attaches) {
            needs.extend(self.hosts_of(id));
        }
        let rendered = needs.as_ref().map(|(revision, _)| *revision);
        if matters {
            let known = self.revisions.get(id).map(|it| it.wanted.access.publish_id().clone());
            self.acks.need(&known.unwrap_or_else(|| id.into()), needs);
        }
        rendered
    }

    /// Passes outcomes of publishes to the tracker.
    pub(super) fn take_outcomes(&mut self) {
        let assembly = &self.assembly;
        let describe = |id: &str, key: &Key| assembly.described(id, key.0, &key.1);
        let outcomes = self.acks.outcomes(describe);
        for mut outcome in outcomes {
            self.without_wildcards(&mut outcome);
            self.tracker.take(outcome);
        }
    }

    /// Updates the statuses and stores what must survive a restart.
    pub(super) fn settle(&mut self) {
        self.take_outcomes();
        self.settle_gateways();
        for (id, revision) in self.tracker.settle() {
            self.lkg.put(Table::Acked, &*id, revision.to_be_bytes().to_vec());
            if let Some(revisions) = self.revisions.get_mut(&*id)
                && revisions.wanted.number == revision
            {
                revisions.former = None;
                revisions.under_way = Span::none();
            }
        }
    }

    pub(super) fn size(&self) -> Size {
        Size {
            gateways: self.gateways.len(),
            publishes: self.revisions.len(),
            nodes: self.tracker.targets().count(),
        }
    }
}
