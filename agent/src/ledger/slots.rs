//! Maps names to slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use imp_enforce::Place;

use super::Kept;
use super::format::{self, Found, Header, MAX_SLOTS, SLOT};

/// Slots are added in steps of this size, so that a small disk has space for the first.
const FIRST: u32 = 64;
const STEP: u32 = 1024;

#[derive(Debug, Default)]
pub(super) struct Slots {
    by_name: HashMap<Arc<str>, Place>,
    used: BTreeMap<u32, Used>,
    free: Vec<u32>,
    capacity: u32,
    /// Slots to be cleared in the file.
    damaged: Vec<Place>,
    /// Whether some slots are of an earlier generation and must be rewritten.
    stale: bool,
}

#[derive(Debug)]
struct Used {
    name: Arc<str>,
    /// The number of counters that use the slot.
    holders: u32,
}

/// Loads a file's slots, in a new generation if the committed part of any is unknown.
pub(super) fn load((header, bytes): (Header, Vec<u8>)) -> (Header, Slots, Vec<Kept>) {
    let found =
        |generation| bytes.chunks_exact(SLOT).map(move |bytes| format::slot(bytes, generation));
    let damaged = found(0).filter(|found| matches!(found, Found::Damaged)).count();
    let there = u32::try_from(bytes.len() / SLOT).unwrap_or(MAX_SLOTS);
    let header = if damaged == 0 && there >= header.slots {
        header
    } else {
        tracing::error!(
            damaged,
            missing = header.slots.saturating_sub(there),
            "THE USAGE FILE IS DAMAGED: some counts begin again, the others go on in a new epoch"
        );
        header.next()
    };
    let (mut slots, mut kept) = (Slots::default(), Vec::new());
    for (index, found) in (0..MAX_SLOTS).zip(found(header.generation)) {
        slots.capacity = index + 1;
        match found {
            // Each name has one slot; a second one is an unlikely kind of damage.
            Found::Kept { name, count, committed, current } if slots.find(&name).is_none() => {
                slots.stale |= !current;
                slots.insert(&name, index, 0);
                kept.push((name, count, committed));
                continue;
            }
            Found::Free => {}
            _ => slots.damaged.push(Place(index)),
        }
        slots.free.push(index);
    }
    (Header { slots: slots.capacity, ..header }, slots, kept)
}

impl Slots {
    pub(super) fn find(&self, name: &str) -> Option<Place> {
        self.by_name.get(name).copied()
    }

    /// The slot of a known name, with one more holder.
    pub(super) fn hold(&mut self, name: &str) -> Option<Place> {
        let place = self.find(name)?;
        if let Some(used) = self.used.get_mut(&place.0) {
            used.holders += 1;
        }
        Some(place)
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// A slot for a new name.
    pub(super) fn take(&mut self, name: &str) -> Option<Place> {
        let index = self.free.pop()?;
        self.insert(name, index, 1);
        Some(Place(index))
    }

    fn insert(&mut self, name: &str, index: u32, holders: u32) {
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), Place(index));
        self.used.insert(index, Used { name, holders });
    }

    pub(super) fn release(&mut self, Place(index): Place) {
        if let Some(used) = self.used.get_mut(&index) {
            used.holders = used.holders.saturating_sub(1);
        }
    }

    pub(super) fn free(&mut self, Place(index): Place) {
        if let Some(used) = self.used.remove(&index) {
            self.by_name.remove(&used.name);
            self.free.push(index);
        }
    }

    /// Takes the slots whose bytes are invalid.
    pub(super) fn take_damaged(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.damaged)
    }

    /// Takes the flag whether some slots are of an earlier generation.
    pub(super) fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Names without a counter.
    pub(super) fn idle(&self) -> Vec<(String, Place)> {
        let idle = self.used.iter().filter(|(_, used)| used.holders == 0);
        idle.map(|(index, used)| (used.name.to_string(), Place(*index))).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Place)> {
        self.used.iter().map(|(index, used)| (&*used.name, Place(*index)))
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The next size; `None` at the maximum.
    pub(super) fn next_size(&self) -> Option<u32> {
        let more = if self.capacity < STEP { FIRST.max(self.capacity) } else { STEP };
        Some((self.capacity + more).min(MAX_SLOTS)).filter(|size| *size > self.capacity)
    }

    pub(super) fn set_capacity(&mut self, capacity: u32) {
        self.free.extend((self.capacity..capacity).rev());
        self.capacity = capacity;
    }
}
