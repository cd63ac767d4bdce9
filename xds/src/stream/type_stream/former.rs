//! What a client holds under other names, from a server that named its resources differently.

use std::collections::HashSet;
use std::sync::Arc;

use super::TypeStream;
use crate::Resource;
use crate::resource_set::View;

impl TypeStream {
    /// Takes the removals of what the client holds these under.
    pub(super) fn take_replaced(&mut self, upserts: &[(Resource, u32)]) -> Vec<Arc<str>> {
        let Some(replaces) = self.rules.replaces else { return Vec::new() };
        if self.removals.is_empty() && self.former.is_empty() {
            return Vec::new();
        }
        let former = upserts.iter().filter_map(|(resource, _)| replaces(resource));
        former.filter_map(|name| self.take_removal(&name)).collect()
    }

    fn take_removal(&mut self, name: &str) -> Option<Arc<str>> {
        let removed = self.removals.remove_entry(name).map(|(name, _)| name);
        self.former.take(name).or(removed)
    }

    /// Keeps removals back whose successors cannot be sent: they wait for a required resource, or the
    /// client rejected them. It would serve neither.
    pub(super) fn keep_former(&mut self, view: &View<'_>) {
        let Some(replaces) = self.rules.replaces else { return };
        if self.removals.is_empty() && self.former.is_empty() {
            return;
        }
        let later = self.waiting.names().chain(self.refused.keys());
        let later = later.filter_map(|name| replaces(view.get(&self.rules.type_url, name)?));
        let later: HashSet<String> = later.collect();
        let free = self.former.extract_if(|name| !later.contains(&**name));
        self.removals.extend(free.map(|name| (name, None)));
        let kept = self.removals.extract_if(.., |name, _| later.contains(&**name));
        self.former.extend(kept.map(|(name, _)| name));
    }
}
