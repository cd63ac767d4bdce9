//! A list that does not move when it grows: a million records that are copied again and again leave
//! as much memory behind as they take.

use super::Record;

/// Records that fit into a page of Envoy's allocator, of 8 KiB.
const CHUNK: usize = 8192 / size_of::<Record>();

/// Records by their places, in chunks of which all but the last are full.
#[derive(Debug, Default)]
pub(super) struct Records {
    chunks: Vec<Vec<Record>>,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    pub(super) fn get(&self, place: usize) -> Option<&Record> {
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Record> {
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.chunks.iter().flatten()
    }

    pub(super) fn push(&mut self, record: Record) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => {
                // The first one grows: most shards of a small gateway have a record or two.
                if last.len() == last.capacity() {
                    last.reserve_exact(last.len().min(CHUNK - last.len()));
                }
                last.push(record);
            }
            full => {
                let mut next = Vec::with_capacity(if full.is_some() { CHUNK } else { 1 });
                next.push(record);
                self.chunks.push(next);
            }
        }
    }

    /// Removes one; the last takes its place.
    pub(super) fn swap_remove(&mut self, place: usize) {
        let Some(last) = self.chunks.last_mut().and_then(Vec::pop) else { return };
        if self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
        }
        // It may have been the last itself.
        if let Some(slot) = self.get_mut(place) {
            *slot = last;
        }
    }
}
