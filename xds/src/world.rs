//! What one group of clients should hold.

mod table;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use tokio::sync::watch;

use crate::{Resource, TypeUrl};
use table::Table;

/// Counts the changes of a world. A stream at revision r asks what changed since r.
pub type Revision = u64;

/// A set of upserts and removals that becomes visible at once, over all types. Of several about one
/// name the last counts.
#[derive(Debug, Default)]
pub struct Change {
    steps: Vec<(TypeUrl, Step)>,
}

#[derive(Debug)]
enum Step {
    Upsert(Resource),
    Remove(Arc<str>),
}

impl Change {
    /// Adds a resource, or replaces it.
    pub fn upsert(&mut self, type_url: impl Into<TypeUrl>, resource: Resource) {
        self.steps.push((type_url.into(), Step::Upsert(resource)));
    }

    /// Takes a resource away.
    pub fn remove(&mut self, type_url: impl Into<TypeUrl>, name: impl Into<Arc<str>>) {
        self.steps.push((type_url.into(), Step::Remove(name.into())));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
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

/// Versions that some client accepted.
type Proven = HashMap<TypeUrl, HashMap<Arc<str>, Arc<str>>>;

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Beside the state, because every acknowledging stream writes it. Never taken before `state`.
    proven: Mutex<Proven>,
    revision: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    revision: Revision,
    types: HashMap<TypeUrl, Table>,
    /// How far each open stream has read. What all of them know to be gone is forgotten.
    readers: Vec<Weak<AtomicU64>>,
}

impl State {
    fn slowest_reader(&mut self) -> Revision {
        self.readers.retain(|reader| reader.strong_count() > 0);
        let seen = self.readers.iter().filter_map(Weak::upgrade).map(|r| r.load(Ordering::Acquire));
        seen.min().unwrap_or(self.revision)
    }
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
        let (state, proven) = (RwLock::default(), Mutex::default());
        Self { shared: Arc::new(Shared { state, proven, revision }) }
    }

    /// From now on streams are served, even if there is nothing to serve.
    pub fn mark_ready(&self) {
        self.write().ready = true;
    }

    /// Whether streams are served.
    pub fn is_ready(&self) -> bool {
        self.read().ready
    }

    /// Makes the change visible, at once and as a whole, and the world ready. What does not change
    /// anything (an equal version, an absent name) is left out, and wakes nobody.
    pub fn apply(&self, change: Change) -> Revision {
        let mut state = self.write();
        state.ready = true;
        let next = state.revision + 1;
        let mut changed = false;
        for (type_url, step) in change.steps {
            let table = state.types.entry(type_url.clone()).or_default();
            match step {
                Step::Upsert(resource) => changed |= table.upsert(resource, next),
                Step::Remove(name) if table.remove(&name, next) => {
                    changed = true;
                    self.mark_unproven(&type_url, &name);
                }
                Step::Remove(_) => {}
            }
        }
        if !changed {
            return state.revision;
        }
        state.revision = next;
        if state.types.values().any(Table::remembers_removals) {
            let known = state.slowest_reader();
            state.types.values_mut().for_each(|table| table.forget_removed(known));
        }
        drop(state);
        self.shared.revision.send_modify(|newest| *newest = next.max(*newest));
        next
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    /// One resource.
    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<Resource> {
        self.view().get(type_url, name).cloned()
    }

    /// The names of a type, in no order.
    pub fn names(&self, type_url: &TypeUrl) -> Vec<Arc<str>> {
        self.view().each(type_url).map(|resource| resource.name().clone()).collect()
    }

    /// Remembers that some client accepted this version, so that it needs no response of its own
    /// ([`crate::Batching::Single`]).
    pub fn mark_proven(&self, type_url: &TypeUrl, name: &str, version: &str) {
        let mut proven = self.shared.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = proven.entry(type_url.clone()).or_default();
        if of_type.get(name).is_none_or(|known| &**known != version) {
            of_type.insert(name.into(), version.into());
        }
    }

    /// Forgets that a version was accepted.
    pub fn mark_unproven(&self, type_url: &TypeUrl, name: &str) {
        let mut proven = self.shared.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_type) = proven.get_mut(type_url) {
            of_type.remove(name);
        }
    }

    /// Wakes at every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.shared.revision.subscribe()
    }

    /// A reader that has seen everything so far; removals are remembered until it has seen them too.
    pub(crate) fn reader(&self) -> Reader {
        let mut state = self.write();
        let seen = Arc::new(AtomicU64::new(state.revision));
        if state.readers.len().is_power_of_two() {
            state.readers.retain(|reader| reader.strong_count() > 0);
        }
        state.readers.push(Arc::downgrade(&seen));
        drop(state);
        Reader { world: self.clone(), seen }
    }

    /// Everything as it is now: one lock for a whole step of a stream.
    pub(crate) fn view(&self) -> View<'_> {
        View { state: self.read(), world: self }
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

/// One stream's place in the world's history.
#[derive(Debug)]
pub(crate) struct Reader {
    world: World,
    seen: Arc<AtomicU64>,
}

impl Reader {
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn seen(&self) -> Revision {
        self.seen.load(Ordering::Acquire)
    }

    /// Says that everything in the view was taken notice of.
    pub(crate) fn has_seen(&self, view: &View<'_>) {
        self.seen.store(view.revision(), Ordering::Release);
    }
}

/// A world that stands still while it is looked at. Not to be held while the same world is written.
#[derive(Debug)]
pub(crate) struct View<'a> {
    state: RwLockReadGuard<'a, State>,
    world: &'a World,
}

