//! Everything that must agree, under one lock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::time::Instant;

use imp_enforce::{Engine, PublishAccess};
use imp_proto::agent as pb;
use imp_proto::config::ResourceType;
use imp_translate::xds::{EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_translate::{Assembly, Blame, Delta, Options};
use imp_xds::StreamId;
use prost::Message as _;

use super::Size;
use super::observer::Happened;
use super::proof::Proof;
use super::rules::{FormerRules, SWEEP};
use super::tracker::{Key, Node, Tracker, agent_rejected};
use super::verdicts::{Doubts, Retries};
use super::worlds::{Staged, Worlds};
use crate::intake::{Item, Publish, Rejected};
use crate::lkg::{self, Lkg, Table};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) assembly: Assembly,
    pub(super) tracker: Tracker,
    pub(super) engine: Engine,
    pub(super) lkg: Lkg,
    pub(super) revisions: HashMap<String, Revisions>,
    pub(super) gateways: HashSet<String>,
    /// Versions that some Envoy has accepted, of what is rendered now.
    pub(super) proven: HashMap<Key, Proof>,
    pub(super) doubts: Doubts,
    pub(super) retries: Retries,
    /// Envoys that opened a listener at last.
    pub(super) reopened: BTreeSet<StreamId>,
    pub(super) started: Instant,
    staged: Staged,
    worlds: Worlds,
    /// Resources that changed, by gateway: whoever needs one may need another version now.
    touched: BTreeSet<(String, Key)>,
    /// Publishes that may need something else now.
    stale: BTreeSet<String>,
    /// The engine is not told while this is so.
    pub(super) restoring: bool,
    /// Publishes that have former rules, and when it was last looked whether these can go.
    pub(super) with_former_rules: BTreeSet<String>,
    swept: Instant,
}

/// The revisions of a publish that may be serving. Their routes name the rules that they are judged by,
/// so the engine holds the rules of all of them.
#[derive(Debug)]
pub(super) struct Revisions {
    pub(super) wanted: Revision,
    /// What it falls back to, until Envoys have the wanted one.
    pub(super) former: Option<Revision>,
    /// Of every revision whose routes some Envoy may still run.
    pub(super) former_rules: FormerRules,
}

#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) access: PublishAccess,
    pub(super) wire: bytes::Bytes,
}

/// Behind a refusal on disk, in a field that the status does not have: the marks of the Envoys.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefusedBy {
    #[prost(string, repeated, tag = "1000")]
    pub(super) marks: Vec<String>,
}

impl Core {
    pub(super) fn new(options: Options, engine: Engine, lkg: Lkg, worlds: Worlds) -> Self {
        Self {
            assembly: Assembly::new(options),
            tracker: Tracker::default(),
            engine,
            lkg,
            revisions: HashMap::new(),
            gateways: HashSet::new(),
            proven: HashMap::new(),
            doubts: Doubts::default(),
            retries: Retries::default(),
            reopened: BTreeSet::new(),
            started: Instant::now(),
            staged: Staged::default(),
            worlds,
            touched: BTreeSet::new(),
            stale: BTreeSet::new(),
            restoring: false,
            with_former_rules: BTreeSet::new(),
            swept: Instant::now(),
        }
    }

    /// Takes what is new.
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

    /// Takes what is new, or was here before a restart.
    pub(super) fn hold(&mut self, item: Item) {
        match item {
            Item::Gateway(gateway) => {
                let id = gateway.id.clone();
                self.gateways.insert(id.clone());
                let delta = self.assembly.set_gateway(gateway);
                self.stage(delta);
                self.stale.extend(self.assembly.publishes_on(&id));
            }
            Item::Publish(publish) => self.hold_publish(*publish),
            // The engine's alone: `Fleet::enforce`.
            Item::Entitlement(_) | Item::Credential(_) => {}
        }
    }

    fn hold_publish(&mut self, publish: Publish) {
        let Publish { routes, access, wire } = publish;
        let (id, number) = (routes.id.clone(), routes.revision);
        let proven = self.assembly.proven(&id);
        let (before, mut former_rules) = match self.revisions.remove(&id) {
            Some(known) => (vec![Some(known.wanted), known.former], known.former_rules),
            None => (vec![], FormerRules::default()),
        };
        let before: Vec<Revision> = before.into_iter().flatten().collect();
        let former = before.iter().rev().find(|known| proven == Some(known.number)).cloned();
        let fallback = former.as_ref().map(|former| &former.access);
        let replaced = before.into_iter().next();
        let changed = replaced.is_some_and(|old| former_rules.add(old.access, &access, fallback));
        let wanted = Revision { number, access, wire };
        self.revisions.insert(id.clone(), Revisions { wanted, former, former_rules });
        if changed {
            self.keep_former_rules(&id);
        }
        self.tracker.want(&id, &routes.gateway_id, number);
        let delta = self.assembly.set_publish(routes);
        // Staged, so the engine knows the rules before an Envoy has routes that name them.
        self.stage(delta);
        self.enforce(&id);
        self.stale.insert(id);
    }

