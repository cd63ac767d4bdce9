//! One type of a resource set.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Revision;
use crate::Resource;

/// The resources of one type, and a log with one entry per name at the revision of its last change.
/// Reading the log from r on costs what changed since r, whatever the total.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<str>, Entry>,
    /// From alias to name, of existing resources.
    aliases: HashMap<Arc<str>, Arc<str>>,
    log: BTreeSet<(Revision, Arc<str>)>,
    /// The removed resources in the log.
    graves: BTreeSet<(Revision, Arc<str>)>,
    /// The sum over the existing resources of a hash of name and version.
    content: u64,
}

#[derive(Debug)]
struct Entry {
    changed_at: Revision,
    state: State,
}

#[derive(Debug)]
enum State {
    There(Resource),
    /// It exists, with unknown content.
    Retained,
    /// Kept with its last content, so that streams learn of the removal.
    Removed(Option<Resource>),
}

impl State {
    fn resource(&self) -> Option<&Resource> {
        match self {
            Self::There(resource) => Some(resource),
            Self::Retained | Self::Removed(_) => None,
        }
    }
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Resource> {
        self.entries.get(name)?.state.resource()
    }

    pub(super) fn removed(&self, name: &str) -> Option<&Resource> {
        match &self.entries.get(name)?.state {
            State::Removed(last) => last.as_ref(),
            State::There(_) | State::Retained => None,
        }
    }

    pub(super) fn is_retained(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| matches!(entry.state, State::Retained))
    }

    pub(super) fn retained(&self) -> impl Iterator<Item = &Arc<str>> {
        let retained = |entry: &Entry| matches!(entry.state, State::Retained);
        self.entries.iter().filter(move |(_, entry)| retained(entry)).map(|(name, _)| name)
    }

    /// The name of an alias.
    pub(super) fn alias(&self, alias: &str) -> Option<&Arc<str>> {
        self.aliases.get(alias)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Resource> {
        self.entries.values().filter_map(|entry| entry.state.resource())
    }

    pub(super) fn since(&self, since: Revision) -> impl Iterator<Item = &Arc<str>> {
        self.log.range((since + 1, Arc::from(""))..).map(|(_, name)| name)
    }

    pub(super) fn upsert(&mut self, resource: Resource, at: Revision) -> bool {
        if self.get(resource.name()).is_some_and(|now| now.version() == resource.version()) {
            return false;
        }
        self.put(resource.name().clone(), State::There(resource), at);
        true
    }

    /// Does not change an existing resource.
    pub(super) fn retain(&mut self, name: &Arc<str>, at: Revision) -> bool {
        if self.get(name).is_some() || self.is_retained(name) {
            return false;
        }
        self.put(name.clone(), State::Retained, at);
        true
    }

    pub(super) fn remove(&mut self, name: &str, at: Revision) -> bool {
        let last = match self.entries.get_key_value(name) {
            Some((name, Entry { state: State::There(last), .. })) => {
                (name.clone(), Some(last.clone()))
            }
            Some((name, Entry { state: State::Retained, .. })) => (name.clone(), None),
            Some((_, Entry { state: State::Removed(_), .. })) | None => return false,
        };
        self.put(last.0, State::Removed(last.1), at);
        true
    }

    fn put(&mut self, name: Arc<str>, state: State, at: Revision) {
        let (removed, new) = (matches!(state, State::Removed(_)), state.resource().cloned());
        let entry = Entry { changed_at: at, state };
        if let Some(old) = self.entries.insert(name.clone(), entry) {
            if let Some(old) = old.state.resource() {
                self.content = self.content.wrapping_sub(mark(old));
                for alias in old.aliases() {
                    if self.aliases.get(alias) == Some(&name) {
                        self.aliases.remove(alias);
                    }
                }
            }
            let place = (old.changed_at, name.clone());
            self.log.remove(&place);
            self.graves.remove(&place);
        }
        if let Some(new) = new {
            self.content = self.content.wrapping_add(mark(&new));
            let aliases = new.aliases().iter().cloned();
            self.aliases.extend(aliases.map(|alias| (alias, name.clone())));
        }
        if removed {
            self.graves.insert((at, name.clone()));
        }
        self.log.insert((at, name));
    }

    /// Equal for equal content, whatever the history: also after a restart and on another replica.
    /// Constant cost.
    pub(super) fn content(&self) -> u64 {
        self.content
    }

    pub(super) fn remembers_removals(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Forgets removals that every stream has seen.
    pub(super) fn forget_removed(&mut self, seen: Revision) {
        while let Some(place) = self.graves.first().filter(|(at, _)| *at <= seen).cloned() {
            self.graves.remove(&place);
            self.entries.remove(&place.1);
            self.log.remove(&place);
        }
    }
}

/// FNV-1a: the same in every release, which the standard library's hashers do not promise.
fn mark(resource: &Resource) -> u64 {
    let text = resource.name().bytes().chain([0]).chain(resource.version().bytes());
    text.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