impl View<'_> {
    pub(crate) fn revision(&self) -> Revision {
        self.state.revision
    }

    pub(crate) fn get(&self, type_url: &TypeUrl, name: &str) -> Option<&Resource> {
        self.state.types.get(type_url)?.get(name)
    }

    /// The name of the resource that has this alias.
    pub(crate) fn alias(&self, type_url: &TypeUrl, alias: &str) -> Option<&Arc<str>> {
        self.state.types.get(type_url)?.alias(alias)
    }

    /// A removed resource, for as long as some stream has not seen the removal.
    pub(crate) fn removed(&self, type_url: &TypeUrl, name: &str) -> Option<&Resource> {
        self.state.types.get(type_url)?.removed(name)
    }

    pub(crate) fn each(&self, type_url: &TypeUrl) -> impl Iterator<Item = &Resource> {
        self.state.types.get(type_url).into_iter().flat_map(Table::each)
    }

    /// The names that changed after `since`, oldest change first.
    pub(crate) fn changed_since(
        &self,
        type_url: &TypeUrl,
        since: Revision,
    ) -> impl Iterator<Item = &Arc<str>> {
        self.state.types.get(type_url).into_iter().flat_map(move |table| table.since(since))
    }

    pub(crate) fn is_proven(&self, type_url: &TypeUrl, resource: &Resource) -> bool {
        let proven = self.world.shared.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let version = proven.get(type_url).and_then(|of_type| of_type.get(resource.name()));
        version.is_some_and(|version| version == resource.version())
    }

    /// A client accepted this version. What the world holds no longer is of no use to anybody.
    pub(crate) fn accepted(&self, type_url: &TypeUrl, name: &str, version: &str) {
        if self.get(type_url, name).is_some_and(|resource| &**resource.version() == version) {
            self.world.mark_proven(type_url, name, version);
        }
    }

    pub(crate) fn refused(&self, type_url: &TypeUrl, name: &str) {
        self.world.mark_unproven(type_url, name);
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

    fn changed(world: &World, since: Revision) -> Vec<String> {
        let view = world.view();
        view.changed_since(&TypeUrl::from("t"), since).map(ToString::to_string).collect()
    }

    #[test]
    fn the_log_names_each_changed_resource_once() {
        let world = World::new();
        let _reader = world.reader();
        let start = upsert(&world, "a", "1");
        upsert(&world, "b", "1");
        upsert(&world, "b", "2");
        remove(&world, "a");
        assert_eq!(changed(&world, start), ["b", "a"]);
        assert!(changed(&world, world.revision()).is_empty());
    }

    #[test]
    fn what_changes_nothing_is_no_revision_and_wakes_nobody() {
        let world = World::new();
        let first = upsert(&world, "a", "1");
        let mut wake = world.subscribe();
        wake.mark_unchanged();
        assert_eq!(upsert(&world, "a", "1"), first);
        assert_eq!(remove(&world, "zzz"), first);
        assert!(!wake.has_changed().expect("the world lives"));
    }

    #[test]
    fn of_several_steps_about_one_name_the_last_counts() {
        let world = World::new();
        upsert(&world, "a", "1");
        let mut change = Change::default();
        change.remove("t", "a");
        change.upsert("t", resource("a", "2"));
        change.upsert("t", resource("b", "1"));
        change.remove("t", "b");
        world.apply(change);
        assert_eq!(world.get(&"t".into(), "a").expect("a").version().as_ref(), "2");
        assert!(world.get(&"t".into(), "b").is_none());
    }

    #[test]
    fn r7_a_world_is_not_ready_until_it_is_filled() {
        let world = World::new();
        assert!(!world.is_ready());
        world.apply(Change::default());
        assert!(world.is_ready());
    }

    #[test]
    fn a_removal_is_remembered_until_every_reader_has_seen_it() {
        let world = World::new();
        upsert(&world, "a", "1");
        let (quick, slow) = (world.reader(), world.reader());
        remove(&world, "a");
        quick.has_seen(&world.view());
        upsert(&world, "b", "1");
        assert_eq!(changed(&world, slow.seen()), ["a", "b"]);
        slow.has_seen(&world.view());
        upsert(&world, "b", "2");
        assert_eq!(changed(&world, 0), ["b"]);
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let world = World::new();
        let gone = world.reader();
        drop(gone);
        for n in 0..1_000 {
            let name = format!("r{n}");
            upsert(&world, &name, "1");
            world.mark_proven(&"t".into(), &name, "1");
            remove(&world, &name);
        }
        upsert(&world, "last", "1");
        assert_eq!(changed(&world, 0), ["last"]);
        let proven = world.shared.proven.lock().expect("lock");
        assert!(proven.values().all(HashMap::is_empty));
    }

    #[test]
    fn readers_that_come_and_go_leave_nothing_behind() {
        let world = World::new();
        let _stays = world.reader();
        (0..1_000).for_each(|_| drop(world.reader()));
        assert!(world.read().readers.len() <= 4);
    }

    #[test]
    fn only_what_the_world_still_holds_can_be_proven_by_an_answer() {
        let world = World::new();
        let t = TypeUrl::from("t");
        upsert(&world, "a", "2");
        world.view().accepted(&t, "a", "1");
        assert!(!world.view().is_proven(&t, &resource("a", "1")));
        world.view().accepted(&t, "a", "2");
        assert!(world.view().is_proven(&t, &resource("a", "2")));
    }
}
