//! One type of a resource set.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Found, Position};
use crate::Resource;

/// The resources of one type, and a log with one row per name at the position of its last change.
/// Reading the log from r on costs what changed since r, whatever the total.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<str>, Entry>,
    /// From alias to name, of existing resources.
    aliases: HashMap<Arc<str>, Arc<str>>,
    log: BTreeMap<Position, Row>,
    /// The removed resources in the log.
    graves: BTreeSet<Position>,
    /// The sum over the existing resources of a hash of name and version.
    content: u64,
}

#[derive(Debug)]
struct Entry {
    changed_at: Position,
    state: State,
    /// Whether a client acknowledged this version. Set under the lock for readers, because every
    /// stream that gets an ACK sets it.
    proven: AtomicBool,
    /// The last proven version before this one.
    proven_before: Option<Box<Arc<str>>>,
}

#[derive(Debug)]
enum State {
    There(Resource),
    /// It exists, with unknown content.
    Retained,
    /// Kept with its last content, so that streams learn of the removal.
    Removed(Option<Resource>),
}

/// A row of the log: the resource itself, so that a new client is filled without looking up names.
#[derive(Debug)]
enum Row {
    There(Resource),
    Other(Arc<str>),
}

impl Row {
    fn name(&self) -> &Arc<str> {
        match self {
            Self::There(resource) => resource.name(),
            Self::Other(name) => name,
        }
    }
}

impl State {
    fn resource(&self) -> Option<&Resource> {
        match self {
            Self::There(resource) => Some(resource),
            Self::Retained | Self::Removed(_) => None,
        }
    }
}

impl Entry {
    /// The last version that was proven, this one or an earlier one.
    fn last_proven(&self) -> Option<Box<Arc<str>>> {
        match self.state.resource() {
            Some(now) if self.proven.load(Ordering::Relaxed) => {
                Some(Box::new(now.version().clone()))
            }
            _ => self.proven_before.clone(),
        }
    }
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Resource> {
        self.entries.get(name)?.state.resource()
    }

