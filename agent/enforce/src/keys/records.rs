//! The table of keys: by the hash of a key for callers, and by the id of its credential for writers.
//!
//! A gateway may have a million keys in each Envoy, so a key has one record in a list, and both
//! tables refer to it. The records are in many shards, so that a writer holds up few callers, and
//! none of them for longer than a small table takes to grow.

mod list;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use super::{Credential, Hash};
use crate::id::Id;
use list::Records;

/// A power of two. More of them hold up fewer callers, but each is memory that every call waits for
/// while a gateway has few keys.
const SHARDS: usize = 256;

/// Keys by hash and by id.
#[derive(Debug)]
pub(crate) struct Keys {
    shards: Box<[RwLock<Shard>]>,
    /// Locked by who writes.
    names: Mutex<Names>,
}

/// A key that is accepted.
#[derive(Debug)]
struct Record {
    hash: Hash,
    id: Id,
    consumer_id: Id,
    subscription_id: Id,
    /// 0: never.
    expires_at_ms: i64,
}

#[derive(Debug, Default)]
struct Shard {
    /// Places in the list, by the hash.
    by_hash: HashTable<u32>,
    records: Records,
}

/// Where the record of each id is.
#[derive(Debug, Default)]
struct Names {
    shards: Box<[HashTable<Name>]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    /// Of the id.
    hash: u64,
    /// The first part of the key's hash.
    key: u64,
}

impl Default for Keys {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        let names = Names {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            hasher: RandomState::new(),
        };
        Self { shards, names: Mutex::new(names) }
    }
}

/// The first part of a hash, by which tables find it.
fn start(hash: &Hash) -> u64 {
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}

/// Which shard: bits that a table of this size does not look at.
fn shard(start: u64) -> usize {
    (start >> 32) as usize % SHARDS
}

impl Keys {
    /// Adds or replaces a key. Removes a revoked one at once, so that it looks like an unknown one.
    pub(crate) fn put(&self, credential: Credential) {
        let Credential { id, consumer_id, subscription_id, hash, expires_at_ms } = credential;
        let Some(hash) = hash else { return self.remove_id(&id) };
        let expires_at_ms = expires_at_ms.unwrap_or(0);
        let record = Record { hash, id, consumer_id, subscription_id, expires_at_ms };
        let mut names = self.names();
        let name = Name { hash: names.hash(&record.id), key: start(&hash) };
        if let Some((before, of)) = self.place(&mut names, name.hash, &record.id)
            && of != hash
        {
            self.forget(&mut names, before, &record.id);
        }
        let taken = self.write(name.key).put(record);
        if let Some(other) = taken {
            // The same key under another id: the later one has it.
            let hash = names.hash(&other);
            names.remove(Name { hash, key: name.key });
        }
        names.put(name);
    }

    pub(crate) fn remove(&self, id: &str) {
        self.remove_id(&id.into());
    }

    fn remove_id(&self, id: &Id) {
        let mut names = self.names();
        let hash = names.hash(id);
        if let Some((name, _)) = self.place(&mut names, hash, id) {
            self.forget(&mut names, name, id);
        }
    }

