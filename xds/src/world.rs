//! What one group of clients should hold.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::{Resource, TypeUrl};

/// Counts the changes of a world. A stream at revision r asks what changed since r.
pub type Revision = u64;

/// A set of upserts and removals that becomes visible at once, over all types.
#[derive(Debug, Default)]
pub struct Change {
    upserts: Vec<(TypeUrl, Resource)>,
    removals: Vec<(TypeUrl, Arc<str>)>,
}

impl Change {
    /// Adds a resource, or replaces it.
    pub fn upsert(&mut self, type_url: impl Into<TypeUrl>, resource: Resource) {
        self.upserts.push((type_url.into(), resource));
    }

    /// Takes a resource away.
    pub fn remove(&mut self, type_url: impl Into<TypeUrl>, name: impl Into<Arc<str>>) {
        self.removals.push((type_url.into(), name.into()));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }
}

/// The resources of one group of clients. Cheap to clone; all clones are the same world.
///
/// A new world is *not ready*: streams are refused until it is filled, because an empty answer would
/// make clients delete what they have (R7).
#[derive(Clone, Debug)]
pub struct World {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    revision: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    revision: Revision,
    types: HashMap<TypeUrl, TypeState>,
}

/// One type: its resources, and a log with one place per name, the revision it last changed at.
/// Reading the log from r on costs what changed since r, whatever the total.
#[derive(Debug, Default)]
struct TypeState {
    entries: HashMap<Arc<str>, Entry>,
    log: BTreeSet<(Revision, Arc<str>)>,
    proven: HashMap<Arc<str>, Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    changed_at: Revision,
    /// None: removed; remembered so that streams learn of it.
    resource: Option<Resource>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Empty and not ready.
    pub fn new() -> Self {
        let (revision, _) = watch::channel(0);
        Self { shared: Arc::new(Shared { state: RwLock::default(), revision }) }
    }

    /// From now on streams are served, even if there is nothing to serve.
    pub fn mark_ready(&self) {
        let mut state = self.write();
        state.ready = true;
        drop(state);
        self.shared.revision.send_modify(|_| ());
    }

    /// Whether streams are served.
    pub fn is_ready(&self) -> bool {
        self.read().ready
    }

    /// Makes the change visible, at once and as a whole, and the world ready. What does not change
    /// anything (an equal version, an absent name) is left out.
    pub fn apply(&self, change: Change) -> Revision {
        let mut state = self.write();
        state.ready = true;
        let next = state.revision + 1;
        let mut changed = false;
        for (type_url, resource) in change.upserts {
            changed |= state.types.entry(type_url).or_default().upsert(resource, next);
        }
        for (type_url, name) in change.removals {
            changed |= state.types.entry(type_url).or_default().remove(&name, next);
        }
        if changed {
            state.revision = next;
        }
        let revision = state.revision;
        drop(state);
        self.shared.revision.send_replace(revision);
        revision
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    /// Wakes at every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.shared.revision.subscribe()
    }

    /// One resource.
    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<Resource> {
        self.read().types.get(type_url)?.entries.get(name)?.resource.clone()
    }

    /// The names of a type, in no order.
    pub fn names(&self, type_url: &TypeUrl) -> Vec<Arc<str>> {
        let state = self.read();
        let Some(of_type) = state.types.get(type_url) else { return Vec::new() };
        of_type
            .entries
            .iter()
            .filter(|(_, e)| e.resource.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The names of a type that changed after `since`, oldest change first.
    pub fn changed_since(&self, type_url: &TypeUrl, since: Revision) -> Vec<Arc<str>> {
        let state = self.read();
        let Some(of_type) = state.types.get(type_url) else { return Vec::new() };
        of_type.log.range((since + 1, Arc::from(""))..).map(|(_, name)| name.clone()).collect()
    }

    /// Remembers that some client accepted this version, so that it needs no response of its own
    /// ([`crate::Batching::Single`]).
    pub fn mark_proven(&self, type_url: &TypeUrl, name: &str, version: &str) {
        let mut state = self.write();
        let proven = &mut state.types.entry(type_url.clone()).or_default().proven;
        if proven.get(name).is_none_or(|known| &**known != version) {
            proven.insert(name.into(), version.into());
        }
    }

    /// Forgets that a version was accepted.
    pub fn mark_unproven(&self, type_url: &TypeUrl, name: &str) {
        if let Some(of_type) = self.write().types.get_mut(type_url) {
            of_type.proven.remove(name);
        }
    }

    pub(crate) fn is_proven(&self, type_url: &TypeUrl, resource: &Resource) -> bool {
        let state = self.read();
        let proven = state.types.get(type_url).and_then(|t| t.proven.get(resource.name()));
        proven.is_some_and(|version| version == resource.version())
    }

    // A poisoned lock means that a writer panicked between two assignments of owned values; the
    // state is still whole, and refusing to serve it would turn one bug into an outage.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TypeState {
    fn upsert(&mut self, resource: Resource, at: Revision) -> bool {
        let current = self.entries.get(resource.name()).and_then(|entry| entry.resource.as_ref());
        if current.is_some_and(|current| current.version() == resource.version()) {
            return false;
        }
        self.put(resource.name().clone(), Some(resource), at);
        true
    }

    fn remove(&mut self, name: &Arc<str>, at: Revision) -> bool {
        if self.entries.get(name).is_none_or(|entry| entry.resource.is_none()) {
            return false;
        }
        self.proven.remove(name);
        self.put(name.clone(), None, at);
        true
    }

    fn put(&mut self, name: Arc<str>, resource: Option<Resource>, at: Revision) {
        let entry = Entry { changed_at: at, resource };
        if let Some(old) = self.entries.insert(name.clone(), entry) {
            self.log.remove(&(old.changed_at, name.clone()));
        }
        self.log.insert((at, name));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn resource(name: &str, version: &str) -> Resource {
        Resource::new(name, version, Bytes::new())
    }

    fn upsert(world: &World, name: &str, version: &str) -> Revision {
        let mut change = Change::default();
        change.upsert("t", resource(name, version));
        world.apply(change)
    }

    fn remove(world: &World, name: &str) -> Revision {
        let mut change = Change::default();
        change.remove("t", name);
        world.apply(change)
    }

    #[test]
    fn the_log_names_each_changed_resource_once() {
        let world = World::new();
        let t = TypeUrl::from("t");
        let start = upsert(&world, "a", "1");
        upsert(&world, "b", "1");
        upsert(&world, "b", "2");
        remove(&world, "a");
        let changed: Vec<_> =
            world.changed_since(&t, start).iter().map(ToString::to_string).collect();
        assert_eq!(changed, ["b", "a"]);
        assert!(world.changed_since(&t, world.revision()).is_empty());
    }

    #[test]
    fn what_changes_nothing_is_no_revision() {
        let world = World::new();
        let first = upsert(&world, "a", "1");
        assert_eq!(upsert(&world, "a", "1"), first);
        assert_eq!(remove(&world, "zzz"), first);
    }

    #[test]
    fn a_world_is_not_ready_until_it_is_filled() {
        let world = World::new();
        assert!(!world.is_ready());
        world.apply(Change::default());
        assert!(world.is_ready());
    }
}
