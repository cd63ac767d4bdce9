//! The resources of one group of clients.

mod table;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::task::Waker;

use futures::task::AtomicWaker;

use crate::{Resource, TypeUrl};
use table::Table;

/// Counts the changes of a resource set.
pub type Revision = u64;

/// Counts the changed resources of a resource set: each has a position of its own. A stream at
/// position p reads what changed since p.
pub(crate) type Position = u64;

/// A set of upserts and removals of any types that becomes visible at once. The last one for a name
/// counts.
#[derive(Debug, Default)]
pub struct Change {
    steps: Vec<(TypeUrl, Step)>,
}

#[derive(Debug)]
enum Step {
    Upsert(Resource),
    Retain(Arc<str>),
    Remove(Arc<str>),
}

impl Change {
    /// Adds or replaces a resource.
    pub fn upsert(&mut self, type_url: impl Into<TypeUrl>, resource: Resource) {
        self.steps.push((type_url.into(), Step::Upsert(resource)));
    }

    /// Records that a resource exists whose content is unknown here: clients keep their version,
    /// and it is sent to nobody. An existing resource is unchanged. For delta clients only: full
    /// responses of the state-of-the-world protocol lack it.
    pub fn retain(&mut self, type_url: impl Into<TypeUrl>, name: impl Into<Arc<str>>) {
        self.steps.push((type_url.into(), Step::Retain(name.into())));
    }

    /// Removes a resource.
    pub fn remove(&mut self, type_url: impl Into<TypeUrl>, name: impl Into<Arc<str>>) {
        self.steps.push((type_url.into(), Step::Remove(name.into())));
    }

    /// Whether the change is empty.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The resources of one group of clients. Cheap to clone; clones share the resource set.
///
/// A new resource set is *not ready*: streams are refused until it is filled, because an empty
/// answer would make clients delete what they have (R7).
#[derive(Clone, Debug)]
pub struct ResourceSet {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: RwLock<State>,
    /// How far each open stream has read. Removals that all of them have seen are forgotten.
    readers: Mutex<Vec<Weak<Place>>>,
    /// The newest position, readable without locking the state.
    newest: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    revision: Revision,
    position: Position,
    /// There are few types, so a linear search is cheaper than hashing.
    types: Vec<(TypeUrl, Table)>,
}

impl State {
    fn table(&self, type_url: &TypeUrl) -> Option<&Table> {
        self.types.iter().find(|(of, _)| of == type_url).map(|(_, table)| table)
    }

    fn table_mut(&mut self, type_url: &TypeUrl) -> &mut Table {
        let known = self.types.iter().position(|(of, _)| of == type_url);
        let index = known.unwrap_or_else(|| {
            self.types.push((type_url.clone(), Table::default()));
            self.types.len() - 1
        });
        &mut self.types[index].1
    }

    fn tables_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        self.types.iter_mut().map(|(_, table)| table)
    }
}

/// A weak reference to a resource set.
#[derive(Clone, Debug, Default)]
pub struct WeakResourceSet {
    shared: Weak<Shared>,
}

impl WeakResourceSet {
    /// The resource set, if an embedding program or an open stream still holds it.
    pub fn upgrade(&self) -> Option<ResourceSet> {
        self.shared.upgrade().map(|shared| ResourceSet { shared })
    }
}

impl Default for ResourceSet {
    fn default() -> Self {
        Self::new()
    }
}

impl ResourceSet {
    /// An empty resource set that is not ready.
    pub fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// A weak reference.
    pub fn downgrade(&self) -> WeakResourceSet {
        WeakResourceSet { shared: Arc::downgrade(&self.shared) }
    }

    /// Marks it as ready even if it is empty.
    pub fn mark_ready(&self) {
        self.write().ready = true;
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.read().ready
    }

    /// Makes the change visible as a whole, and the resource set ready. Parts without effect (an
    /// equal version, an absent name) are left out, and wake nobody.
    pub fn apply(&self, change: Change) -> Revision {
        let mut state = self.write();
        state.ready = true;
        let before = state.position;
        for (type_url, step) in change.steps {
            let next = state.position + 1;
            let table = state.table_mut(&type_url);
            let changed = match step {
                Step::Upsert(resource) => table.upsert(resource, next),
                Step::Retain(name) => table.retain(&name, next),
                Step::Remove(name) => table.remove(&name, next),
            };
            state.position += u64::from(changed);
        }
        let next = state.position;
        if next == before {
            return state.revision;
        }
        state.revision += 1;
        let revision = state.revision;
        if state.types.iter().any(|(_, table)| table.remembers_removals()) {
            let known = self.slowest_reader().unwrap_or(next);
            state.tables_mut().for_each(|table| table.forget_removed(known));
        }
        self.shared.newest.store(next, Ordering::Release);
        drop(state);
        let readers = self.readers();
        readers.iter().filter_map(Weak::upgrade).for_each(|place| place.waker.wake());
        revision
    }

