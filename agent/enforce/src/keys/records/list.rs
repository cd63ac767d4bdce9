//! A list that does not move when it grows: a million records that are copied again and again leave
//! as much memory behind as they take.

use super::Record;

/// Records that fit into a page of Envoy's allocator, of 8 KiB.
const CHUNK: usize = 8192 / size_of::<Record>();

/// Records by their places, in chunks of which all but the last are full. The first is here: it is all
/// that a shard of a smaller gateway has, and one line of memory less to wait for.
#[derive(Debug, Default)]
pub(super) struct Records {
    first: Vec<Record>,
    more: Vec<Vec<Record>>,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        let last = self.more.last().map_or(0, Vec::len);
        self.first.len() + self.more.len().saturating_sub(1) * CHUNK + last
    }

    pub(super) fn get(&self, place: usize) -> Option<&Record> {
        match (place / CHUNK).checked_sub(1) {
            None => self.first.get(place),
            Some(chunk) => self.more.get(chunk)?.get(place % CHUNK),
        }
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Record> {
        match (place / CHUNK).checked_sub(1) {
            None => self.first.get_mut(place),
            Some(chunk) => self.more.get_mut(chunk)?.get_mut(place % CHUNK),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    pub(super) fn push(&mut self, record: Record) {
        if self.first.len() < CHUNK {
            // It grows: most shards of a small gateway have a few records.
            if self.first.len() == self.first.capacity() {
                let more = self.first.len().clamp(1, CHUNK - self.first.len());
                self.first.reserve_exact(more);
            }
            self.first.push(record);
            return;
        }
        match self.more.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(record),
            _ => {
                let mut next = Vec::with_capacity(CHUNK);
                next.push(record);
                self.more.push(next);
            }
        }
    }

    /// Removes one; the last takes its place.
    pub(super) fn swap_remove(&mut self, place: usize) {
        let last = self.more.last_mut().unwrap_or(&mut self.first).pop();
        let Some(last) = last else { return };
        if self.more.last().is_some_and(Vec::is_empty) {
            self.more.pop();
        }
        // It may have been the last itself.
        if let Some(slot) = self.get_mut(place) {
            *slot = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize) -> Record {
        let id = || format!("{number}").as_str().into();
        Record {
            hash: [0; 32],
            id: id(),
            consumer_id: id(),
            subscription_id: id(),
            expires_at_ms: 0,
        }
    }

    #[test]
    fn a_list_of_any_length_is_a_list() {
        let (mut records, mut model) = (Records::default(), Vec::new());
        let same = |records: &Records, model: &[String]| {
            let ids: Vec<_> = records.iter().map(|record| record.id.to_string()).collect();
            assert_eq!((records.len(), ids.as_slice()), (model.len(), model));
            for (place, id) in model.iter().enumerate() {
                assert_eq!(records.get(place).map(|it| it.id.to_string()).as_ref(), Some(id));
            }
            assert!(records.get(model.len()).is_none());
        };
        for number in 0..3 * CHUNK {
            records.push(record(number));
            model.push(number.to_string());
        }
        same(&records, &model);
        for place in [0, CHUNK, CHUNK - 1, 2 * CHUNK + 1, 3 * CHUNK - 5] {
            records.swap_remove(place);
            model.swap_remove(place);
            same(&records, &model);
        }
        while !model.is_empty() {
            let place = model.len() / 2;
            records.swap_remove(place);
            model.swap_remove(place);
        }
        same(&records, &model);
    }
}
