//! Finds the wrong resource of a rejected batch. A client rejects a response as a whole, so its
//! members are sent again in smaller groups until each is acknowledged or rejected alone (R34).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Members of rejected batches, each in a group or in flight.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    groups: VecDeque<BTreeSet<Arc<str>>>,
    /// How often each was part of a rejected batch.
    attempts: HashMap<Arc<str>, u32>,
}

impl Suspects {
    /// Records a rejected batch with its error message. Members that the message names are tried
    /// alone, the others together; if it names none, each half separately.
    pub(super) fn accuse(&mut self, names: Vec<Arc<str>>, words: &str) {
        for name in &names {
            *self.attempts.entry(name.clone()).or_default() += 1;
        }
        let words = Words::of(words);
        let (named, mut others): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| words.name(name));
        if named.is_empty() {
            let half = others.split_off(others.len() / 2);
            self.groups.push_front(half.into_iter().collect());
        }
        self.groups.extend(named.into_iter().map(|name| BTreeSet::from([name])));
        self.groups.push_front(others.into_iter().collect());
        self.groups.retain(|group| !group.is_empty());
    }

    /// How often this one was part of a rejected batch.
    pub(super) fn attempt(&self, name: &str) -> u32 {
        self.attempts.get(name).copied().unwrap_or(0)
    }

    /// The next group to try.
    pub(super) fn next(&mut self) -> Option<BTreeSet<Arc<str>>> {
        self.groups.pop_front()
    }

    /// Removes it from the groups, because it is sent in another way.
    pub(super) fn release(&mut self, name: &str) {
        if self.attempts.contains_key(name) {
            for group in &mut self.groups {
                group.remove(name);
            }
            self.groups.retain(|group| !group.is_empty());
        }
    }

    /// Removes it: acknowledged, rejected alone, changed, or no longer subscribed.
    pub(super) fn clear(&mut self, name: &str) {
        if !self.attempts.is_empty() {
            self.release(name);
            self.attempts.remove(name);
        }
    }

    /// Removes all of them.
    pub(super) fn clear_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.groups.iter_mut().for_each(|group| group.retain(|name| wanted(name)));
        self.groups.retain(|group| !group.is_empty());
        self.attempts.retain(|name, _| wanted(name));
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(BTreeSet::len).sum()
    }
}

/// A client's error message, split where names end in messages of Envoy and gRPC.
struct Words<'a>(BTreeSet<&'a str>);

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let bare = |word: &'a str| word.trim_matches(|c: char| "'\"`:,;.()[]".contains(c));
        // A name may have its content's hash behind it: `name#hash`.
        let cut = |word: &'a str| [word, word.split('#').next().unwrap_or(word)];
        let words = text.split_whitespace().map(bare).flat_map(cut);
        Self(words.filter(|word| !word.is_empty()).collect())
    }

    fn name(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<Arc<str>> {
        list.iter().map(|&name| Arc::from(name)).collect()
    }

    fn groups(suspects: &mut Suspects) -> Vec<Vec<Arc<str>>> {
        std::iter::from_fn(|| suspects.next()).map(|group| group.into_iter().collect()).collect()
    }

    #[test]
    fn r34_a_batch_is_halved_when_nobody_is_named() {
        let mut suspects = Suspects::default();
        suspects.accuse(names(&["a", "b", "c"]), "bad");
        assert_eq!(groups(&mut suspects), [names(&["a"]), names(&["b", "c"])]);
    }

    #[test]
    fn r34_whom_the_words_name_is_tried_alone_and_last() {
        let mut suspects = Suspects::default();
        let words = "Error adding/updating cluster(s) b: unknown type, d: too long";
        suspects.accuse(names(&["a", "b", "c", "d"]), words);
        assert_eq!(groups(&mut suspects), [names(&["a", "c"]), names(&["b"]), names(&["d"])]);
        assert_eq!(suspects.attempt("a"), 1);
    }

    #[test]
    fn r34_a_hash_behind_the_name_is_no_part_of_it() {
        let mut suspects = Suspects::default();
        let words = "unknown cluster 'x' in route g/host#12ab";
        suspects.accuse(names(&["g/host", "g/other", "x"]), words);
        assert_eq!(groups(&mut suspects), [names(&["g/other"]), names(&["g/host"]), names(&["x"])]);
    }

    #[test]
    fn who_changed_is_no_suspect() {
        let mut suspects = Suspects::default();
        suspects.accuse(names(&["a", "b"]), "");
        suspects.clear("a");
        assert_eq!((suspects.attempt("a"), suspects.len()), (0, 1));
        assert_eq!(groups(&mut suspects), [names(&["b"])]);
    }
}
