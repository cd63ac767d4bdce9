//! Renders units again, and updates what they use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Assembly;
use super::change::Change;
use super::prepared;
use super::tables;
use super::unit::{Sent, Unit};
use crate::xds::Layout;
use crate::xds::content::{Content, Key};
use crate::xds::names::Short;

/// What a unit used before a change of it.
pub(super) type Before = [Option<Arc<Sent>>; 2];

impl Assembly {
    /// Renders a unit again and records the changes. A unit that had the same content for itself,
    /// or has it now, is rendered again, too: so a change costs at most two units more.
    pub(super) fn refresh(&mut self, id: Short, change: &mut Change) {
        let mut due = vec![id];
        while let Some(id) = due.pop() {
            let Some(mut unit) = self.units.remove(&id) else { continue };
            let before = unit.uses();
            self.advance(id, &mut unit, &mut due, change);
            if unit.is_empty() {
                if unit.current.is_some() {
                    change.remove(&unit.gateway, unit.place.type_url(), &unit.name);
                    if self.tells_hosts() {
                        change.host(&unit, false);
                    }
                }
                unit.clear();
                self.share(None, id, &mut unit, &mut due);
            }
            self.settle(id, &unit, &before, change);
            if !unit.is_empty() {
                self.units.insert(id, unit);
            }
        }
    }

    fn tells_hosts(&self) -> bool {
        self.options.finds_wildcards() || self.options.tells_hosts
    }

    fn advance(&mut self, id: Short, unit: &mut Unit, due: &mut Vec<Short>, change: &mut Change) {
        loop {
            let members = unit.wanted();
            if members.is_empty() && !unit.stays {
                if !unit.holds_some() {
                    return;
                }
                // All members wait: try some.
                unit.release();
                continue;
            }
            let shares = self.options.layout == Layout::ScopedRoutes;
            let key = shares.then(|| prepared::key(&members));
            self.share(key, id, unit, due);
            let table = key.and_then(|key| {
                let name = self.tables.shared(key, &members, &unit.gateway, change)?;
                Some((key, name))
            });
            let name = table.as_ref().map(|(_, name)| name);
            let rendered = tables::scope_of(unit, &members, name);
            if unit.is_current(&rendered.version) {
                return unit.renew(&rendered.version, &members);
            }
            let version = rendered.version.clone();
            let sent = Sent { version, members, table: table.map(|(key, _)| key) };
            change.upsert(&unit.gateway, rendered);
            if self.tells_hosts() {
                change.host(unit, true);
            }
            // Envoy sends no verdict for what it already has, so nothing may wait for one.
            if !unit.advance(sent) || !unit.release() {
                return;
            }
        }
    }

    /// Moves a unit to those that want the same.
    fn share(&mut self, key: Option<Key>, id: Short, unit: &mut Unit, due: &mut Vec<Short>) {
        if unit.key == key {
            return;
        }
        if let Some(before) = unit.key {
            due.extend(self.tables.leave(before, id));
        }
        if let Some(key) = key {
            due.extend(self.tables.join(key, id));
        }
        unit.key = key;
    }

    /// Updates the users of clusters and tables after a change of a unit.
    pub(super) fn settle(&mut self, id: Short, unit: &Unit, before: &Before, change: &mut Change) {
        let after = unit.uses();
        let same = before.iter().zip(&after).all(|pair| match pair {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (before, after) => before.is_none() && after.is_none(),
        });
        if same {
            return;
        }
        let (old, new) = (contents(before), contents(&after));
        for (_, content) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
            self.contents.enter(content, (id, unit), &mut self.clusters, change);
        }
        for (_, content) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
            self.contents.leave(content, (id, unit), &mut self.clusters, change);
        }
        // Those that come first, so that a table that stays is not removed in between.
        let named = |sent: &Option<Arc<Sent>>| sent.as_ref().and_then(|sent| sent.table);
        after.iter().filter_map(named).for_each(|key| self.tables.count(key, true, change));
        before.iter().filter_map(named).for_each(|key| self.tables.count(key, false, change));
    }
}

fn contents(versions: &Before) -> BTreeMap<Key, &Arc<Content>> {
    let members = versions.iter().flatten().flat_map(|sent| sent.members.iter());
    members.map(|member| (member.content.key, &member.content)).collect()
}