    fn slowest_reader(&self) -> Option<Position> {
        let mut readers = self.readers();
        readers.retain(is_open);
        let places = readers.iter().filter_map(Weak::upgrade);
        places.map(|place| place.seen.load(Ordering::Acquire)).min()
    }

    /// How often it has changed.
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<Resource> {
        self.view().get(type_url, name).cloned()
    }

    /// The names of a type, unordered.
    pub fn names(&self, type_url: &TypeUrl) -> Vec<Arc<str>> {
        self.view().each(type_url).map(|resource| resource.name().clone()).collect()
    }

    /// The names of a type that are retained ([`Change::retain`]), unordered.
    pub fn retained(&self, type_url: &TypeUrl) -> Vec<Arc<str>> {
        let state = self.read();
        let table = state.table(type_url).into_iter();
        table.flat_map(Table::retained).cloned().collect()
    }

    /// Records that some client acknowledged this version, so that it is sent together with others
    /// of that kind ([`crate::Batching`]). Ignored unless it is the current version.
    pub fn mark_proven(&self, type_url: &TypeUrl, name: &str, version: &str) {
        self.view().accepted(type_url, name, version);
    }

    /// The same for all resources of a type for which this holds.
    pub fn mark_proven_where(&self, type_url: &TypeUrl, holds: impl Fn(&Resource) -> bool) {
        let state = self.read();
        state.table(type_url).iter().for_each(|table| table.mark_proven_where(&holds));
    }

    /// Forgets that the current version was acknowledged.
    pub fn mark_unproven(&self, type_url: &TypeUrl, name: &str) {
        self.view().refused(type_url, name);
    }

    /// A reader at the current position; later removals are kept until it has seen them.
    pub(crate) fn reader(&self) -> Reader {
        let state = self.read();
        let (seen, newest) = (AtomicU64::new(state.position), self.shared.newest.clone());
        let place = Arc::new(Place { seen, newest, waker: AtomicWaker::new() });
        let mut readers = self.readers();
        if readers.len().is_power_of_two() {
            readers.retain(is_open);
        }
        readers.push(Arc::downgrade(&place));
        drop((readers, state));
        Reader { set: self.clone(), place }
    }

    /// A consistent view of everything: one lock for a whole step of a stream.
    pub(crate) fn view(&self) -> View<'_> {
        View { state: self.read() }
    }

    // A poisoned lock means that a writer panicked between two assignments of owned values; the
    // state is still consistent, and refusing to serve it would turn one bug into an outage.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after `state`, if both are.
    fn readers(&self) -> MutexGuard<'_, Vec<Weak<Place>>> {
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the resource set's history for one stream.
#[derive(Debug)]
pub(crate) struct Reader {
    set: ResourceSet,
    place: Arc<Place>,
}

/// The position that a stream has read up to, and its waker for changes. Does not keep the resource
/// set alive.
#[derive(Debug)]
pub(crate) struct Place {
    /// [`LEFT`] when the stream is gone.
    seen: AtomicU64,
    newest: Arc<AtomicU64>,
    waker: AtomicWaker,
}

const LEFT: Position = Position::MAX;

fn is_open(reader: &Weak<Place>) -> bool {
    reader.upgrade().is_some_and(|place| place.seen.load(Ordering::Acquire) != LEFT)
}

impl Reader {
    pub(crate) fn resource_set(&self) -> &ResourceSet {
        &self.set
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    pub(crate) fn seen(&self) -> Position {
        self.place.seen.load(Ordering::Acquire)
    }

    /// Records that the stream has read everything in the view.
    pub(crate) fn has_seen(&self, view: &View<'_>) {
        self.place.seen.store(view.position(), Ordering::Release);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.place.seen.store(LEFT, Ordering::Release);
    }
}

impl Place {
    /// Whether the resource set has changed since.
    pub(crate) fn is_behind(&self) -> bool {
        self.newest.load(Ordering::Acquire) > self.seen.load(Ordering::Acquire)
    }

