//! Which slots are in use, and by whom.

use std::collections::HashMap;

use imp_enforce::Place;

use super::mapping::Mapping;
use super::{Kept, format};

/// The slots of a file.
#[derive(Debug)]
pub(super) struct Slots {
    by_name: HashMap<Box<str>, Slot>,
    names: HashMap<Place, Box<str>>,
    free: Vec<Place>,
    /// Slots before this one are in use or in `free`.
    unused: u32,
    capacity: u32,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    /// Whether the engine uses it.
    is_held: bool,
}

impl Slots {
    /// Reads a file. Nothing is held yet.
    pub(super) fn read(mapping: &Mapping, capacity: u32) -> (Self, Vec<Kept>) {
        let (by_name, names, free) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut slots = Self { by_name, names, free, unused: capacity, capacity };
        let mut all = Vec::new();
        for place in (0..capacity).map(Place) {
            match format::slot(mapping, place) {
                // Of two with one name, which damage alone can make, the first counts.
                Some(kept) if !slots.by_name.contains_key(kept.name.as_str()) => {
                    slots.insert(&kept.name, place, false);
                    all.push(kept);
                }
                _ => {
                    format::clear(mapping, place);
                    slots.free.push(place);
                }
            }
        }
        // The first are taken first.
        slots.free.reverse();
        (slots, all)
    }

    fn insert(&mut self, name: &str, place: Place, is_held: bool) {
        self.by_name.insert(name.into(), Slot { place, is_held });
        self.names.insert(place, name.into());
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(super) fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.unused >= self.capacity
    }

    /// Holds the slot of a name that has one.
    pub(super) fn hold(&mut self, name: &str) -> Option<Place> {
        let slot = self.by_name.get_mut(name)?;
        slot.is_held = true;
        Some(slot.place)
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self, name: &str) -> Option<Place> {
        let place = self.free.pop().or_else(|| {
            let next = (self.unused < self.capacity).then_some(Place(self.unused))?;
            self.unused += 1;
            Some(next)
        })?;
        self.insert(name, place, true);
        Some(place)
    }

    pub(super) fn release(&mut self, place: Place) {
        let Self { names, by_name, .. } = self;
        if let Some(slot) = names.get(&place).and_then(|name| by_name.get_mut(name)) {
            slot.is_held = false;
        }
    }

    /// Frees a slot that the engine holds.
    pub(super) fn free(&mut self, place: Place) {
        if let Some(name) = self.names.remove(&place) {
            self.by_name.remove(&name);
            self.free.push(place);
        }
    }

    /// The names that nobody holds.
    pub(super) fn idle(&self) -> Vec<(Box<str>, Place)> {
        let idle = self.by_name.iter().filter(|(_, slot)| !slot.is_held);
        idle.map(|(name, slot)| (name.clone(), slot.place)).collect()
    }

    /// Forgets a name that still nobody holds. Its slot is not free before [`Self::give_back`].
    pub(super) fn forget_idle(&mut self, name: &str) -> bool {
        if self.by_name.get(name).is_none_or(|slot| slot.is_held) {
            return false;
        }
        self.by_name.remove(name).is_some_and(|slot| self.names.remove(&slot.place).is_some())
    }

    pub(super) fn give_back(&mut self, place: Place) {
        self.free.push(place);
    }
}
