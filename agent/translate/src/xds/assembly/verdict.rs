//! Handles Envoy's verdicts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Assembly;
use super::change::Change;
use super::delta::{Blame, Delta};
use crate::xds::CLUSTER;
use crate::xds::names::{self, Named, Short};

impl Assembly {
    /// Envoy rejected this version. If a single member is the suspect it falls back; otherwise the
    /// delta holds back some of them, and later verdicts narrow it down. A rejected table is a
    /// doubt about every unit that names it. A rejection of an older version is ignored: the
    /// current one gets its own verdict.
    pub fn nacked(
        &mut self,
        gateway_id: &str,
        type_url: &str,
        name: &str,
        version: &str,
    ) -> (Delta, Vec<Blame>) {
        let mut change = Change::default();
        let mut blames = Vec::new();
        if type_url == CLUSTER {
            if self.clusters.version(name) == Some(version) && !self.clusters.accepted(name) {
                let gateway = (!gateway_id.is_empty()).then_some(gateway_id);
                for id in self.users_of_cluster(name, gateway) {
                    self.block(&id, &mut change, &mut blames);
                }
            }
            return (self.finish(change), blames);
        }
        match names::read(type_url, name) {
            Some(Named::Place(id)) => {
                if self.units.get(&id).is_some_and(|unit| unit.is_current(version)) {
                    self.doubt(id, &mut change, &mut blames);
                }
            }
            Some(Named::Table(short)) => {
                self.doubt_table(short, version, &mut change, &mut blames);
            }
            // It names a table and says nothing else.
            Some(Named::Holder(_)) | None => {}
        }
        (self.finish(change), blames)
    }

    /// Envoy accepted this version, which its publishes now fall back to. The delta has what waited
    /// for this: clusters and tables of the former revision are removed, publishes that were held
    /// back are added.
    pub fn accepted(&mut self, type_url: &str, name: &str, version: &str) -> Delta {
        let mut change = Change::default();
        if type_url == CLUSTER {
            if self.clusters.accept(name, version) {
                for id in self.units_of_cluster(name, None) {
                    self.prove_members(id);
                }
            }
            return self.finish(change);
        }
        // An Envoy that takes a scope has the table that it names.
        let Some(Named::Place(id)) = names::read(type_url, name) else { return Delta::default() };
        let Some(mut unit) = self.units.remove(&id) else { return Delta::default() };
        let before = unit.uses();
        let is_taken = unit.accept(version);
        let news = is_taken && unit.is_current(version) && unit.release();
        if is_taken {
            self.settle(id, &unit, &before, &mut change);
        }
        self.units.insert(id, unit);
        if is_taken {
            self.prove_members(id);
        }
        if news {
            self.refresh(id, &mut change);
        }
        self.finish(change)
    }

    /// The units that have a member with this cluster, optionally of one gateway only.
    fn units_of_cluster(&self, name: &str, gateway: Option<&str>) -> BTreeSet<Short> {
        let contents = self.clusters.users(name, gateway);
        contents.into_iter().flat_map(|key| self.contents.units(key)).collect()
    }

    /// Publishes whose rendered revision uses a cluster, optionally of one gateway only.
    pub(super) fn users_of_cluster(&self, name: &str, gateway: Option<&str>) -> BTreeSet<Arc<str>> {
        let uses = |id: &&Arc<str>| {
            let state = self.publishes.get(*id);
            state.and_then(|state| state.effective()).is_some_and(|it| it.content.uses(name))
        };
        let units = self.units_of_cluster(name, gateway);
        let units = units.iter().filter_map(|id| self.units.get(id));
        units.flat_map(|unit| unit.serving_ids()).filter(uses).cloned().collect()
    }

    fn doubt_table(
        &mut self,
        short: Short,
        version: &str,
        change: &mut Change,
        blames: &mut Vec<Blame>,
    ) {
        let Some(key) = self.tables.key(short) else { return };
        if self.tables.sent(&key).is_none_or(|(_, sent)| **sent != *version) {
            return;
        }
        self.tables.refuse(&key);
        for id in self.tables.units(&key) {
            if self.units.get(&id).is_some_and(|unit| unit.key == Some(key)) {
                self.doubt(id, change, blames);
            }
        }
    }

    fn doubt(&mut self, id: Short, change: &mut Change, blames: &mut Vec<Blame>) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        match unit.suspects().as_slice() {
            // Envoy has all of it in another form.
            [] => self.refresh(id, change),
            [one] => self.block(one, change, blames),
            several => {
                let (_, waiting) = several.split_at(several.len() / 2);
                unit.hold(waiting.iter().cloned());
                self.refresh(id, change);
            }
        }
    }

    /// Blocks the rendered revision of a publish: the proven revision comes back. If that is what
    /// was rejected, nothing is served, because it would block all other members.
    fn block(&mut self, id: &str, change: &mut Change, blames: &mut Vec<Blame>) {
        let Some(state) = self.publishes.get_mut(id) else { return };
        if state.blocked || state.proven.as_ref().is_some_and(|it| it.serves_as(&state.desired)) {
            state.proven = None;
        }
        if !std::mem::replace(&mut state.blocked, true) {
            let revision = state.desired.revision;
            blames.push(Blame { publish_id: id.to_owned(), revision });
            self.contents.refuse(state.desired.content.key, state.desired.stamp);
        }
        let after = state.proven.clone();
        self.replace(id, after, change);
    }

    fn prove_members(&mut self, id: Short) {
        let Some(unit) = self.units.get(&id) else { return };
        let ids: Vec<Arc<str>> = unit.serving_ids().cloned().collect();
        ids.iter().for_each(|id| self.prove(id));
    }

    /// A revision is proven when Envoy accepted all of its units and clusters.
    pub(super) fn prove(&mut self, id: &str) {
        let Some(state) = self.publishes.get(id).filter(|state| !state.blocked) else { return };
        if state.proven.as_ref().is_some_and(|proven| Arc::ptr_eq(proven, &state.desired)) {
            return;
        }
        let desired = &state.desired;
        let took = |id: &Short| self.units.get(id).is_some_and(|unit| unit.has_accepted(desired));
        let proven = !state.placed.is_empty()
            && desired.content.clusters.iter().all(|it| self.clusters.accepted(&it.name))
            && state.placed.iter().all(took);
        if proven && let Some(state) = self.publishes.get_mut(id) {
            state.proven = Some(state.desired.clone());
        }
    }
}