    /// Registers the waker for the next change, replacing the previous one.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// A resource in its set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) resource: &'a Resource,
    /// The position of its last change.
    pub(crate) changed_at: Position,
    /// Whether a client has acknowledged this version.
    pub(crate) is_proven: bool,
}

/// A consistent view of a resource set. Must not be held while the same resource set is written.
#[derive(Debug)]
pub(crate) struct View<'a> {
    state: RwLockReadGuard<'a, State>,
}

impl View<'_> {
    pub(crate) fn position(&self) -> Position {
        self.state.position
    }

    /// The version of a type's content: equal for equal content.
    pub(crate) fn version_of(&self, type_url: &TypeUrl) -> String {
        format!("{:016x}", self.state.table(type_url).map_or(0, Table::content))
    }

    pub(crate) fn get(&self, type_url: &TypeUrl, name: &str) -> Option<&Resource> {
        self.state.table(type_url)?.get(name)
    }

    /// Whether the resource exists, with or without content ([`Change::retain`]).
    pub(crate) fn exists(&self, type_url: &TypeUrl, name: &str) -> bool {
        let table = self.state.table(type_url);
        table.is_some_and(|table| table.get(name).is_some() || table.is_retained(name))
    }

    /// The name of the resource with this alias.
    pub(crate) fn alias(&self, type_url: &TypeUrl, alias: &str) -> Option<&Arc<str>> {
        self.state.table(type_url)?.alias(alias)
    }

    /// A removed resource, while some stream has not seen the removal.
    pub(crate) fn removed(&self, type_url: &TypeUrl, name: &str) -> Option<&Resource> {
        self.state.table(type_url)?.removed(name)
    }

    pub(crate) fn each(&self, type_url: &TypeUrl) -> impl Iterator<Item = &Resource> {
        self.state.table(type_url).into_iter().flat_map(Table::each)
    }

    /// The names that changed after `since`, oldest change first.
    pub(crate) fn changed_since(
        &self,
        type_url: &TypeUrl,
        since: Position,
    ) -> impl Iterator<Item = &Arc<str>> {
        self.state.table(type_url).into_iter().flat_map(move |table| table.since(since))
    }

    pub(crate) fn find(&self, type_url: &TypeUrl, name: &str) -> Option<Found<'_>> {
        self.state.table(type_url)?.find(name)
    }

    pub(crate) fn has_any(&self, type_url: &TypeUrl) -> bool {
        self.each(type_url).next().is_some()
    }

    /// How many resources of a type there are. Costs as much.
    pub(crate) fn count(&self, type_url: &TypeUrl) -> usize {
        self.state.table(type_url).map_or(0, Table::len)
    }

    /// The existing resources that last changed in this time, oldest change first.
    pub(crate) fn changed_in(
        &self,
        type_url: &TypeUrl,
        time: RangeInclusive<Position>,
    ) -> impl DoubleEndedIterator<Item = (Position, &Resource)> {
        let table = self.state.table(type_url).into_iter();
        table.flat_map(move |table| table.changed_in(time.clone()))
    }

    pub(crate) fn is_proven(&self, type_url: &TypeUrl, resource: &Resource) -> bool {
        self.state.table(type_url).is_some_and(|table| table.is_proven(resource))
    }

    /// Records that a client acknowledged this version. Ignored unless it is the current one.
    pub(crate) fn accepted(&self, type_url: &TypeUrl, name: &str, version: &str) {
        let table = self.state.table(type_url);
        table.iter().for_each(|table| table.mark_proven(name, version));
    }

    pub(crate) fn refused(&self, type_url: &TypeUrl, name: &str) {
        let table = self.state.table(type_url);
        table.iter().for_each(|table| table.mark_unproven(name));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use bytes::Bytes;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn resource(name: &str, version: &str) -> Resource {
        Resource::new(name, version, Bytes::new())
    }

    fn upsert(set: &ResourceSet, name: &str, version: &str) -> Position {
        let mut change = Change::default();
        change.upsert("t", resource(name, version));
        set.apply(change);
        set.view().position()
    }

    fn remove(set: &ResourceSet, name: &str) -> Position {
        let mut change = Change::default();
        change.remove("t", name);
        set.apply(change);
        set.view().position()
    }

    fn changed(set: &ResourceSet, since: Position) -> Vec<String> {
        let view = set.view();
        view.changed_since(&TypeUrl::from("t"), since).map(ToString::to_string).collect()
    }

    #[test]
    fn the_log_names_each_changed_resource_once() {
        let set = ResourceSet::new();
        let _reader = set.reader();
        let start = upsert(&set, "a", "1");
        upsert(&set, "b", "1");
        upsert(&set, "b", "2");
        remove(&set, "a");
        assert_eq!(changed(&set, start), ["b", "a"]);
        assert!(changed(&set, set.view().position()).is_empty());
    }

    #[test]
    fn what_changes_nothing_is_no_revision_and_wakes_nobody() {
        let set = ResourceSet::new();
        let first = upsert(&set, "a", "1");
        let (reader, woken) = (set.reader(), Arc::new(Woken::default()));
        reader.place.register(&woken.clone().into());
        assert_eq!(upsert(&set, "a", "1"), first);
        assert_eq!(remove(&set, "zzz"), first);
        assert!(!reader.place.is_behind() && !woken.0.load(Ordering::Acquire));
        upsert(&set, "a", "2");
        assert!(reader.place.is_behind() && woken.0.load(Ordering::Acquire));
    }

    #[test]
    fn of_several_steps_about_one_name_the_last_counts() {
        let set = ResourceSet::new();
        upsert(&set, "a", "1");
        let mut change = Change::default();
        change.remove("t", "a");
        change.upsert("t", resource("a", "2"));
        change.upsert("t", resource("b", "1"));
        change.remove("t", "b");
        set.apply(change);
        assert_eq!(set.get(&"t".into(), "a").expect("a").version().as_ref(), "2");
        assert!(set.get(&"t".into(), "b").is_none());
    }

    #[test]
    fn r7_a_resource_set_is_not_ready_until_it_is_filled() {
        let set = ResourceSet::new();
        assert!(!set.is_ready());
        set.apply(Change::default());
        assert!(set.is_ready());
    }

    #[test]
    fn a_removal_is_remembered_until_every_reader_has_seen_it() {
        let set = ResourceSet::new();
        upsert(&set, "a", "1");
        let (quick, slow) = (set.reader(), set.reader());
        remove(&set, "a");
        quick.has_seen(&set.view());
        upsert(&set, "b", "1");
        assert_eq!(changed(&set, slow.seen()), ["a", "b"]);
        slow.has_seen(&set.view());
        upsert(&set, "b", "2");
        assert_eq!(changed(&set, 0), ["b"]);
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let set = ResourceSet::new();
        let gone = set.reader();
        drop(gone);
        for n in 0..1_000 {
            let name = format!("r{n}");
            upsert(&set, &name, "1");
            set.mark_proven(&"t".into(), &name, "1");
            remove(&set, &name);
        }
        upsert(&set, "last", "1");
        assert_eq!(changed(&set, 0), ["last"]);
        assert!(!set.view().is_proven(&"t".into(), &resource("r1", "1")));
    }

    #[test]
    fn readers_that_come_and_go_leave_nothing_behind() {
        let set = ResourceSet::new();
        let _stays = set.reader();
        (0..1_000).for_each(|_| drop(set.reader()));
        assert!(set.readers().len() <= 4);
    }

    #[test]
    fn a_version_that_comes_back_is_still_proven() {
        let set = ResourceSet::new();
        let t = TypeUrl::from("t");
        upsert(&set, "a", "1");
        set.mark_proven(&t, "a", "1");
        upsert(&set, "a", "2");
        assert!(!set.view().is_proven(&t, &resource("a", "2")));
        upsert(&set, "a", "1");
        assert!(set.view().is_proven(&t, &resource("a", "1")));
        set.mark_unproven(&t, "a");
        assert!(!set.view().is_proven(&t, &resource("a", "1")));
    }

    #[test]
    fn only_what_the_resource_set_still_holds_can_be_proven_by_an_answer() {
        let set = ResourceSet::new();
        let t = TypeUrl::from("t");
        upsert(&set, "a", "2");
        set.view().accepted(&t, "a", "1");
        assert!(!set.view().is_proven(&t, &resource("a", "1")));
        set.view().accepted(&t, "a", "2");
        assert!(set.view().is_proven(&t, &resource("a", "2")));
    }
}
