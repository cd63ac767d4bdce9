//! Which name is where.

use std::collections::{BTreeMap, HashMap};

use imp_enforce::Place;

use super::Kept;
use super::format::{self, Found, Header, MAX_SLOTS, SLOT};

/// Slots are added in such steps, so that a small disk has room for the first.
const FIRST: u32 = 64;
const STEP: u32 = 1024;

#[derive(Debug, Default)]
pub(super) struct Slots {
    by_name: HashMap<String, Place>,
    used: BTreeMap<u32, Used>,
    free: Vec<u32>,
    capacity: u32,
    /// To be cleared in the file.
    damaged: Vec<Place>,
    /// Some are of an earlier life, and to be written again.
    stale: bool,
}

#[derive(Debug)]
struct Used {
    name: String,
    /// Who counts there now.
    holders: u32,
}

/// What a file held, in the life that goes on: another one, if a part of it is not known.
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
            // A name stands in one place; a second one is damage of an unlikely kind.
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

    /// The place of a known name, with one more holder.
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

    /// A place for a new name.
    pub(super) fn take(&mut self, name: &str) -> Option<Place> {
        let index = self.free.pop()?;
        self.insert(name, index, 1);
        Some(Place(index))
    }

    fn insert(&mut self, name: &str, index: u32, holders: u32) {
        self.by_name.insert(name.to_owned(), Place(index));
        self.used.insert(index, Used { name: name.to_owned(), holders });
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

    /// Places whose bytes mean nothing, once.
    pub(super) fn take_damaged(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.damaged)
    }

    /// Whether some are of an earlier life, once.
    pub(super) fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Names that nobody counts under.
    pub(super) fn idle(&self) -> Vec<(String, Place)> {
        let idle = self.used.iter().filter(|(_, used)| used.holders == 0);
        idle.map(|(index, used)| (used.name.clone(), Place(*index))).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Place)> {
        self.used.iter().map(|(index, used)| (used.name.as_str(), Place(*index)))
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// None: there are as many as there may be.
    pub(super) fn next_size(&self) -> Option<u32> {
        let more = if self.capacity < STEP { FIRST.max(self.capacity) } else { STEP };
        Some((self.capacity + more).min(MAX_SLOTS)).filter(|size| *size > self.capacity)
    }

    pub(super) fn set_capacity(&mut self, capacity: u32) {
        self.free.extend((self.capacity..capacity).rev());
        self.capacity = capacity;
    }
}
