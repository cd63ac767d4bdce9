//! The tables of routes that units share. The first unit with some content has it in its own scope; once
//! there is a second, both name a table, since a table of its own costs Envoy more than routes in the
//! scope.

use std::collections::HashMap;
use std::sync::Arc;

use super::change::Change;
use super::delta::{Delta, put};
use super::few::Few;
use super::prepared::{self, Members};
use crate::xds::content::Key;
use crate::xds::names::Short;
use crate::xds::{ROUTES, Rendered, SCOPE, names, scope};

#[derive(Debug, Default)]
pub(super) struct Tables {
    by_key: HashMap<Key, Table>,
    by_name: HashMap<Short, Key>,
}

#[derive(Debug, Default)]
struct Table {
    /// The units that want this content.
    units: Few<Short>,
    /// How many current and accepted versions of units name the table.
    named: u32,
    /// Whether Envoy rejected it. The units have it in their scopes then, and are judged singly.
    refused: bool,
    /// While Envoys have it.
    sent: Option<Box<Sent>>,
}

/// Its own holder comes and goes with it.
#[derive(Debug)]
struct Sent {
    gateway: Arc<str>,
    short: Short,
    name: Arc<str>,
    version: Arc<str>,
    /// Until Envoys are told of it.
    news: Option<Rendered>,
}

impl Table {
    fn is_shared(&self) -> bool {
        self.units.len() > 1 && !self.refused
    }
}

impl Tables {
    /// Records that a unit wants this content. Returns the unit that no longer has it for itself.
    pub(super) fn join(&mut self, key: Key, unit: Short) -> Option<Short> {
        let table = self.by_key.entry(key).or_default();
        let before = table.units.first().copied().filter(|_| table.units.len() == 1);
        if table.units.insert(unit) { before } else { None }
    }

    /// Records that a unit wants something else. Returns the unit that has it for itself now.
    pub(super) fn leave(&mut self, key: Key, unit: Short) -> Option<Short> {
        let table = self.by_key.get_mut(&key)?;
        let left = table.units.remove(&unit);
        let last = table.units.first().copied().filter(|_| left && table.units.len() == 1);
        if table.units.is_empty() && table.named == 0 && table.sent.is_none() {
            self.by_key.remove(&key);
        }
        last
    }

    /// The name of the table that a unit with this content names. Sent if Envoys do not have it, with its
    /// holder.
    pub(super) fn shared(
        &mut self,
        key: Key,
        members: &Members,
        gateway: &Arc<str>,
        change: &mut Change,
    ) -> Option<Arc<str>> {
        let table = self.by_key.get_mut(&key).filter(|table| table.is_shared())?;
        if let Some(sent) = &table.sent {
            return Some(sent.name.clone());
        }
        let (short, rendered) = prepared::shared_table(&key, members);
        let name = rendered.name.clone();
        table.sent = Some(Box::new(Sent {
            gateway: gateway.clone(),
            short,
            name: name.clone(),
            version: rendered.version.clone(),
            news: Some(rendered),
        }));
        self.by_name.insert(short, key);
        change.touch_table(key);
        Some(name)
    }

    /// Counts the versions of units that name a table.
    pub(super) fn count(&mut self, key: Key, more: bool, change: &mut Change) {
        let Some(table) = self.by_key.get_mut(&key) else { return };
        table.named = if more { table.named + 1 } else { table.named.saturating_sub(1) };
        change.touch_table(key);
    }

    /// Compares the units that name a table with whether Envoys have it.
    pub(super) fn settle(&mut self, key: Key, delta: &mut Delta) {
        let Some(table) = self.by_key.get_mut(&key) else { return };
        let is_named = table.named > 0;
        let Some(sent) = &mut table.sent else { return };
        let mut put = |type_url, name: &str, resource: Option<Rendered>| {
            put(&mut delta.all, type_url, name, resource.clone());
            let target = delta.gateways.entry(sent.gateway.clone()).or_default();
            put(target, type_url, name, resource);
        };
        let holder = || scope::holder(sent.short);
        match (is_named, sent.news.take()) {
            (true, None) => return,
            (true, Some(news)) => {
                put(ROUTES, &sent.name, Some(news));
                let holder = holder();
                put(SCOPE, &holder.name.clone(), Some(holder));
                return;
            }
            (false, None) => {
                put(ROUTES, &sent.name, None);
                put(SCOPE, &names::holder(sent.short), None);
            }
            (false, Some(_)) => {}
        }
        self.by_name.remove(&sent.short);
        table.sent = None;
        if table.units.is_empty() {
            self.by_key.remove(&key);
        }
    }

    /// The table's name and version, if Envoys have it.
    pub(super) fn sent(&self, key: &Key) -> Option<(&Arc<str>, &Arc<str>)> {
        let sent = self.by_key.get(key)?.sent.as_ref()?;
        Some((&sent.name, &sent.version))
    }

    /// The gateway whose Envoys have it.
    pub(super) fn gateway(&self, key: &Key) -> Option<&Arc<str>> {
        Some(&self.by_key.get(key)?.sent.as_ref()?.gateway)
    }

    /// What a table of this name is for.
    pub(super) fn key(&self, name: Short) -> Option<Key> {
        self.by_name.get(&name).copied()
    }

    /// The units that want this content.
    pub(super) fn units(&self, key: &Key) -> Vec<Short> {
        self.by_key.get(key).into_iter().flat_map(|table| table.units.iter().copied()).collect()
    }

    /// Records that Envoy rejected the table: nobody names it any more.
    pub(super) fn refuse(&mut self, key: &Key) {
        if let Some(table) = self.by_key.get_mut(key) {
            table.refused = true;
        }
    }
}

/// The scope of a unit.
pub(super) fn scope_of(
    unit: &super::unit::Unit,
    members: &Members,
    table: Option<&Arc<str>>,
) -> Rendered {
    match table {
        Some(table) => scope::by_name(&unit.place, &unit.name, table),
        None => prepared::whole(&unit.place, &unit.name, members),
    }
}