    pub(super) fn find(&self, name: &str) -> Option<Found<'_>> {
        let entry = self.entries.get(name)?;
        let resource = entry.state.resource()?;
        let is_proven = entry.proven.load(Ordering::Relaxed);
        Some(Found { resource, changed_at: entry.changed_at, is_proven })
    }

    /// How many exist, with content.
    pub(super) fn len(&self) -> usize {
        self.each().count()
    }

    pub(super) fn removed(&self, name: &str) -> Option<&Resource> {
        match &self.entries.get(name)?.state {
            State::Removed(last) => last.as_ref(),
            State::There(_) | State::Retained => None,
        }
    }

    pub(super) fn is_retained(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| matches!(entry.state, State::Retained))
    }

    pub(super) fn retained(&self) -> impl Iterator<Item = &Arc<str>> {
        let retained = |entry: &Entry| matches!(entry.state, State::Retained);
        self.entries.iter().filter(move |(_, entry)| retained(entry)).map(|(name, _)| name)
    }

    /// The name of an alias.
    pub(super) fn alias(&self, alias: &str) -> Option<&Arc<str>> {
        self.aliases.get(alias)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Resource> {
        self.entries.values().filter_map(|entry| entry.state.resource())
    }

    /// The existing resources that last changed in this time, oldest change first.
    pub(super) fn changed_in(
        &self,
        time: RangeInclusive<Position>,
    ) -> impl DoubleEndedIterator<Item = (Position, &Resource)> {
        let rows = if time.is_empty() { None } else { Some(self.log.range(time)) };
        rows.into_iter().flatten().filter_map(|(at, row)| match row {
            Row::There(resource) => Some((*at, resource)),
            Row::Other(_) => None,
        })
    }

    pub(super) fn since(&self, since: Position) -> impl Iterator<Item = &Arc<str>> {
        self.log.range(since + 1..).map(|(_, row)| row.name())
    }

    pub(super) fn is_proven(&self, resource: &Resource) -> bool {
        self.entries.get(resource.name()).is_some_and(|entry| {
            let now = entry.state.resource().is_some_and(|now| now.version() == resource.version());
            now && entry.proven.load(Ordering::Relaxed)
        })
    }

    /// Ignored unless the version is the current one.
    pub(super) fn mark_proven(&self, name: &str, version: &str) {
        let entry = self.entries.get(name);
        let current =
            |entry: &&Entry| entry.state.resource().is_some_and(|now| &**now.version() == version);
        entry.filter(current).iter().for_each(|entry| entry.proven.store(true, Ordering::Relaxed));
    }

    pub(super) fn mark_proven_where(&self, holds: impl Fn(&Resource) -> bool) {
        for entry in self.entries.values().filter(|it| it.state.resource().is_some_and(&holds)) {
            entry.proven.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn mark_unproven(&self, name: &str) {
        let entry = self.entries.get(name);
        entry.iter().for_each(|entry| entry.proven.store(false, Ordering::Relaxed));
    }

    pub(super) fn upsert(&mut self, resource: Resource, at: Position) -> bool {
        if self.get(resource.name()).is_some_and(|now| now.version() == resource.version()) {
            return false;
        }
        self.put(resource.name().clone(), State::There(resource), at);
        true
    }

    /// Does not change an existing resource.
    pub(super) fn retain(&mut self, name: &Arc<str>, at: Position) -> bool {
        if self.get(name).is_some() || self.is_retained(name) {
            return false;
        }
        self.put(name.clone(), State::Retained, at);
        true
    }

    pub(super) fn remove(&mut self, name: &str, at: Position) -> bool {
        let last = match self.entries.get_key_value(name) {
            Some((name, Entry { state: State::There(last), .. })) => {
                (name.clone(), Some(last.clone()))
            }
            Some((name, Entry { state: State::Retained, .. })) => (name.clone(), None),
            Some((_, Entry { state: State::Removed(_), .. })) | None => return false,
        };
        self.put(last.0, State::Removed(last.1), at);
        true
    }

    fn put(&mut self, name: Arc<str>, state: State, at: Position) {
        let (removed, new) = (matches!(state, State::Removed(_)), state.resource().cloned());
        let (before, proven) = self.take_out(&name, removed);
        let known = |version: &Arc<str>| new.as_ref().is_some_and(|new| new.version() == version);
        let is_proven = proven.as_deref().is_some_and(known);
        let (proven, proven_before) = (AtomicBool::new(is_proven), proven.filter(|_| !is_proven));
        let entry = Entry { changed_at: at, state, proven, proven_before };
        let name = before.unwrap_or(name);
        if let Some(new) = &new {
            self.content = self.content.wrapping_add(mark(new));
            let aliases = new.aliases().iter().cloned();
            self.aliases.extend(aliases.map(|alias| (alias, name.clone())));
        }
        if removed {
            self.graves.insert(at);
        }
        self.log.insert(at, new.map_or_else(|| Row::Other(name.clone()), Row::There));
        self.entries.insert(name, entry);
    }

    /// Takes the former entry out of the indices. Returns its copy of the name, and its last proven
    /// version unless it is removed.
    fn take_out(&mut self, name: &str, removed: bool) -> (Option<Arc<str>>, Option<Box<Arc<str>>>) {
        let Some((name, old)) = self.entries.remove_entry(name) else { return (None, None) };
        if let Some(resource) = old.state.resource() {
            self.content = self.content.wrapping_sub(mark(resource));
            for alias in resource.aliases() {
                if self.aliases.get(alias) == Some(&name) {
                    self.aliases.remove(alias);
                }
            }
        }
        self.log.remove(&old.changed_at);
        self.graves.remove(&old.changed_at);
        (Some(name), if removed { None } else { old.last_proven() })
    }

    /// Equal for equal content, whatever the history: also after a restart and on another replica.
    /// Constant cost.
    pub(super) fn content(&self) -> u64 {
        self.content
    }

    pub(super) fn remembers_removals(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Forgets removals that every stream has seen.
    pub(super) fn forget_removed(&mut self, seen: Position) {
        while let Some(at) = self.graves.first().copied().filter(|at| *at <= seen) {
            self.graves.remove(&at);
            if let Some(row) = self.log.remove(&at) {
                self.entries.remove(row.name());
            }
        }
    }
}

/// FNV-1a: the same in every release, which the standard library's hashers do not promise.
fn mark(resource: &Resource) -> u64 {
    let text = resource.name().bytes().chain([0]).chain(resource.version().bytes());
    text.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