    /// Removes those that are not among these.
    pub(crate) fn retain(&self, mut stays: impl FnMut(&str) -> bool) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let goes = |record: &&Record| !stays(record.id.text().as_str());
            let gone: Vec<Id> = shard.records.iter().filter(goes).map(|it| it.id.clone()).collect();
            drop(shard);
            gone.iter().for_each(|id| self.remove_id(id));
        }
    }

    /// The consumer, the subscription and the end of a key.
    pub(super) fn of_hash(&self, hash: &Hash) -> Option<(Id, Id, Option<i64>)> {
        let shard = self.read(start(hash));
        let record = shard.find(start(hash), |record| record.hash == *hash)?;
        let expires = Some(record.expires_at_ms).filter(|at| *at != 0);
        Some((record.consumer_id.clone(), record.subscription_id.clone(), expires))
    }

    /// The place of an id, and the hash of its key.
    fn place(&self, names: &mut Names, hash: u64, id: &Id) -> Option<(Name, Hash)> {
        let of = |name: &Name| {
            let shard = self.read(name.key);
            shard.find(name.key, |it| it.id == *id).map(|record| record.hash)
        };
        let is = |name: &Name| name.hash == hash && of(name).is_some();
        let name = names.shard(hash)?.find(hash, is).copied()?;
        Some((name, of(&name)?))
    }

    fn forget(&self, names: &mut Names, name: Name, id: &Id) {
        self.write(name.key).remove(name.key, id);
        names.remove(name);
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::indexing_slicing, reason = "`shard` is less than `SHARDS`")]
    fn read(&self, key: u64) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard(key)].read().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::indexing_slicing, reason = "`shard` is less than `SHARDS`")]
    fn write(&self, key: u64) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard(key)].write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn find(&self, start: u64, is: impl Fn(&Record) -> bool) -> Option<&Record> {
        let place = self.place(start, is)?;
        self.records.get(place)
    }

    fn place(&self, start: u64, is: impl Fn(&Record) -> bool) -> Option<usize> {
        let is = |place: &u32| self.records.get(*place as usize).is_some_and(&is);
        self.by_hash.find(start, is).map(|place| *place as usize)
    }

    /// The id of a credential that had the same key, if it is another one.
    fn put(&mut self, record: Record) -> Option<Id> {
        let start_of = start(&record.hash);
        if let Some(place) = self.place(start_of, |held| held.hash == record.hash) {
            let slot = self.records.get_mut(place)?;
            let before = std::mem::replace(slot, record);
            return Some(before.id).filter(|id| *id != slot.id);
        }
        // A shard has far fewer.
        let place = u32::try_from(self.records.len()).ok()?;
        self.records.push(record);
        let records = &self.records;
        let rehash = |place: &u32| records.get(*place as usize).map_or(0, |it| start(&it.hash));
        self.by_hash.insert_unique(start_of, place, rehash);
        None
    }

    fn remove(&mut self, key: u64, id: &Id) {
        let Some(place) = self.place(key, |it| it.id == *id) else { return };
        self.unlink(key, place);
        self.records.swap_remove(place);
        // The last one has taken its place.
        let last = self.records.len();
        if let (Some(moved), Ok(place)) = (self.records.get(place), u32::try_from(place)) {
            let start = start(&moved.hash);
            if let Some(slot) = self.by_hash.find_mut(start, |it| *it as usize == last) {
                *slot = place;
            }
        }
        if self.by_hash.len() < self.by_hash.capacity() / 8 {
            let records = &self.records;
            let rehash = |place: &u32| records.get(*place as usize).map_or(0, |it| start(&it.hash));
            self.by_hash.shrink_to_fit(rehash);
        }
    }

    fn unlink(&mut self, key: u64, place: usize) {
        if let Ok(entry) = self.by_hash.find_entry(key, |it| *it as usize == place) {
            entry.remove();
        }
    }
}

impl Names {
    fn hash(&self, id: &Id) -> u64 {
        self.hasher.hash_one(id)
    }

    fn shard(&mut self, hash: u64) -> Option<&mut HashTable<Name>> {
        self.shards.get_mut(shard(hash))
    }

    fn put(&mut self, name: Name) {
        let Some(shard) = self.shard(name.hash) else { return };
        if shard.find(name.hash, |it| it.hash == name.hash && it.key == name.key).is_none() {
            shard.insert_unique(name.hash, name, |it| it.hash);
        }
    }

    fn remove(&mut self, name: Name) {
        let Some(shard) = self.shard(name.hash) else { return };
        let is = |it: &Name| it.hash == name.hash && it.key == name.key;
        if let Ok(entry) = shard.find_entry(name.hash, is) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn credential(id: u8, key: u8, active: bool) -> Credential {
        // Keys that one table and one bucket of it have.
        let mut hash = [0; 32];
        hash[31] = key;
        Credential {
            id: Id::from(format!("id-{id}").as_str()),
            consumer_id: Id::from(format!("{id}").as_str()),
            subscription_id: "sub".into(),
            hash: active.then_some(hash),
            expires_at_ms: None,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8, bool),
        Remove(u8),
        Retain(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (id, key) = (0..12u8, 0..12u8);
        prop_oneof![
            6 => (id.clone(), key, prop::bool::weighted(0.9)).prop_map(|(id, key, on)| Step::Put(id, key, on)),
            3 => id.clone().prop_map(Step::Remove),
            1 => id.prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn the_table_is_a_map_from_keys_to_ids(steps in prop::collection::vec(step(), 1..200)) {
            let keys = Keys::default();
            // The id of each key.
            let mut model: HashMap<u8, u8> = HashMap::new();
            for step in steps {
                match step {
                    Step::Put(id, key, active) => {
                        keys.put(credential(id, key, active));
                        model.retain(|_, of| *of != id);
                        if active {
                            model.insert(key, id);
                        }
                    }
                    Step::Remove(id) => {
                        keys.remove(&format!("id-{id}"));
                        model.retain(|_, of| *of != id);
                    }
                    Step::Retain(most) => {
                        keys.retain(|id| id.trim_start_matches("id-").parse::<u8>().unwrap() <= most);
                        model.retain(|_, of| *of <= most);
                    }
                }
                for key in 0..12 {
                    let found = keys.of_hash(&credential(0, key, true).hash.unwrap());
                    let found = found.map(|(consumer, ..)| consumer.text().as_str().to_owned());
                    prop_assert_eq!(found, model.get(&key).map(|id| id.to_string()));
                }
                let names: usize = keys.names().shards.iter().map(|it| it.len()).sum();
                prop_assert_eq!(names, model.len());
            }
        }
    }
}
