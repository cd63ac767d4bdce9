//! Names that are due, in the order of their changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::resource_set::Position;

/// Resources that some client has acknowledged go into other responses than those that none has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unproven,
    Proven,
}

impl Kind {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Unproven => Self::Proven,
            Self::Proven => Self::Unproven,
        }
    }
}

/// Names to be sent. Taking one costs the same however many are due.
#[derive(Debug, Default)]
pub(super) struct Due {
    places: HashMap<Arc<str>, Place>,
    unproven: Queue,
    proven: Queue,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Since this position: a later change does not move it back, or it might never come first.
    since: Position,
    kind: Kind,
}

#[derive(Debug, Default)]
struct Queue {
    oldest: BTreeMap<Position, Arc<str>>,
    /// The last ones that changed, in the order of their changes. Some may have been taken since.
    newest: BTreeMap<Position, Arc<str>>,
}

/// More names than these are not remembered as the newest: a few responses of them go out before a
/// later change is newer.
const NEWEST: usize = 256;

impl Due {
    /// Adds a name with the position of its last change. One that is due already keeps its place.
    pub(super) fn insert(&mut self, name: Arc<str>, changed_at: Position, kind: Kind) {
        let since = self.places.get(&name).map_or(changed_at, |place| place.since);
        self.place(name, since, kind);
    }

    /// The same for a name that may be among those that changed last.
    pub(super) fn insert_news(&mut self, name: Arc<str>, changed_at: Position, kind: Kind) {
        self.note_news(name.clone(), changed_at, kind);
        self.insert(name, changed_at, kind);
    }

    /// Records when a name that is due has changed.
    pub(super) fn note_news(&mut self, name: Arc<str>, changed_at: Position, kind: Kind) {
        let newest = &mut self.queue(kind).newest;
        newest.insert(changed_at, name);
        if newest.len() > NEWEST {
            newest.pop_first();
        }
    }

    /// Moves a name back to the position of its last change. Returns whether it moved.
    pub(super) fn postpone(&mut self, name: &Arc<str>, changed_at: Position) -> bool {
        let Some(place) = self.places.get(name).copied() else { return false };
        self.remove(name);
        self.insert(name.clone(), changed_at, place.kind);
        place.since < changed_at
    }

    fn place(&mut self, name: Arc<str>, since: Position, kind: Kind) {
        let old = self.places.insert(name.clone(), Place { since, kind });
        if let Some(old) = old.filter(|old| old.kind != kind) {
            self.queue(old.kind).oldest.remove(&old.since);
        }
        self.queue(kind).oldest.insert(since, name);
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let Some(place) = self.places.remove(name) else { return false };
        self.queue(place.kind).oldest.remove(&place.since);
        true
    }

    /// The one of this kind that has waited for the longest time, with the position since which it
    /// is due.
    pub(super) fn oldest(&self, kind: Kind) -> Option<(Position, &Arc<str>)> {
        let queue = match kind {
            Kind::Unproven => &self.unproven,
            Kind::Proven => &self.proven,
        };
        queue.oldest.first_key_value().map(|(since, name)| (*since, name))
    }

    /// The one of this kind that changed last, which stays due. Each is returned once per change.
    pub(super) fn next_news(&mut self, kind: Kind) -> Option<Arc<str>> {
        loop {
            let (_, name) = self.queue(kind).newest.pop_last()?;
            if self.places.get(&name).is_some_and(|place| place.kind == kind) {
                return Some(name);
            }
        }
    }

    /// Whether something is due since this position or an earlier one.
    pub(super) fn has_since(&self, position: Position) -> bool {
        let first =
            |queue: &Queue| queue.oldest.first_key_value().is_some_and(|(r, _)| *r <= position);
        first(&self.unproven) || first(&self.proven)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        let Self { places, unproven, proven } = self;
        places.retain(|name, _| wanted(name));
        unproven.oldest.retain(|_, name| wanted(name));
        proven.oldest.retain(|_, name| wanted(name));
    }

    fn queue(&mut self, kind: Kind) -> &mut Queue {
        match kind {
            Kind::Unproven => &mut self.unproven,
            Kind::Proven => &mut self.proven,
        }
    }
}
