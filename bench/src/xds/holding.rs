//! A client's resources, and its rejections.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::mark;

/// A resource, as a client has it.
#[derive(Clone, Debug)]
struct Held {
    generation: u64,
    version: Arc<str>,
}

/// The resources of a client, by index. Copies share the versions.
#[derive(Clone, Debug)]
pub(super) struct Holding(Vec<Option<Held>>);

/// How a received resource relates to the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The client had none.
    First,
    /// The client had an older one.
    Newer,
    /// The client had this one or a newer one.
    Again,
    /// The resource set has no such resource.
    Unknown,
}

impl Holding {
    /// An empty state for this many resources.
    pub(super) fn nothing(resources: usize) -> Self {
        Self(vec![None; resources])
    }

    /// The number of resources.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().flatten().count() as u64
    }

    /// Takes a received resource.
    pub(super) fn take(&mut self, name: &str, version: String, generation: u64) -> Taken {
        let Some(slot) = mark::index(name).and_then(|index| self.0.get_mut(index)) else {
            return Taken::Unknown;
        };
        match slot.replace(Held { generation, version: version.into() }) {
            None => Taken::First,
            Some(before) if before.generation < generation => Taken::Newer,
            Some(_) => Taken::Again,
        }
    }

    /// The versions that a client sends when it reconnects.
    pub(super) fn versions(&self) -> HashMap<String, String> {
        let named = |(index, held): (usize, &Option<Held>)| {
            held.as_ref().map(|held| (mark::name(index), held.version.to_string()))
        };
        self.0.iter().enumerate().filter_map(named).collect()
    }

    /// The number of resources that are wrong at this generation.
    pub(super) fn wrong(&self, generation: u64) -> u64 {
        let resources = self.0.len() as u64;
        let expected = |index: usize| {
            let behind = (generation + resources - 1 - index as u64) / resources;
            behind.checked_sub(1).map_or(0, |laps| laps * resources + index as u64 + 1)
        };
        let held = |held: &Option<Held>| held.as_ref().map(|held| held.generation);
        let wrong = |(index, slot): &(usize, &Option<Held>)| held(slot) != Some(expected(*index));
        self.0.iter().enumerate().filter(wrong).count() as u64
    }
}

/// A name and a version.
pub(super) type Version = (String, String);

/// The rejections of a client, and what was sent again nevertheless.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    versions: HashSet<Version>,
    sets: HashSet<BTreeSet<Version>>,
    /// Responses with anything that was rejected before.
    pub(super) repeats: u64,
    /// Responses with exactly the content of an earlier one.
    pub(super) same_sets: u64,
}

impl Refused {
    /// Records a rejected response. An empty one cannot be rejected.
    pub(super) fn add(&mut self, set: BTreeSet<Version>) {
        if set.is_empty() {
            return;
        }
        let before = self.versions.len();
        self.versions.extend(set.iter().cloned());
        self.repeats += u64::from(self.versions.len() - before < set.len());
        self.same_sets += u64::from(!self.sets.insert(set));
    }

    /// The number of names with their versions.
    pub(super) fn versions(&self) -> u64 {
        self.versions.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_old_is_wrong() {
        let mut holding = Holding::nothing(3);
        let mut take =
            |index, generation| holding.take(&mark::name(index), String::new(), generation);
        assert_eq!([take(0, 0), take(1, 2), take(2, 0)], [Taken::First; 3]);
        assert_eq!((take(0, 4), take(0, 4)), (Taken::Newer, Taken::Again));
        assert_eq!(take(3, 9), Taken::Unknown);
        assert_eq!((holding.wrong(4), holding.wrong(2), holding.wrong(5)), (1, 1, 2));
        assert_eq!(Holding::nothing(3).wrong(0), 3);
    }

    #[test]
    fn a_smaller_group_is_a_repeat_and_not_the_same_set() {
        let mut refused = Refused::default();
        let set = |names: &[&str]| names.iter().map(|&n| (n.to_owned(), "1".to_owned())).collect();
        for names in [&["a", "b"][..], &["a"], &["b"], &["b"], &[], &["c"]] {
            refused.add(set(names));
        }
        assert_eq!((refused.repeats, refused.same_sets, refused.versions()), (3, 1, 3));
    }
}
