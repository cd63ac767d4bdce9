//! Handles Envoy's verdicts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change::Change;
use super::delta::{Blame, Delta};
use super::prepared::{Prepared, UnitKey};
use super::{Assembly, PublishState};
use crate::xds::CLUSTER;

impl Assembly {
    /// Envoy rejected this version. If a single member is the suspect it falls back; otherwise the
    /// delta holds back some of them, and later verdicts narrow it down. A rejection of an older
    /// version is ignored: the current one gets its own verdict.
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
        } else if let Some(key) = self.unit_of(type_url, name) {
            self.doubt(&key, version, &mut change, &mut blames);
        }
        (self.finish(change), blames)
    }

    /// Envoy accepted this version, which its publishes now fall back to. The delta has what waited
    /// for this: clusters of the former revision are removed, publishes that were held back are
    /// added.
    pub fn accepted(&mut self, type_url: &str, name: &str, version: &str) -> Delta {
        let mut change = Change::default();
        if type_url == CLUSTER {
            if self.clusters.accept(name, version) {
                for key in self.clusters.units(name) {
                    self.prove_members(&key);
                }
            }
        } else if let Some(key) = self.unit_of(type_url, name) {
            let Some(unit) = self.units.get_mut(&key) else { return Delta::default() };
            if unit.accept(version) {
                let news = unit.is_current(version) && unit.release();
                self.prove_members(&key);
                if news {
                    self.refresh(&key, &mut change);
                } else {
                    self.settle_clusters(&key, &mut change);
                }
            }
        }
        self.finish(change)
    }

    /// Publishes whose rendered revision uses a cluster, optionally of one gateway only.
    pub(super) fn users_of_cluster(&self, name: &str, gateway: Option<&str>) -> BTreeSet<String> {
        let of_gateway = |key: &UnitKey| gateway.is_none_or(|gateway| key.gateway == gateway);
        let units = self.clusters.units(name).into_iter().filter(of_gateway);
        let uses = |id: &String| {
            let state = self.publishes.get(id);
            state.and_then(|s| s.effective()).is_some_and(|prepared| prepared.uses(name))
        };
        units
            .filter_map(|key| self.units.get(&key))
            .flat_map(|unit| unit.serving_ids())
            .filter(uses)
            .collect()
    }

    fn doubt(
        &mut self,
        key: &UnitKey,
        version: &str,
        change: &mut Change,
        blames: &mut Vec<Blame>,
    ) {
        let Some(unit) = self.units.get_mut(key).filter(|unit| unit.is_current(version)) else {
            return;
        };
        let suspects = unit.suspects();
        match suspects.as_slice() {
            [] => {}
            [one] => self.block(one, change, blames),
            several => {
                let (_, waiting) = several.split_at(several.len() / 2);
                unit.hold(waiting.iter().cloned());
                self.refresh(key, change);
            }
        }
    }

    /// Blocks the rendered revision of a publish: the proven revision comes back. If that is what
    /// was rejected, nothing is served, because it would block all other members.
    fn block(&mut self, id: &str, change: &mut Change, blames: &mut Vec<Blame>) {
        let Some(state) = self.publishes.get_mut(id) else { return };
        let same = |p: &Arc<Prepared>| p.publish == state.desired.publish;
        if state.blocked || state.proven.as_ref().is_some_and(same) {
            state.proven = None;
        }
        if !std::mem::replace(&mut state.blocked, true) {
            let revision = state.desired.publish.revision;
            blames.push(Blame { publish_id: id.to_owned(), revision });
        }
        let after = state.proven.clone();
        self.replace(id, after, change);
    }

    /// A revision is proven when Envoy accepted all of its units and clusters.
    fn prove_members(&mut self, key: &UnitKey) {
        let Some(unit) = self.units.get(key) else { return };
        for id in unit.serving_ids() {
            let news = |state: &&PublishState| {
                !state.proven.as_ref().is_some_and(|proven| Arc::ptr_eq(proven, &state.desired))
            };
            let Some(state) = self.publishes.get(&id).filter(news) else { continue };
            let desired = state.desired.clone();
            let took = |key: &UnitKey| {
                self.units.get(key).is_some_and(|unit| unit.has_accepted(&id, &desired))
            };
            let proven = desired.clusters().all(|c| self.clusters.accepted(&c.name))
                && self.placed.get(&id).is_some_and(|placed| placed.iter().all(took));
            if let (true, Some(state)) = (proven, self.publishes.get_mut(&id)) {
                state.proven = Some(desired);
            }
        }
    }
}
