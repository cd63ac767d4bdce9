//! Rows that wait for the disk, oldest first.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::Table;
use super::file::Row;

type Key = (Table, String);

/// The latest version of each row that is not on disk: bounded by the number of rows, however many
/// changes there are. A row that changes again keeps its place, so a waiter only waits for rows
/// that were there before it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    rows: HashMap<Key, (u64, Option<Bytes>)>,
    order: BTreeMap<u64, Key>,
    newest: u64,
    /// Somebody waits for everything up to here.
    awaited: u64,
}

/// A part of a lane that is being written.
#[derive(Debug, Default)]
pub(super) struct Portion {
    pub(super) rows: Vec<Row>,
    places: Vec<u64>,
    /// When it is written, everything up to here is.
    pub(super) up_to: u64,
}

impl Lane {
    pub(super) fn mark(&mut self, key: Key, value: Option<Bytes>) {
        if let Some((_, waiting)) = self.rows.get_mut(&key) {
            *waiting = value;
            return;
        }
        self.newest += 1;
        self.order.insert(self.newest, key.clone());
        self.rows.insert(key, (self.newest, value));
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Requests that everything marked now is written. Returns the place to wait for.
    pub(super) fn await_all(&mut self) -> u64 {
        self.awaited = self.newest;
        self.newest
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.order.first_key_value().is_some_and(|(place, _)| *place <= self.awaited)
    }

    /// Takes the oldest rows up to this many bytes, but at least one.
    pub(super) fn take(&mut self, bytes: usize) -> Portion {
        let mut portion = Portion::default();
        let mut taken = 0;
        while taken < bytes
            && let Some((place, key)) = self.order.pop_first()
        {
            if let Some((_, value)) = self.rows.remove(&key) {
                taken += key.1.len() + value.as_ref().map_or(0, Bytes::len);
                portion.rows.push((key, value));
                portion.places.push(place);
            }
        }
        let rest = self.order.first_key_value();
        portion.up_to = rest.map_or(self.newest, |(place, _)| place - 1);
        portion
    }

    /// Puts back rows that were not written. Rows marked again meanwhile are newer, and take the
    /// older place.
    pub(super) fn put_back(&mut self, portion: Portion) {
        for (place, (key, value)) in portion.places.into_iter().zip(portion.rows) {
            let newer = self.rows.remove(&key);
            let value = newer.map_or(value, |(newer, value)| {
                self.order.remove(&newer);
                value
            });
            self.order.insert(place, key.clone());
            self.rows.insert(key, (place, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (Table::Resources, name.to_owned())
    }

    fn mark(lane: &mut Lane, name: &str, value: &'static str) {
        lane.mark(key(name), Some(Bytes::from_static(value.as_bytes())));
    }

    fn names(portion: &Portion) -> Vec<&str> {
        portion.rows.iter().map(|((_, name), _)| name.as_str()).collect()
    }

    #[test]
    fn the_oldest_come_first_in_portions_of_so_many_bytes() {
        let mut lane = Lane::default();
        for name in ["a", "b", "c"] {
            mark(&mut lane, name, "four");
        }
        let first = lane.take(6);
        assert_eq!((names(&first), first.up_to), (vec!["a", "b"], 2));
        let second = lane.take(1);
        assert_eq!((names(&second), second.up_to), (vec!["c"], 3), "one at least");
        assert!(lane.is_empty() && lane.take(1).rows.is_empty());
    }

    #[test]
    fn a_row_that_changes_again_keeps_its_place() {
        let mut lane = Lane::default();
        mark(&mut lane, "a", "1");
        mark(&mut lane, "b", "1");
        mark(&mut lane, "a", "2");
        let first = lane.take(1);
        assert_eq!(first.rows, [(key("a"), Some(Bytes::from_static(b"2")))]);
    }

    #[test]
    fn what_was_not_written_goes_back_unless_there_is_something_newer() {
        let mut lane = Lane::default();
        mark(&mut lane, "a", "1");
        mark(&mut lane, "b", "1");
        let failed = lane.take(100);
        mark(&mut lane, "c", "1");
        mark(&mut lane, "a", "2");
        lane.put_back(failed);
        let all = lane.take(100);
        assert_eq!(names(&all), ["a", "b", "c"]);
        assert_eq!(all.rows[0].1.as_deref(), Some(&b"2"[..]));
        assert_eq!(all.up_to, 4);
    }

    #[test]
    fn who_waits_does_not_wait_for_what_comes_later() {
        let mut lane = Lane::default();
        assert!(!lane.is_awaited());
        mark(&mut lane, "a", "1");
        let place = lane.await_all();
        mark(&mut lane, "b", "1");
        assert!(lane.is_awaited());
        assert_eq!(lane.take(1).up_to, place);
        assert!(!lane.is_awaited(), "only what came later is left");
    }
}
