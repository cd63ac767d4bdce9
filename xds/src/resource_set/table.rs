//! One type of a resource set.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Revision;
use crate::Resource;

/// The resources of one type, and a log with one place per name, the revision it last changed at.
/// Reading the log from r on costs what changed since r, whatever the total.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<str>, Entry>,
    /// From alias to name, of what is there.
    aliases: HashMap<Arc<str>, Arc<str>>,
    log: BTreeSet<(Revision, Arc<str>)>,
    /// The removed ones of the log.
    graves: BTreeSet<(Revision, Arc<str>)>,
    /// The sum over what is there, each a hash of name and version.
    content: u64,
}

#[derive(Debug)]
struct Entry {
    changed_at: Revision,
    resource: Resource,
    /// Remembered so that streams learn of it.
    removed: bool,
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Resource> {
        self.entries.get(name).filter(|entry| !entry.removed).map(|entry| &entry.resource)
    }

    pub(super) fn removed(&self, name: &str) -> Option<&Resource> {
        self.entries.get(name).filter(|entry| entry.removed).map(|entry| &entry.resource)
    }

    /// The name behind an alias.
    pub(super) fn alias(&self, alias: &str) -> Option<&Arc<str>> {
        self.aliases.get(alias)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Resource> {
        self.entries.values().filter(|entry| !entry.removed).map(|entry| &entry.resource)
    }

    pub(super) fn since(&self, since: Revision) -> impl Iterator<Item = &Arc<str>> {
        self.log.range((since + 1, Arc::from(""))..).map(|(_, name)| name)
    }

    pub(super) fn upsert(&mut self, resource: Resource, at: Revision) -> bool {
        if self.get(resource.name()).is_some_and(|now| now.version() == resource.version()) {
            return false;
        }
        self.put(resource, at, false);
        true
    }

    pub(super) fn remove(&mut self, name: &str, at: Revision) -> bool {
        let Some(resource) = self.get(name).cloned() else { return false };
        self.put(resource, at, true);
        true
    }

    fn put(&mut self, resource: Resource, at: Revision, removed: bool) {
        let name = resource.name().clone();
        let aliases: Vec<_> = resource.aliases().to_vec();
        if !removed {
            self.content = self.content.wrapping_add(mark(&resource));
        }
        let entry = Entry { changed_at: at, resource, removed };
        if let Some(old) = self.entries.insert(name.clone(), entry) {
            if !old.removed {
                self.content = self.content.wrapping_sub(mark(&old.resource));
            }
            for alias in old.resource.aliases() {
                if self.aliases.get(alias) == Some(&name) {
                    self.aliases.remove(alias);
                }
            }
            let place = (old.changed_at, name.clone());
            self.log.remove(&place);
            self.graves.remove(&place);
        }
        if removed {
            self.graves.insert((at, name.clone()));
        } else {
            self.aliases.extend(aliases.into_iter().map(|alias| (alias, name.clone())));
        }
        self.log.insert((at, name));
    }

    /// Equal for equal content, whatever became of it in which order: after a restart and on another
    /// replica too. What it costs does not depend on how much there is.
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