    /// Tells the engine the rules of all revisions whose routes an Envoy may run. Each route names its
    /// own, so neither stricter nor looser ones apply to calls of other routes. That the publish is
    /// suspended, or no longer is, applies to all of them at once.
    pub(super) fn enforce(&self, id: &str) {
        let Some(revisions) = self.revisions.get(id).filter(|_| !self.restoring) else { return };
        let former = revisions.former_rules.iter().cloned();
        self.engine.put_rules(revisions.wanted.access.clone(), former);
    }

    /// So that a restart finds them: Envoys go on with their routes meanwhile.
    fn keep_former_rules(&mut self, id: &str) {
        match self.revisions.get(id).and_then(|revisions| revisions.former_rules.row()) {
            Some(row) => {
                self.lkg.put(Table::Rules, id, row);
                self.with_former_rules.insert(id.to_owned());
            }
            None => {
                self.lkg.remove(Table::Rules, id);
                self.with_former_rules.remove(id);
            }
        }
    }

    /// Forgets former rules that no Envoy runs any more.
    pub(super) fn sweep_former_rules(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        for id in mem::take(&mut self.with_former_rules) {
            let Some(revisions) = self.revisions.get_mut(&id) else { continue };
            if revisions.former_rules.sweep(self.tracker.is_everywhere(&id), now) {
                self.lkg.remove(Table::Rules, id.as_str());
                self.enforce(&id);
            } else {
                self.with_former_rules.insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, kind: ResourceType, id: &str) {
        match kind {
            ResourceType::Gateway => {
                self.gateways.remove(id);
                self.stale.extend(self.assembly.publishes_on(id));
                let delta = self.assembly.remove_gateway(id);
                self.stage(delta);
            }
            ResourceType::Publish => {
                let delta = self.assembly.remove_publish(id);
                self.stage(delta);
                self.engine.remove_publish(id);
                self.revisions.remove(id);
                self.tracker.remove(id);
                self.with_former_rules.remove(id);
                for table in [Table::Acked, Table::Refused, Table::Former, Table::Rules] {
                    self.lkg.remove(table, id);
                }
            }
            ResourceType::Entitlement | ResourceType::Credential => {}
        }
    }

    /// What it holds of the publish goes on.
    pub(super) fn reject(&mut self, id: &str, rejected: &Rejected) {
        self.tracker.reject(id, rejected.revision, agent_rejected(&rejected.reason));
    }

    pub(super) fn happened(&mut self, event: Happened) {
        match event {
            Happened::Came { stream, id, gateway, version, at_ms } => {
                tracing::info!(%id, gateway = gateway.as_deref().unwrap_or("all"), %version, "an Envoy is connected");
                self.tracker.open(stream, Node::new(&id, gateway, &version, at_ms));
                self.came(stream);
            }
            Happened::Left { stream } => {
                if let Some(node) = self.tracker.node(stream) {
                    tracing::info!(id = %node.id, "an Envoy left");
                }
                self.left(stream);
            }
            Happened::Has { stream, type_url, resources } => {
                for resource in resources {
                    let key = (type_url, resource.name().clone());
                    let version = resource.version();
                    self.tracker.acked(stream, &key, version.map(|version| &**version));
                    if let Some(version) = version {
                        self.accepted(key.clone(), version);
                    }
                    self.answered(stream, &key);
                }
            }
            Happened::Refused { stream, type_url, name, version, words } => {
                self.refused(stream, &(type_url, name), &version, &words);
            }
        }
    }

    fn accepted(&mut self, key: Key, version: &str) {
        let delta = self.assembly.accepted(key.0, &key.1, version);
        self.stage(delta);
        if self.proven.get(&key).is_none_or(|proof| proof.version != version) {
            self.worlds.mark_proven(key.0, &key.1, version);
            let mut proof = Proof::new(version);
            for node in self.tracker.refusers_of(&key, version) {
                proof.refused(&node.id);
            }
            self.lkg.put(Table::Proven, lkg::key(key.0, &key.1), proof.row());
            self.proven.insert(key, proof);
        }
    }

    /// An Envoy refused what another took. What was taken stays so, over a restart, too.
    pub(super) fn dispute(&mut self, stream: StreamId, key: &Key, version: &str) {
        let Some(node) = self.tracker.node(stream) else { return };
        let proof = self.proven.get_mut(key).filter(|proof| proof.version == version);
        if let Some(proof) = proof
            && proof.refused(&node.id)
        {
            self.lkg.put(Table::Proven, lkg::key(key.0, &key.1), proof.row());
        }
    }

    /// Nodes that refused something that another took. They may have kept it in memory.
    pub(super) fn refusers(&self) -> impl Iterator<Item = &String> {
        self.proven.values().flat_map(|proof| &proof.refused_by)
    }

    /// The routes go back, and a restart finds it so. The rules that they name are still held.
    pub(super) fn blame(&mut self, blame: &Blame, error: &pb::PublishError, by: &[String]) {
        let Blame { publish_id: id, revision } = blame;
        tracing::warn!(publish = %id, revision, words = %error.envoy_message, "Envoy refused a revision");
        self.tracker.refuse(id, *revision, error.clone(), by);
        let status = pb::PublishStatus {
            publish_id: id.clone(),
            revision: *revision,
            error: Some(error.clone()),
            ..Default::default()
        };
        let by = RefusedBy { marks: by.to_vec() };
        let row = [status.encode_to_vec(), by.encode_to_vec()].concat();
        match self.revisions.get(id).and_then(|known| known.former.as_ref()) {
            Some(former) => {
                let version = imp_proto::content_version(&former.wire);
                let resource = imp_xds::Resource::new(id.as_str(), version, former.wire.clone());
                let row = lkg::row(ResourceType::Publish.type_url(), &resource);
                self.lkg.put(Table::Former, id.clone(), row);
            }
            None => self.lkg.remove(Table::Former, id.clone()),
        }
        // Behind it: a refusal without what it fell back to would serve nothing after a restart.
        self.lkg.put(Table::Refused, id.clone(), row);
        self.stale.insert(id.clone());
    }

    /// Stages a delta and notes what it touches.
    pub(super) fn stage(&mut self, delta: Delta) {
        for (gateway, of_gateway) in &delta.gateways {
            let upserts = of_gateway.upserts.iter().map(|r| (r.type_url, r.name.as_str()));
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

    /// What must be acknowledged for this publish may have changed.
    pub(super) fn note_stale(&mut self, id: &str) {
        self.stale.insert(id.to_owned());
    }

    /// Makes what is staged visible.
    pub(super) fn commit(&mut self) {
        let touched = self.staged.gateways();
        let gone: Vec<_> = touched.filter(|id| !self.gateways.contains(*id)).cloned().collect();
        self.worlds.commit(&mut self.staged);
        gone.iter().for_each(|id| self.worlds.forget(id));
    }

    /// Tells the tracker what must be acknowledged now.
    pub(super) fn follow_all(&mut self) {
        for (gateway, key) in mem::take(&mut self.touched) {
            self.stale.extend(self.assembly.publishes_of(&gateway, key.0, &key.1));
            // Who was in it, and now waits outside while others are judged.
            self.stale.extend(self.tracker.users_of(&key).cloned());
        }
        for id in mem::take(&mut self.stale) {
            let needs = self.assembly.requirements(&id);
            self.tracker.need(&id, needs);
            let misplaced = self.assembly.misplaced(&id);
            self.tracker.place(&id, misplaced.map(|why| agent_rejected(&why.to_string())));
        }
    }

    /// Brings statuses up to date and keeps what must survive a restart.
    pub(super) fn settle(&mut self) {
        for (id, revision) in self.tracker.settle() {
            self.lkg.put(Table::Acked, id.clone(), revision.to_be_bytes().to_vec());
            if let Some(revisions) = self.revisions.get_mut(&id)
                && revisions.wanted.number == revision
            {
                revisions.former = None;
            }
        }
    }

    /// So that a fresh Envoy gets in one message what another one took before, and nobody refused.
    pub(super) fn mark_proven(&self) {
        let undisputed = self.proven.iter().filter(|(_, proof)| proof.refused_by.is_empty());
        for ((type_url, name), proof) in undisputed {
            self.worlds.mark_proven(type_url, name, &proof.version);
        }
    }

    pub(super) fn size(&self) -> Size {
        Size {
            gateways: self.gateways.len(),
            publishes: self.revisions.len(),
            nodes: self.tracker.nodes().count(),
        }
    }

    /// Empty: the Envoy serves all gateways.
    pub(super) fn gateway_of(&self, stream: StreamId) -> String {
        self.tracker.node(stream).and_then(|node| node.gateway.clone()).unwrap_or_default()
    }
}
